"""The `inferline` command: runs the parts, administers a stack and reads from a running gateway."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

from inferline import __version__, logs
from inferline.commands import batches, gateway, keys, models, pardon, status, tenants, usage
from inferline.commands.printing import FAILED, OK, USAGE, print_error
from inferline.errors import InferLineError
from inferline.options import add_arguments, markdown
from inferline.settings import Settings, SettingsError, warnings
from inferline.telemetry.otlp import tracing

log = logging.getLogger(__name__)

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_EPILOG: Final = """\
exit codes:
  0  success
  1  failure; the message says why
  2  invalid command line or setting

The gateway's settings are environment variables named INFERLINE_…; docs/settings.md lists them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["provider"]:
        return _provider(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    if run is not _gateway:
        for warning in warnings(os.environ):
            print(f"inferline: {warning}", file=sys.stderr)
    try:
        code = run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `head`, for one, reads no more than it wants. Python's flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except SettingsError as error:
        print_error(error)
        return USAGE
    except InferLineError as error:
        print_error(error)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inferline",
        description="An LLM router that works like a conveyor belt.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"inferline {__version__}")
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_local(parts)
    _add_gateway(parts)
    parts.add_parser("provider", help="run a provider (the same as inferline-provider)")
    provision = parts.add_parser("provision", help="make the tables and the bucket on an emulator")
    provision.set_defaults(run=_provision)
    settings = parts.add_parser("settings", help="list the gateway's settings, as Markdown")
    settings.set_defaults(run=_settings)
    _add_asking(parts)
    keys_parser = parts.add_parser("keys", help="make, list, rotate and revoke API keys")
    keys.add_keys(keys_parser, os.environ)
    tenants_parser = parts.add_parser("tenants", help="list and limit tenants")
    tenants.add_tenants(tenants_parser, os.environ)
    return parser


def _add_asking(parts: Any) -> None:
    environ = os.environ
    models_parser = parts.add_parser(
        "models", help="list the models, and remove those without providers"
    )
    help_text = "list the providers, end a quarantine; make, rotate and revoke tokens"
    providers = parts.add_parser("providers", help=help_text)
    for parser, path in ((models_parser, "/v1/models"), (providers, "/v1/providers")):
        gateway.add_arguments(parser, environ)
        parser.set_defaults(run=lambda options: gateway.run(options, environ), path=path)
    models.add_models(models_parser, environ)
    pardon.add_pardon(keys.add_tokens(providers, environ), environ)
    status_parser = parts.add_parser("status", help="show queues, providers and the last hour")
    status.add_arguments(status_parser, environ)
    status_parser.set_defaults(run=lambda options: status.run(options, environ))
    batches_parser = parts.add_parser(
        "batches", help="upload lines that can wait, run them as a batch, fetch the results"
    )
    batches.add_batches(batches_parser, environ)
    usage_parser = parts.add_parser("usage", help="show usage by tenant, key or model")
    usage.add_arguments(usage_parser, environ)
    usage_parser.set_defaults(run=lambda options: usage.run(options, environ))


def _add_local(parts: Any) -> None:
    from inferline import local

    parser = parts.add_parser(
        "local",
        help="run everything on this machine, with a real small model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    local.add_arguments(parser)
    parser.set_defaults(run=lambda options: local.run(options, os.environ))


def _add_gateway(parts: Any) -> None:
    parser = parts.add_parser("gateway", help="run the gateway")
    add_arguments(parser, Settings)
    parser.set_defaults(run=_gateway)


def _gateway(options: argparse.Namespace) -> int:
    from inferline.gateway import server

    settings = Settings.from_env(os.environ, options)
    logs.write(settings.log_level.upper(), "inferline")
    for warning in warnings(os.environ):
        log.warning("%s", warning)

    is_open = settings.access == "open" and not settings.provider_token
    if is_open and settings.host not in LOOPBACK:
        log.warning(
            "Anyone who reaches %s can enrol a provider: set INFERLINE_ACCESS=keys, or "
            "INFERLINE_PROVIDER_TOKEN.",
            settings.host,
        )

    with tracing(os.environ, "inferline-gateway") as tracer:
        server.run(settings, settings.host, settings.port, tracer)
    return OK


def _provider(arguments: Sequence[str]) -> int:
    """Run the provider, a package of its own that the core does not import."""
    (script,) = entry_points(group="console_scripts", name="inferline-provider")
    return int(script.load()(arguments) or OK)


def _provision(options: argparse.Namespace) -> int:
    from inferline.aws.stores import open_gateway_stores

    settings = Settings.from_env(os.environ)
    if not settings.endpoint_url:
        raise SettingsError("AWS_ENDPOINT_URL is not set; only an emulator is provisioned this way")

    async def provision() -> None:
        async with open_gateway_stores(settings):
            pass

    asyncio.run(provision())
    return OK


def _settings(options: argparse.Namespace) -> int:
    print(markdown(Settings))
    return OK
