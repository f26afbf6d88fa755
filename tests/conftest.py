"""What holds for every test: no real credentials, no one's settings, the same examples on CI."""

from __future__ import annotations

import os
import sys

import hypothesis
import pytest

# Tests start hundreds of processes: each starts in half the time from bytecode that is kept.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: What a person's shell may hold and a test must not see.
OWN_PREFIXES = ("AWS_", "INFERLINE_", "OPENAI_")
OWN_NAMES = (
    *("SLOTS", "PROVIDER_ID", "MODEL_REFRESH_INTERVAL", "MODELS", "ALIASES"),
    *("DRAIN_SECONDS", "POLL_SECONDS", "LOG_LEVEL"),
)

for name in list(os.environ):
    if name.startswith(OWN_PREFIXES) or name in OWN_NAMES:
        del os.environ[name]

# Emulators take any key. These are set so that a call which goes astray has nothing to show.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_REGION="us-east-1",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_EC2_METADATA_DISABLED="true",
)

# The first example of a test imports what it needs; its time says nothing.
hypothesis.settings.register_profile("laptop", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "laptop")


def pytest_configure(config: pytest.Config) -> None:
    """Print the slowest files at the end of each run."""
    from tests.support.reporting import Reporting  # It imports what reads the environment.

    config.pluginmanager.register(Reporting(config))
