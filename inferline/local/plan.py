"""The plan of the one-machine mode: its parts, how each is started, and what each needs."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from inferline.http.origin import place
from inferline.http.proxies import Proxies
from inferline.local import web
from inferline.local.failures import PartMissing
from inferline.local.llm import context, model
from inferline.local.options import PREFIX, LocalOptions
from inferline.local.processes.part import Part

#: Slots of the built-in LLM by default.
SLOTS = 4
#: How long the provider may finish answers once asked to end, and then hand back what is left.
DRAIN_SECONDS = 10
HAND_BACK_SECONDS = 6
#: How long one look of the provider at an empty queue waits. It ends only between two looks, and
#: here they cost nothing.
POLL_SECONDS = 1

#: Said to each part by a flag; a variable left over in the shell must not contradict it.
_SAID_BY_FLAG = ("INFERLINE_BASE_URL", "OPENAI_BASE_URL", "PROVIDER_ID", "SLOTS")


def environment(options: LocalOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every part."""
    env = emulated(environ, options.emulator_url)
    if options.built_in:
        env.pop("OPENAI_API_KEY", None)
    return env


def emulated(environ: Mapping[str, str], emulator_url: str) -> dict[str, str]:
    """
    Return the user's environment with the emulator as AWS.

    All of the user's AWS variables go: none of their profiles, sessions or endpoints may be used by
    mistake, and no emulator may see their keys.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", PREFIX)) and name not in _SAID_BY_FLAG
    }
    exempt = ",".join(filter(None, [Proxies.from_env(environ).exempt, "127.0.0.1,localhost"]))
    return kept | {
        "AWS_ENDPOINT_URL": emulator_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Both spellings: programs differ in which one goes first.
        "NO_PROXY": exempt,
        "no_proxy": exempt,
        "PYTHONUNBUFFERED": "1",
    }


def parts(options: LocalOptions, environ: Mapping[str, str]) -> list[Part]:
    """Return the parts in the order in which they start."""
    env = environment(options, environ)
    parts: list[Part] = []
    if options.built_in and options.model is None and model.find(environ) is None:
        parts.append(_model(env))
    # Alone, so that nothing else writes on the terminal while it shows how far it is.
    first = tuple(part.name for part in parts)
    parts.append(_emulator(options, env, after=first))
    if options.built_in:
        parts.append(_llm(options, env, after=first))
    parts.append(_gateway(options, env))
    if not options.no_llm:
        parts.append(_provider(options, env))
    return parts


def alias(options: LocalOptions) -> str:
    """Return the name under which the built-in LLM lists its model."""
    return options.model.stem if options.model else model.ALIAS


def _python(module: str, *arguments: object) -> tuple[str, ...]:
    # -P: a file in the folder where the user happens to be must not stand in for a module.
    return (sys.executable, "-P", "-m", module, *map(str, arguments))


def _emulator(options: LocalOptions, env: Mapping[str, str], after: tuple[str, ...]) -> Part:
    health = f"{options.emulator_url}/_ministack/health"
    return Part(
        name="emulator",
        what=f"AWS emulator (MiniStack) on {options.emulator_url}",
        argv=_python("inferline.local.emulator", "--port", options.emulator_port),
        env=env,
        after=after,
        ready=lambda: web.ask(health),
    )


def _model(env: Mapping[str, str]) -> Part:
    return Part(
        name="model",
        what=f"{model.ALIAS}, fetched this first time only",
        argv=_python("inferline.local.llm.model", "--quiet"),
        env=env,
        uses_terminal=True,
    )


def _llm(options: LocalOptions, env: Mapping[str, str], after: tuple[str, ...]) -> Part:
    slots = options.slots or SLOTS
    file = options.model or model.cache_dir(env) / model.FILE
    shape = context.shape_of(options.model) if options.model else model.SHAPE
    tokens = context.chosen(shape, slots, options.context, context.memory_bytes())
    arguments = ["--model", file, "--alias", alias(options), "--port", options.llm_port]
    arguments += ["--slots", slots, "--context", tokens, "--threads", options.threads]
    room = context.described(shape, slots, tokens)
    return Part(
        name="llm",
        what=f"{alias(options)}, {room}, on {options.backend_url}",
        argv=_python("inferline.local.llm", *arguments),
        env=env,
        after=after,
        ready=lambda: web.ask(f"{options.backend_url}/health"),
        patience_seconds=180.0,
        drain_seconds=2.0,
    )


def _gateway(options: LocalOptions, env: Mapping[str, str]) -> Part:
    return Part(
        name="gateway",
        what=f"OpenAI-compatible API on {options.gateway_url}/v1",
        argv=_python("inferline", "gateway", "--host", options.host, "--port", options.port),
        env=env,
        # It makes its own tables: on an emulator, a gateway does.
        after=("emulator",),
        ready=lambda: web.ask(f"{options.gateway_url}/health"),
    )


def _provider(options: LocalOptions, env: Mapping[str, str]) -> Part:
    slots = options.slots or (SLOTS if options.built_in else None)
    arguments: list[object] = ["--base-url", options.gateway_url, "--backend", options.backend_url]
    arguments += ["--id", "local", "--poll-seconds", POLL_SECONDS]
    arguments += ["--drain-seconds", DRAIN_SECONDS] + (["--slots", slots] if slots else [])

    def enrolled() -> None:
        if not web.models(options.gateway_url):
            raise web.NoAnswer("the gateway does not list a model yet")

    return Part(
        name="provider",
        what=f"pulls tasks for {options.backend_url}",
        argv=_python("inferline_provider", *arguments),
        env=env,
        after=("gateway", "llm") if options.built_in else ("gateway",),
        ready=enrolled,
        drain_seconds=DRAIN_SECONDS + HAND_BACK_SECONDS,
        revive=True,
    )


def check(options: LocalOptions, environ: Mapping[str, str]) -> None:
    """Check that all can start. Raises PartMissing with every problem."""
    problems = [*_missing_packages(options), *_taken_ports(options)]
    problems += _silent_backend(options, Proxies.from_env(environ))
    if problems:
        raise PartMissing(" ".join(problems))


def _missing_packages(options: LocalOptions) -> Iterator[str]:
    wanted = ["ministack", "uvicorn", "fastapi", "inferline_provider"]
    missing = [
        name
        for name in wanted + ["xllamacpp"] * options.built_in
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        yield f"Not installed: {', '.join(missing)}; run `pip install 'inferline[local]'`."


def _taken_ports(options: LocalOptions) -> Iterator[str]:
    wanted = [("--port", options.host, options.port)]
    wanted += [("--emulator-port", "127.0.0.1", options.emulator_port)]
    wanted += [("--llm-port", "127.0.0.1", options.llm_port)] * options.built_in
    for flag, host, port in wanted:
        if problem := _why_not(host, port):
            yield f"Port {port} of {host} {problem}; choose another with {flag}."


def _why_not(host: str, port: int) -> str | None:
    """Return why nobody can listen there, or None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen()
        except PermissionError:
            return "is not for everyone to use"
        except OSError as error:
            taken = "Address already in use" in str(error)
            return "is taken" if taken else f"can't be used ({error.strerror})"
    return None


def _silent_backend(options: LocalOptions, proxies: Proxies) -> Iterator[str]:
    if options.backend is None or proxies.proxy_for(place(options.backend)[0]) is not None:
        return
    parts = urlsplit(options.backend)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5.0).close()
    except OSError as error:
        yield (
            f"Nothing listens at {options.backend} ({error}); start your server first, or leave"
            " --backend out to use a built-in model."
        )


def log_dir(options: LocalOptions, environ: Mapping[str, str]) -> Path:
    """
    Return the folder of the logs, one for each gateway port. Raises PartMissing if it can't be
    made.
    """
    path = model.cache_dir(environ) / f"local-{options.port}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PartMissing(
            f"{path} can't be made ({error.strerror}); set INFERLINE_CACHE_DIR to another folder."
        ) from error
    return path
