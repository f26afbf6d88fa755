"""
Deploys the stack to an AWS emulator on this machine and asks a real model through all of it.

The emulator checks signatures and policies, so every function works with the rights of its own
role only, and the provider with nothing but the credentials that it is lent. It runs functions
but buffers their answers: the stack is deployed with the edge that does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Self

from inferline.local import plan, web
from inferline.local.failures import LocalError
from inferline.local.llm import model
from inferline.local.processes.warden import Warden, kill_group
from inferline.options import options_of
from inferline.settings import Settings
from infra import node
from infra.inventory import inventory

#: The emulator has one account, and we use one of its regions.
ENVIRONMENT: Final = "aws://000000000000/us-east-1"
#: What is different from AWS, as in cdk.json.
CONTEXT: Final = {
    "edge": "buffered",
    "architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
}
#: What a user may have set for a stack of his own. Of proxies pip and npm have to know.
_SETTINGS: Final = {
    "INFERLINE_API_KEY",
    *(n for option in options_of(Settings) for n in option.names if not n.endswith("_PROXY")),
}
#: Between two looks at whether something is up, and how long that may take.
LOOK_SECONDS: Final = 0.1
START_SECONDS_MAX: Final = 60.0
END_SECONDS: Final = 15.0

QUESTION: Final = "What is a queue?"
EXAMPLES: Final = """\
The stack is deployed, to an emulator. Ask it:

  curl {url}/v1/chat/completions -H 'authorization: Bearer {key}' \\
    -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is a queue?"}}]}}'

or have the operator's commands and the AWS CLI speak to it:

  export AWS_ENDPOINT_URL={emulator} AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  .venv/bin/inferline keys list
  .venv/bin/inferline status --base-url {url} --api-key {key}

