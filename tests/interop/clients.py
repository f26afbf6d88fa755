"""The client programs that are put before a real gateway: how each is installed and asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import NODE
from tests.interop.environments import Environment, Places

SCRIPTS = Path(__file__).parent / "clients"
PROMPT = "Who carries the tasks?"
LONG_PROMPT = "Tell me a long story about a conveyor belt."
#: The cases that every script can be asked for; `long` is the stream of two columns.
CASES = ("list", "plain", "stream", "tools", "error", "cancel", "long")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One run of a client."""

    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    #: What its output says: the client's own words, or what its script saw.
    read: Callable[[str], dict[str, Any]] = lambda said: {"text": said.strip()}
    #: Whether it closes its stream by itself in the case `cancel`, and then waits for more input.
    waits: bool = False


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Place of one run: its gateway, its model, and its own empty folder."""

    places: Places
    folder: Path
    base_url: str
    model: str

    @property
    def root_url(self) -> str:
        """Return the gateway's address without `/v1`."""
        return self.base_url.removesuffix("/v1")

    def write(self, name: str, content: Any) -> Path:
        """Write a file of the client's, as it is or as JSON."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path


#: How a case is asked of a client; None where the client has no such thing.
Ask = Callable[[Desk, str], Call | None]


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client program or library."""

    name: str
    environment: Environment
    ask: Ask
    #: The API of the gateway that it speaks.
    api: str = "Chat Completions"
    #: Whether it is asked with a real model where no tool is wanted. Agents are not: their
    #: instructions are longer than the small model's context.
    real: bool = True


def _scripted(environment: Environment, script: str, cases: str, **more: str) -> Ask:
    """Ask by one of the scripts in `clients/`."""

    def ask(desk: Desk, case: str) -> Call | None:
        if case not in cases.split():
            return None
        folder = desk.places.of(environment)
        if environment.node:
            # What a module imports is looked for beside it, wherever it is run.
            for name in ("asking.mjs", script):
                shutil.copy(SCRIPTS / name, folder / name)
            command = [str(NODE), str(folder / script), case]
        else:
            command = [str(folder / "bin/python"), str(SCRIPTS / script), case]
        where = {"INTEROP_BASE_URL": desk.base_url, "INTEROP_MODEL": desk.model}
        return Call(command=command, environ={**where, **more}, read=_last_line, waits=True)

    return ask


def _last_line(said: str) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(said.rstrip("\n").rpartition("\n")[2])
    return seen


ALL = "list plain stream tools error cancel long"
NO_LIST = "plain stream tools error cancel long"

OPENAI = Environment(name="openai-python", packages=["openai==3.57.0"])
ANTHROPIC = Environment(name="anthropic-python", packages=["anthropic==2.14.0"])
LANGCHAIN = Environment(name="langchain", packages=["langchain-openai==1.7.4"])
PYDANTIC = Environment(name="pydantic-ai", packages=["pydantic-ai-slim[openai]==2.68.0"])
AGENTS = Environment(name="openai-agents", packages=["openai-agents==0.24.0"])
LITELLM = Environment(name="litellm", packages=["litellm==1.110.2", "mcp<3"])
INSTRUCTOR = Environment(name="instructor", packages=["instructor==1.17.0"])
LLM = Environment(name="llm", packages=["llm==0.36"])
AIDER = Environment(name="aider", packages=["aider-chat==0.86.2"])
LM_EVAL = Environment(name="lm-eval", packages=["lm-eval[api]==0.4.13"])
GUIDELLM = Environment(
    name="guidellm",
    first=["torch==2.13.0"],
    packages=["guidellm==0.8.1", "torch==2.13.0"],
)
OPENAI_NODE = Environment(name="openai-node", packages=["openai@7.59.0"], node=True)
AI_SDK = Environment(
    name="ai-sdk",
    packages=[
        *("ai@7.0.173", "@ai-sdk/openai@4.0.118", "@ai-sdk/openai-compatible@3.0.92"),
        *("@ai-sdk/anthropic@4.0.105", "zod@4"),
    ],
    node=True,
)
AGENTS_NODE = Environment(
    name="openai-agents-js", packages=["@openai/agents@0.20.0", "openai@7", "zod@4"], node=True
)
CODEX = Environment(name="codex", packages=["@openai/codex@0.171.0"], node=True)
CLAUDE = Environment(name="claude-code", packages=["@anthropic-ai/claude-code@2.1.332"], node=True)
OPENCODE = Environment(name="opencode", packages=["opencode-ai@1.18.33"], node=True)


def _prompt(case: str) -> str | None:
    """Return what an agent is asked in a case; None where there is nothing to ask it."""
    known = {"plain": PROMPT, "stream": PROMPT, "tools": PROMPT, "error": PROMPT}
    return (known | {"cancel": LONG_PROMPT, "long": LONG_PROMPT}).get(case)


