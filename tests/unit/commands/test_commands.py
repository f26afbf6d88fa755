"""The commands for keys and tokens, and those that ask a gateway."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

import pytest

from inferline.accounts.keys import parse_key
from inferline.cli import main
from inferline.commands.printing import show
from inferline.fleet.registry import Model, ProviderRecord
from inferline.memory.keys import MemoryKeys
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tenants import MemoryTenants
from inferline.names import dedicated_name
from inferline.settings import Settings


class Stores(NamedTuple):
    """The stores of an operator's commands."""

    keys: MemoryKeys
    tenants: MemoryTenants
    registry: MemoryRegistry


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def registry() -> MemoryRegistry:
    """Return the registry of all stacks."""
    return MemoryRegistry()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, registry: MemoryRegistry) -> list[Settings]:
    """
    Return the settings of the stacks that were opened; all have the same keys, tenants and
    providers.
    """
    stores, settings_opened = Stores(MemoryKeys(), MemoryTenants(), registry), list[Settings]()

    @asynccontextmanager
    async def open_operator_stores(settings: Settings) -> AsyncIterator[Stores]:
        settings_opened.append(settings)
        yield stores

    monkeypatch.setattr("inferline.aws.stores.open_operator_stores", open_operator_stores)
    return settings_opened


@pytest.fixture
def run(opened: list[Settings], capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_a_key_is_printed_once_and_alone_with_what_to_do_beside_it(run: Run) -> None:
    code, out, err = run("keys", "create", "--name", "my-app")

    parsed = parse_key(out.strip())
    assert 0 == code
    assert parsed is not None
    assert "client" == parsed.role
    assert f"inferline keys revoke {parsed.id}" in err
    _, listed, _ = run("keys", "list")
    assert [parsed.id, "my-app", "my-app", "valid"] == listed.splitlines()[1].split()[:4]
    assert parsed.secret not in listed


def test_a_table_is_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": "m", "object": "model", "type": "model", "created": 5, "display_name": "m"}

    show([row], as_json=False)
    show([row], as_json=True)

    out = capsys.readouterr().out.splitlines()
    assert ["id  created", "m   5"] == out[:2]
    assert [row] == json.loads("".join(out[2:]))


def test_a_token_is_for_the_models_that_were_named(run: Run) -> None:
    _, out, _ = run("providers", "token", "--models", "org/*, b", "--json")
    made = json.loads(out)

    _, listed, _ = run("providers", "tokens", "--json")
    _, keys, _ = run("keys", "list", "--json")

    [row] = json.loads(listed)
    assert ["org/*", "b"] == row["models"]
    assert row == {name: value for name, value in made.items() if name != "key"}
    assert made["key"].startswith("ilp_")
    assert [] == json.loads(keys)


def test_what_expires_says_when(run: Run) -> None:
    run("keys", "create", "--name", "a", "--tenant", "acme", "--expires-days", "1.5")

    [row] = json.loads(run("keys", "list", "--json")[1])

    assert "acme" == row["tenant"]
    assert row["created"] < row["expires"]
    assert "valid" == row["state"]


def test_revoked_it_is_listed_as_that(run: Run) -> None:
    made = json.loads(run("keys", "create", "--name", "a", "--json")[1])

    code, out, _ = run("keys", "revoke", made["id"])

    assert 0 == code
    assert "within a minute" in out
    [row] = json.loads(run("keys", "list", "--json")[1])
    assert "revoked" == row["state"]


def test_a_key_is_for_the_models_and_tiers_that_were_named(run: Run) -> None:
    arguments = ("--models", "org/*,b", "--tiers", "flex, default")
    run("keys", "create", "--name", "a", *arguments)

    [row] = json.loads(run("keys", "list", "--json")[1])

    assert (["org/*", "b"], ["default", "flex"]) == (row["models"], row["tiers"])
    assert "client" == row["role"]


def test_an_administrators_key_is_made_and_listed_beside_the_others(run: Run) -> None:
    _, out, err = run("keys", "create", "--name", "ops", "--role", "admin")
    run("keys", "create", "--name", "app")

    parsed = parse_key(out.strip())
    assert parsed is not None
    assert "admin" == parsed.role
    assert "/v1/keys" in err
    roles = [row["role"] for row in json.loads(run("keys", "list", "--json")[1])]
    assert ["admin", "client"] == sorted(roles)
    assert 0 == run("keys", "revoke", parsed.id)[0]


def test_rotated_a_key_has_a_new_secret_and_the_old_one_an_end(run: Run) -> None:
    made = json.loads(run("keys", "create", "--name", "a", "--json")[1])

    code, out, err = run("keys", "rotate", made["id"], "--overlap", "90m")

    parsed = parse_key(out.strip())
    assert 0 == code
    assert parsed is not None
    assert (made["id"], "client") == (parsed.id, parsed.role)
    assert out.strip() != made["key"]
    [row] = json.loads(run("keys", "list", "--json")[1])
    assert row["old_secret_until"] in err
    assert row["created"] < row["old_secret_until"]


def test_a_token_is_rotated_as_a_token(run: Run) -> None:
    made = json.loads(run("providers", "token", "--models", "m", "--json")[1])

    refused = run("keys", "rotate", made["id"])
    rotated = json.loads(run("providers", "rotate", made["id"], "--overlap", "0s", "--json")[1])

    assert 1 == refused[0]
    assert rotated["key"].startswith(f"ilp_{made['id']}_")
    assert rotated["old_secret_until"] is None


def test_a_revoked_key_is_not_rotated(run: Run) -> None:
    made = json.loads(run("keys", "create", "--name", "a", "--json")[1])
    run("keys", "revoke", made["id"])

    code, out, err = run("keys", "rotate", made["id"])

    assert (1, "") == (code, out)
    assert "revoked" in err


def test_a_tenant_is_limited_to_models_and_providers_and_freed_again(run: Run) -> None:
    run("keys", "create", "--name", "a", "--tenant", "globex")
    token = json.loads(run("providers", "token", "--models", "m", "--json")[1])["id"]

    run("tenants", "set", "acme", "--models", "org/*")
    run("tenants", "set", "acme", "--providers", token)
    limited = json.loads(run("tenants", "list", "--json")[1])
    freed = json.loads(run("tenants", "set", "acme", "--providers", "*", "--json")[1])

    assert [
        {"id": "acme", "models": ["org/*"], "providers": [token], "limits": {}},
        {"id": "globex", "models": ["*"], "providers": ["*"], "limits": {}},
    ] == limited
    assert {"id": "acme", "models": ["org/*"], "providers": ["*"], "limits": {}} == freed


def test_a_key_and_a_tenant_are_limited_and_each_limit_by_itself_again(run: Run) -> None:
    limits = ("--requests-per-minute", "60", "--tokens-per-day", "0")
    run("keys", "create", "--name", "a", *limits)
    run("tenants", "set", "a", "--concurrent-requests", "8", "--tokens-per-minute", "900")
    run("tenants", "set", "a", "--tokens-per-minute", "default", "--models", "m")

    [key] = json.loads(run("keys", "list", "--json")[1])
    [tenant] = json.loads(run("tenants", "list", "--json")[1])

    assert {"requests_per_minute": 60, "tokens_per_day": 0} == key["limits"]
    assert ({"concurrent_requests": 8}, ["m"]) == (tenant["limits"], tenant["models"])
    assert "requests_per_minute=60,tokens_per_day=0" in run("keys", "list")[1]
    assert "concurrent_requests=8" in run("tenants", "list")[1]


@pytest.mark.parametrize("number", ["-1", "1.5", "many", "", "1" + "0" * 13])
def test_a_limit_is_a_whole_number(run: Run, number: str) -> None:
    for verb in (("keys", "create", "--name", "a"), ("tenants", "set", "a")):
        code, out, err = run(*verb, f"--requests-per-minute={number}")

        assert (2, "") == (code, out)
        assert "--requests-per-minute must be a whole number" in err
    assert [] == json.loads(run("keys", "list", "--json")[1])


def test_an_administrators_key_has_no_limits(run: Run) -> None:
    made = run("keys", "create", "--name", "a", "--role", "admin", "--tokens-per-day", "5")

    assert 2 == made[0]
    assert "without" in made[2]


def test_a_tenant_is_kept_to_tokens_in_force_alone(run: Run) -> None:
    revoked = json.loads(run("providers", "token", "--models", "m", "--json")[1])["id"]
    run("providers", "revoke", revoked)
    key = json.loads(run("keys", "create", "--name", "a", "--tenant", "t", "--json")[1])["id"]

    for ids in (revoked, key, "nothing", ",", f"*,{key}"):
        code, out, err = run("tenants", "set", "acme", "--providers", ids)
        assert (2, "") == (code, out), ids
        assert "inferline providers tokens" in err
    assert "acme" not in run("tenants", "list")[1]


def test_keys_and_tokens_are_revoked_by_their_own_commands(run: Run) -> None:
    made = json.loads(run("keys", "create", "--name", "a", "--json")[1])

    for arguments in (("providers", "revoke", made["id"]), ("keys", "revoke", "another")):
        code, out, err = run(*arguments)
        assert (1, "") == (code, out)
        assert f"There is no {'key' if arguments[0] == 'keys' else 'provider'}" in err

    [row] = json.loads(run("keys", "list", "--json")[1])
    assert "valid" == row["state"]


def test_the_stack_and_the_region_are_the_operators(
    run: Run, opened: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERLINE_STACK", "first")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")

    run("keys", "list")
    run("keys", "list", "--stack", "second")

    assert ["first-registry", "second-registry"] == [one.registry_table for one in opened]
    assert "eu-west-3" == opened[0].region


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--name", "two words"),
        ("keys", "create", "--name", "a", "--tenant", "x y"),
        ("keys", "create", "--name", "a", "--expires-days", "0"),
        ("keys", "create", "--name", "a", "--expires-days", "nan"),
        ("providers", "token", "--models", ","),
        ("providers", "token", "--models", "a b"),
        ("keys", "create", "--name", "a", "--models", "a#b"),
        ("keys", "create", "--name", "a", "--tiers", "fast"),
        ("keys", "create", "--name", "a", "--tiers", ","),
        ("keys", "create", "--name", "a", "--role", "admin", "--models", "m"),
        ("keys", "rotate", "some", "--overlap", "1"),
        ("tenants", "set", "a b", "--models", "m"),
        ("tenants", "set", "acme"),
        ("tenants", "set", "acme", "--models", ""),
    ],
)
def test_what_cant_be_used_is_named_and_nothing_made(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)

    assert (2, "") == (code, out)
    assert "--" in err or "TENANT must" in err
    assert "none" == run("keys", "list")[1].strip() == run("providers", "tokens")[1].strip()


