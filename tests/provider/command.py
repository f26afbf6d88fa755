"""The provider's settings as its command reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferline_provider import cli, settings


def read(flags: Sequence[str], environ: Mapping[str, str]) -> settings.ProviderSettings:
    """Return the settings of a command line. Raises SettingsError."""
    return settings.read(environ, cli.parser().parse_args(flags))
