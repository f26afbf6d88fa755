"""The emulators of AWS that the whole line is put on: how each is installed and started."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra import NODE
from tests.interop.environments import Environment, Places

FAUXQS = Environment(name="fauxqs", packages=["fauxqs@2.4.1"], node=True)
DYNALITE = Environment(name="dynalite", packages=["dynalite@4.0.0"], node=True)
LOCALSTACK = Environment(
    name="localstack",
    # Its sources have the syntax of 3.12, and the annotations of one module that of 3.13.
    python=(3, 13),
    packages=[
        *("localstack-core[base-runtime,runtime]==4.14.0", "cbor2<5.8", "pyopenssl==25.0.0"),
        *("cryptography==44.0.3", "service_identity==24.2.0"),
    ],
)

QUEUES = ("tests/contract/test_queue.py", "tests/contract/test_queue_maker.py")
TABLES = tuple(
    f"tests/contract/test_{name}.py"
    for name in (
        "keys",
        "minutes",
        "rate_counters",
        "registry",
        "store",
        "task_rows",
        "tenants",
        "usage",
    )
)


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """One emulator, and the services that are taken from it; MiniStack has the others."""

    name: str
    version: str
    #: The command that serves at a port, and what its environment has more.
    command: Callable[[Places, int], tuple[list[str], dict[str, str]]]
    environment: Environment | None = None
    #: Of "sqs", "dynamodb" and "other"; empty for everything, at its own address.
    services: Sequence[str] = ()
    #: Whether it knows neither tables on demand nor UpdateTimeToLive: both are done for it.
    provisioned: bool = False
    #: The contract tests of what it stands for.
    contract: Sequence[str] = ("tests/contract",)


def _ministack(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "inferline.local.emulator", "--port", str(port)], {}


def _moto(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "tests.support.moto_server", str(port)], {}


def _localstack(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    more = {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "SERVICES": "sqs,s3",
        # Else it wants to be this machine's name server.
        "DNS_ADDRESS": "0",
    }
    program = places.program(LOCALSTACK, "python")
    return [program, "-m", "localstack.runtime.main"], more


def _fauxqs(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    more = {"FAUXQS_PORT": str(port), "FAUXQS_HOST": "127.0.0.1", "FAUXQS_LOGGER": "false"}
    return [str(NODE), places.program(FAUXQS, "fauxqs")], more


def _dynalite(places: Places, port: int) -> tuple[list[str], dict[str, str]]:
    program = places.program(DYNALITE, "dynalite")
    return [str(NODE), program, "--port", str(port), "--createTableMs", "0"], {}


EMULATORS = (
    Emulator(
        name="MiniStack",
        version=importlib.metadata.version("ministack"),
        command=_ministack,
    ),
    Emulator(
        name="moto's server, one DynamoDB call at a time",
        version=importlib.metadata.version("moto"),
        command=_moto,
    ),
    Emulator(
        name="LocalStack for SQS and S3",
        version=LOCALSTACK.version,
        environment=LOCALSTACK,
        command=_localstack,
        services=("sqs", "other"),
        contract=QUEUES,
    ),
    Emulator(
        name="fauxqs for SQS",
        version=FAUXQS.version,
        environment=FAUXQS,
        command=_fauxqs,
        services=("sqs",),
        contract=QUEUES,
    ),
    Emulator(
        name="dynalite for DynamoDB",
        version=DYNALITE.version,
        environment=DYNALITE,
        command=_dynalite,
        services=("dynamodb",),
        provisioned=True,
        contract=TABLES,
    ),
)