def _codex(desk: Desk, case: str) -> Call | None:
    prompt = _prompt(case)
    if prompt is None or case == "stream":
        return None
    desk.write(
        "codex/config.toml",
        f'model = "{desk.model}"\nmodel_provider = "inferline"\n'
        "[model_providers.inferline]\n"
        f'name = "InferLine"\nbase_url = "{desk.base_url}"\n'
        'env_key = "INFERLINE_API_KEY"\nwire_api = "responses"\n'
        "[analytics]\nenabled = false\n",
    )
    command = [desk.places.program(CODEX, "codex"), "exec", "--skip-git-repo-check"]
    command += ["--dangerously-bypass-approvals-and-sandbox", prompt]
    environ = {"CODEX_HOME": str(desk.folder / "codex"), "INFERLINE_API_KEY": "test"}
    return Call(command=command, environ=environ)


def _claude(desk: Desk, case: str) -> Call | None:
    prompt = _prompt(case)
    if prompt is None:
        return None
    command = [desk.places.program(CLAUDE, "claude"), "-p", prompt, "--model", desk.model]
    command += ["--allowedTools", "Bash"]
    if case == "stream":
        command += ["--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    environ = {
        "ANTHROPIC_BASE_URL": desk.root_url,
        "ANTHROPIC_API_KEY": "test",
        "ANTHROPIC_SMALL_FAST_MODEL": desk.model,
        "CLAUDE_CONFIG_DIR": str(desk.folder / "claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }
    return Call(command=command, environ=environ, read=_claude_says(case))


def _claude_says(case: str) -> Callable[[str], dict[str, Any]]:
    def plain(said: str) -> dict[str, Any]:
        return {"text": said.strip()}

    def streamed(said: str) -> dict[str, Any]:
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        deltas = [
            event["event"]["delta"].get("text", "")
            for event in events
            if event["type"] == "stream_event" and event["event"].get("delta")
        ]
        return {"text": "".join(deltas).strip(), "pieces": len(list(filter(None, deltas)))}

    return streamed if case == "stream" else plain


def _opencode(desk: Desk, case: str) -> Call | None:
    prompt = _prompt(case)
    if prompt is None or case == "stream":
        return None
    options = {"baseURL": desk.base_url, "apiKey": "test"}
    models = {desk.model: {"limit": {"context": 100000, "output": 4000}}}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": models}
    config = {
        "provider": {"inferline": provider},
        "permission": {"bash": "allow"},
        "autoupdate": False,
        "share": "disabled",
    }
    where = str(desk.write("opencode.json", config))
    model = f"inferline/{desk.model}"
    command = [desk.places.program(OPENCODE, "opencode"), "run", "--model", model, prompt]
    environ = {"OPENCODE_CONFIG": where, "OPENCODE_DISABLE_AUTOUPDATE": "1"}
    environ |= {"OPENCODE_DISABLE_MODELS_FETCH": "1", "HOME": str(desk.folder)}
    return Call(command=command, environ=environ)


def _llm(desk: Desk, case: str) -> Call | None:
    prompt = _prompt(case)
    if prompt is None:
        return None
    desk.write(
        "llm/extra-openai-models.yaml",
        f"- model_id: m\n  model_name: {desk.model}\n  api_base: {desk.base_url}\n"
        "  api_key_name: test\n  supports_tools: true\n",
    )
    limit = "1000" if prompt == LONG_PROMPT else "24"
    command = [desk.places.program(LLM, "llm"), "-m", "m", "--key", "test", "--no-log", prompt]
    command += ["-o", "temperature", "0", "-o", "max_tokens", limit]
    if case in ("plain", "tools"):
        command.append("--no-stream")
    if case == "tools":
        command += ["--functions", "def get_weather(city: str):\n    return 'interop-42'\n"]
    return Call(command=command, environ={"LLM_USER_PATH": str(desk.folder / "llm")})


def _aider(desk: Desk, case: str) -> Call | None:
    prompt = _prompt(case)
    if prompt is None or case == "tools":
        return None
    command = [desk.places.program(AIDER, "aider"), "--model", f"openai/{desk.model}"]
    command += ["--openai-api-base", desk.base_url, "--openai-api-key", "test", "--no-git"]
    command += ["--yes-always", "--no-check-update", "--analytics-disable", "--no-pretty"]
    command += ["--no-show-model-warnings", "--map-tokens", "0", "--chat-mode", "ask"]
    command += ["--no-show-release-notes", "--message", prompt]
    command.append("--no-stream" if case == "plain" else "--stream")
    return Call(command=command, environ={"HOME": str(desk.folder)}, read=_aider_says)


def _aider_says(said: str) -> dict[str, Any]:
    """Return the answer alone: without its greeting and its account of tokens."""
    lines = said.split("\n\n", 1)[-1].splitlines()
    kept = [line for line in lines if not line.startswith(("Tokens:", "Warning", "https:"))]
    return {"text": "\n".join(kept).strip()}


def _lm_eval(desk: Desk, case: str) -> Call | None:
    if case not in ("plain", "error"):
        return None
    docs = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in (1, 2, 3)]
    data = desk.write("docs.jsonl", "\n".join(map(json.dumps, docs)))
    desk.write(
        "tasks/sums.yaml",
        f"task: sums\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {data}}}\n"
        "test_split: test\noutput_type: generate_until\n"
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\n'
        "generation_kwargs: {until: [], max_gen_toks: 16}\n"
        "metric_list: [{metric: exact_match}]\n",
    )
    where = f"base_url={desk.base_url}/chat/completions,model={desk.model},max_retries=1"
    command = [desk.places.program(LM_EVAL, "lm_eval"), "--model", "local-chat-completions"]
    command += ["--model_args", f"{where},num_concurrent=2,tokenized_requests=False"]
    command += ["--tasks", "sums", "--include_path", str(desk.folder / "tasks")]
    command += ["--apply_chat_template"]
    environ = {"HF_HOME": str(desk.folder / "hf"), "HF_DATASETS_OFFLINE": "1"}
    return Call(command=command, environ=environ | {"OPENAI_API_KEY": "test"})


def _guidellm(desk: Desk, case: str) -> Call | None:
    if case not in ("stream", "error"):
        return None
    backend = f"kind=openai_http,target={desk.root_url},model={desk.model}"
    command = [desk.places.program(GUIDELLM, "guidellm"), "run", "--disable-console-interactive"]
    command += ["--backend", backend, "--profile", "kind=synchronous"]
    command += ["--constraint", "kind=max_requests,count=3"]
    command += ["--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=12"]
    command += ["--tokenizer", f"kind=hf_auto,model={desk.places.top / 'models/smol'}"]
    command += ["--output", f"kind=json,path={desk.folder / 'report.json'}"]
    return Call(command=command, read=_guidellm_says)


def _guidellm_says(said: str) -> dict[str, Any]:
    return {"text": said if "Benchmarking complete" in said else ""}


CLIENTS = (
    Client(
        name="openai-python",
        environment=OPENAI,
        ask=_scripted(OPENAI, "openai_python.py", ALL),
    ),
    Client(
        name="openai-python",
        environment=OPENAI,
        api="Responses",
        ask=_scripted(OPENAI, "openai_responses.py", NO_LIST),
    ),
    Client(
        name="openai-node",
        environment=OPENAI_NODE,
        ask=_scripted(OPENAI_NODE, "openai_node.mjs", ALL),
    ),
    Client(
        name="anthropic-python",
        environment=ANTHROPIC,
        api="Messages",
        ask=_scripted(ANTHROPIC, "anthropic_python.py", ALL),
    ),
    Client(
        name="AI SDK, openai-compatible",
        environment=AI_SDK,
        ask=_scripted(AI_SDK, "ai_sdk.mjs", NO_LIST, INTEROP_API="compatible"),
    ),
    Client(
        name="AI SDK, openai",
        environment=AI_SDK,
        api="Responses",
        ask=_scripted(AI_SDK, "ai_sdk.mjs", NO_LIST, INTEROP_API="openai"),
    ),
    Client(
        name="AI SDK, anthropic",
        environment=AI_SDK,
        api="Messages",
        ask=_scripted(AI_SDK, "ai_sdk.mjs", NO_LIST, INTEROP_API="anthropic"),
    ),
    Client(
        name="LangChain",
        environment=LANGCHAIN,
        ask=_scripted(LANGCHAIN, "langchain_chat.py", NO_LIST),
    ),
    Client(
        name="pydantic-ai",
        environment=PYDANTIC,
        ask=_scripted(PYDANTIC, "pydantic_agent.py", NO_LIST),
    ),
    Client(
        name="openai-agents",
        environment=AGENTS,
        api="Responses",
        ask=_scripted(AGENTS, "agents_python.py", NO_LIST),
    ),
    Client(
        name="openai-agents for JavaScript",
        environment=AGENTS_NODE,
        api="Responses",
        ask=_scripted(AGENTS_NODE, "agents_node.mjs", NO_LIST),
    ),
    Client(
        name="LiteLLM SDK",
        environment=LITELLM,
        ask=_scripted(LITELLM, "litellm_sdk.py", NO_LIST),
    ),
    Client(
        name="instructor",
        environment=INSTRUCTOR,
        ask=_scripted(INSTRUCTOR, "instructor_sdk.py", "tools error"),
    ),
    Client(name="llm", environment=LLM, ask=_llm),
    Client(name="aider", environment=AIDER, ask=_aider),
    Client(name="lm-eval", environment=LM_EVAL, ask=_lm_eval),
    Client(name="guidellm", environment=GUIDELLM, ask=_guidellm),
    Client(name="Codex", environment=CODEX, api="Responses", ask=_codex, real=False),
    Client(name="Claude Code", environment=CLAUDE, api="Messages", ask=_claude, real=False),
    Client(name="opencode", environment=OPENCODE, ask=_opencode, real=False),
)