@contextmanager
def gateway(status: int, body: dict[str, Any]) -> Iterator[tuple[str, list[str | None]]]:
    """Yield answers each request the same way, and notes what key it was shown."""
    shown: list[str | None] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("authorization"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_gateway_is_shown_the_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(200, {"data": [{"id": "m", "object": "model"}]}) as (url, shown):
        without = run("models", "--base-url", url)
        monkeypatch.setenv("INFERLINE_API_KEY", "from-env")
        run("providers", "--base-url", url)
        run("providers", "--base-url", url, "--api-key", "given", "--json")

    assert [None, "Bearer from-env", "Bearer given"] == shown
    assert (0, "id\nm\n") == without[:2]


def test_a_gateway_on_this_machine_is_asked_without_a_proxy(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://name:canary@127.0.0.1:1")
    with gateway(200, {"data": []}) as (url, _):
        assert (0, "none\n", "") == run("models", "--base-url", url)

    code, _, error = run("models", "--base-url", "http://gateway.test")
    way = "http://gateway.test/v1/models through the proxy http://127.0.0.1:1:"
    assert (1, True) == (code, error.startswith(f"inferline: no answer from {way}"))
    assert "canary" not in error


def test_a_refusal_is_told_in_the_gateways_words(run: Run) -> None:
    with gateway(401, {"error": {"message": "No such key."}}) as (url, _):
        code, out, err = run("models", "--base-url", url)

    assert (1, "") == (code, out)
    assert "401: No such key. Set INFERLINE_API_KEY." in err


def test_a_quarantined_provider_is_pardoned_once(run: Run, registry: MemoryRegistry) -> None:
    record = ProviderRecord(id="p", models=("m",), slots=1, running=0, healthy=True, version="1")
    asyncio.run(registry.put_provider(record))
    asyncio.run(registry.strike("p", "m", "row", 1))

    first, again = run("providers", "pardon", "p"), run("providers", "pardon", "p")

    assert (0, "") == (first[0], first[2])
    assert (1, "") == again[:2]
    assert "no quarantined provider 'p'" in again[2]
    assert asyncio.run(registry.put_provider(record)) is not None


def test_a_model_is_removed_once_no_provider_has_it(run: Run, registry: MemoryRegistry) -> None:
    names = ("org/m", dedicated_name("org/m", "acme"), "other")
    asyncio.run(registry.put_models([Model(id=name, queues={}) for name in names]))
    record = ProviderRecord(
        id="p", models=names[1:2], slots=1, running=0, healthy=False, version="1"
    )
    asyncio.run(registry.put_provider(record))

    served = run("models", "remove", "org/m")
    asyncio.run(registry.remove_provider("p"))
    removed, again = run("models", "remove", "org/m"), run("models", "remove", "org/m")

    assert (1, "") == served[:2]
    assert "served by p, which would bring it back: stop them" in served[2]
    assert (0, "") == (removed[0], removed[2])
    assert {"other"} == set(asyncio.run(registry.models()))
    assert (1, "") == again[:2]
    assert "no model 'org/m'" in again[2]