Ctrl-C ends everything."""

_SECRET: Final = re.compile(r"\bilp?_[0-9A-Za-z]+_[0-9A-Za-z]+\b")

Print = Callable[[str], None]


class StepFailed(Exception):
    """A step of the deployment failed; the message says which and shows the end of its log."""


class Deployment:
    """The steps, each a method; leaving the block ends every process that they started."""

    def __init__(
        self, folder: Path, tell: Print, environ: Mapping[str, str], models: Sequence[str] = ()
    ) -> None:
        """Keep all files in ``folder``; ``models`` are declared as in cdk.json."""
        self.emulator_url = f"http://127.0.0.1:{_free_port()}"
        self.url = ""
        #: The page's address at CloudFront; the emulator answers to it by the header `host`.
        self.page_url = ""
        self._folder = folder
        self._assembly = folder / "cdk.out"
        self._context = {**CONTEXT, "models": ",".join(models)}
        self._tell = tell
        users = {k: v for k, v in environ.items() if k not in _SETTINGS}
        self._environ = {
            **node.environ(plan.emulated(users, self.emulator_url)),
            # The CDK keeps there which account a key opens, and every emulator has the same key.
            "CDK_HOME": str(folder),
            # The emulator unpacks the bundle anew for each process of a function.
            "TMPDIR": str(folder),
        }
        self._ending = contextlib.ExitStack()
        self._warden = self._ending.enter_context(Warden())
        #: The processes of the GPU host, which end before the stack does.
        self._host = self._ending.enter_context(contextlib.ExitStack())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def start_emulator(self) -> None:
        """Start an empty emulator."""
        port = self.emulator_url.rpartition(":")[2]
        with self._step("emulator", f"MiniStack on {self.emulator_url}, rights checked"):
            health = f"{self.emulator_url}/_ministack/health"
            self._start(
                "emulator",
                ("inferline.local.emulator", "--strict", "--port", port),
                self._environ,
                lambda: web.ask(health),
                self._ending,
            )

    def prepare(self) -> None:
        """Do all that comes before the stack."""
        self.start_emulator()
        self.synth()
        self.bootstrap()

    def synth(self) -> None:
        """Make the templates and the functions' bundle."""
        with self._step("synth", "the template, and the functions' bundle"):
            chosen = [word for pair in self._context.items() for word in ("-c", "=".join(pair))]
            self._cdk("synth", "--quiet", "--output", str(self._assembly), *chosen)

    def bootstrap(self) -> None:
        """Make what the CDK itself needs in an account."""
        with self._step("bootstrap", f"the CDK's own roles and bucket in {ENVIRONMENT}"):
            self._cdk("bootstrap", ENVIRONMENT, "--app", str(self._assembly))

    def deploy(self) -> str:
        """Deploy the stack, or again; gives what the CDK said."""
        with self._step("deploy", "the stack"):
            said = self._python("infra.deploy", "--app", str(self._assembly))
        self.url = self._routed(said)
        self.page_url = _found(r"https://\w+\.cloudfront\.\S+", said)[0]
        return said

    def destroy(self) -> None:
        """End the GPU host's processes and remove the stack."""
        self._host.close()
        with self._step("destroy", "the stack, and the queues that the enrolment made"):
            self._python("infra.destroy", "--yes")

    def operator(self, *command: str, key: str = "") -> str:
        """Run `inferline` as the account's operator, or with a key; gives what it printed."""
        reach = {"INFERLINE_BASE_URL": self.url, "INFERLINE_API_KEY": key}
        argv = (sys.executable, "-m", "inferline", *command)
        return self._run(f"inferline {command[0]}", argv, reach)

    def secret(self, *command: str) -> str:
        """Run a command that makes a key or a token; gives that."""
        match = _SECRET.search(self.operator(*command))
        assert match is not None
        return match[0]

    def start_llm(self) -> str:
        """Start a real model on the CPU; gives its name."""
        if model.find(self._environ) is None:
            with self._step("model", f"{model.ALIAS}, fetched this first time only"):
                model.fetch(self._environ, lambda _: None)
        port = str(_free_port())
        self._backend_url = f"http://127.0.0.1:{port}"
        with self._step("llm", f"{model.ALIAS} on {self._backend_url}"):
            file = str(model.cache_dir(self._environ) / model.FILE)
            arguments = ("--model", file, "--alias", model.ALIAS, "--port", port)
            health = f"{self._backend_url}/health"
            self._start(
                "llm",
                ("inferline.local.llm", *arguments),
                self._environ,
                lambda: web.ask(health),
                self._host,
            )
        return model.ALIAS

    def start_provider(self, token: str, key: str) -> None:
        """Start a provider that knows where to enrol, its token and its LLM server only."""
        settings = {
            "INFERLINE_BASE_URL": self.url,
            "INFERLINE_PROVIDER_TOKEN": token,
            "OPENAI_BASE_URL": self._backend_url,
            "PROVIDER_ID": "emulated",
            "POLL_SECONDS": "2",
            "DRAIN_SECONDS": "5",
        }
        bare = {k: v for k, v in self._environ.items() if not k.startswith("AWS_")}
        # Nor may it find credentials in a file or at an instance.
        none = {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
        with self._step("provider", "enrols with its token, is lent credentials"):
            self._start(
                "provider",
                ("inferline_provider",),
                bare | none | settings,
                lambda: self._offered(key),
                self._host,
            )

    def ask(self, key: str, question: str) -> str:
        """Return what the model answers through API Gateway. Raises web.NoAnswer."""
        body = {
            "model": model.ALIAS,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 32,
        }
        answer = web.ask(f"{self.url}/v1/chat/completions", body, 29.0, key)
        return str(answer["choices"][0]["message"]["content"])

    def log(self, name: str) -> str:
        """Return what a process has said."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _offered(self, key: str) -> None:
        """Check that the model is listed; raises NoAnswer until then."""
        listed = web.ask(f"{self.url}/v1/models", None, 10.0, key)
        if model.ALIAS not in [one["id"] for one in listed["data"]]:
            raise web.NoAnswer("the model is not listed yet")

    def _routed(self, said: str) -> str:
        """Return the base URL of the deployed API that was told, as the emulator routes it."""
        match = _found(r"https://(\w+)\.execute-api\.[^/\s]+/(\w+)", said)
        return f"{self.emulator_url}/_aws/execute-api/{match[1]}/{match[2]}"

    def _cdk(self, command: str, *arguments: str) -> str:
        return self._run(f"cdk {command}", node.command("cdk", command, *arguments))

    def _python(self, module: str, *arguments: str) -> str:
        return self._run(module, [sys.executable, "-m", module, *arguments])

    def _run(self, name: str, argv: Sequence[str], more: Mapping[str, str] | None = None) -> str:
        """Run a command to its end; gives its output, or raises StepFailed with the end of it."""
        log, environ = self._folder / f"{name}.log", self._environ | dict(more or {})
        with log.open("w") as output, self._process(argv, environ, output) as process:
            code = process.wait()
        if code != 0:
            raise StepFailed(f"{name} ended with exit code {code}:{_end_of(log)}")
        return log.read_text()

    def _start(
        self,
        name: str,
        module: tuple[str, ...],
        environ: Mapping[str, str],
        ready: Callable[[], object],
        until: contextlib.ExitStack,
    ) -> None:
        """Start `python -m module`, which lives `until` that ends, and wait until it is up."""
        log = self._folder / f"{name}.log"
        output = until.enter_context(log.open("w"))
        argv = (sys.executable, "-P", "-m", *module)
        process = until.enter_context(self._process(argv, environ, output))
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                ready()
            except web.NoAnswer as last:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StepFailed(f"{name} did not come up ({last}):{_end_of(log)}") from None
                time.sleep(LOOK_SECONDS)
            else:
                return

    @contextlib.contextmanager
    def _process(
        self, argv: Sequence[str], environ: Mapping[str, str], output: IO[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """
        Yield a process in a session of its own, so that we end it and not the terminal's Ctrl-C.
        """
        process = subprocess.Popen(
            argv,
            cwd=node.ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self._warden.guard(process.pid)
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            kill_group(process.pid)
            process.wait()
            self._warden.release(process.pid)

    @contextlib.contextmanager
    def _step(self, name: str, what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self._tell(f"  {name:<10} {what:<58} {time.monotonic() - begin:5.1f} s")


def _found(pattern: str, said: str) -> re.Match[str]:
    match = re.search(pattern, said)
    assert match is not None, said
    return match


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_of(log: Path, lines: int = 15) -> str:
    text = log.read_text(errors="replace").strip().splitlines()
    return "".join(f"\n    {line}" for line in text[-lines:])


def main(arguments: list[str] | None = None) -> int:
    """Deploy, ask, and stay until Ctrl-C, or with --once clear away all and see to it."""
    parser = argparse.ArgumentParser(prog="make deploy-emulator", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="destroy the stack after one answer, and end"
    )
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="inferline-") as folder:
        try:
            with Deployment(Path(folder), lambda text: print(text, flush=True), os.environ) as made:
                return _once(made) if options.once else _stay(made)
        except KeyboardInterrupt:
            print("\nEnded; nothing is left running.")
            return 0
        except (StepFailed, web.NoAnswer, LocalError) as failure:
            print(failure, file=sys.stderr)
            return 1


def _once(made: Deployment) -> int:
    made.prepare()
    before = inventory(made.emulator_url)
    _use(made)
    made.destroy()
    left = sorted(inventory(made.emulator_url) - before)
    print("\n".join(["Left behind:", *left] if left else ["Nothing is left behind."]))
    return 1 if left else 0


def _stay(made: Deployment) -> int:
    made.prepare()
    key = _use(made)
    print(EXAMPLES.format(url=made.url, key=key, model=model.ALIAS, emulator=made.emulator_url))
    threading.Event().wait()
    return 0


def _use(made: Deployment) -> str:
    """Deploy the stack, have a provider join it and ask; gives the key."""
    made.deploy()
    key = made.secret("keys", "create", "--name", "my-app")
    token = made.secret("providers", "token", "--models", "*")
    made.start_llm()
    made.start_provider(token, key)
    begin = time.monotonic()
    answer = made.ask(key, QUESTION)
    print(f"\n  {QUESTION}\n  {answer!r}, in {time.monotonic() - begin:.1f} s\n", flush=True)
    return key


if __name__ == "__main__":
    sys.exit(main())
