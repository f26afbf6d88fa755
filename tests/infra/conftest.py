"""One synthesised stack of each kind for all tests: each takes seconds."""

from __future__ import annotations

import pytest

from tests.support.template import Template, synthesised

MODELS = ["llama-3.1-8b", "qwen/qwen3-32b"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return the template of an operator who has named two models."""
    return synthesised(tmp_path_factory, models=MODELS)


@pytest.fixture(scope="session")
def buffered(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return the template for a small account: whole answers, nothing reserved, no CloudFront."""
    return synthesised(
        tmp_path_factory,
        edge="buffered",
        architecture="x86_64",
        reserved_concurrency=False,
        page=False,
    )


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return the template for production: kept, monitored, traced and behind a firewall."""
    watched = {"alarm_email": "ops@example.com", "waf": True, "traces": True}
    return synthesised(tmp_path_factory, protect=True, api_log_role=False, **watched)


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return the template for applications that run in browsers."""
    return synthesised(tmp_path_factory, cors_origins=["https://a.example", "https://b.example"])
