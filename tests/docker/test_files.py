"""What docker/ promises, as far as it shows without an engine: the files, and what they say."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from inferline.gateway.server import CUT_OFF_SECONDS
from inferline.local.llm import model
from inferline.options import options_of
from inferline.settings import Settings
from inferline_provider.provider import HAND_BACK_SECONDS_MAX
from inferline_provider.settings import ProviderSettings

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("docker-compose-*.yml"))
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
MANUAL = (ROOT / "docs/containers.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
#: A provider's, where nothing else is said.
DRAIN_SECONDS = next(one.default for one in fields(ProviderSettings) if one.name == "drain_seconds")
#: Our own images, each a target of the Dockerfile.
TARGETS = {"gateway", "provider", "emulator", "llm"}


def loaded(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    return document


def services() -> list[Any]:
    return [
        pytest.param(service, id=f"{file.stem.removeprefix('docker-compose-')}-{name}")
        for file in FILES
        for name, service in loaded(file)["services"].items()
        # What only adds to a service of another file has no image.
        if "image" in service
    ]


OURS = [one for one in services() if one.values[0]["image"].startswith("inferline-")]
THEIRS = [one for one in services() if one not in OURS]
#: Where spans go, as OpenTelemetry names it.
TRACES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}
#: What every program goes by, in both spellings.
PROXIES = {"NO_PROXY", "no_proxy"}
PROVIDERS = [one for one in OURS if one.values[0]["build"]["target"] == "provider"]
GATEWAYS = [
    one
    for one in OURS
    if one.values[0]["build"]["target"] == "gateway" and "ports" in one.values[0]
]


def passed_on(service: dict[str, Any]) -> set[str]:
    """Return the variables that a service has from who runs compose, if they are set there."""
    return {name for name, value in service.get("environment", {}).items() if value is None}


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_there_is_a_compose_file_for_each_way_to_run_it() -> None:
    names = {file.stem.removeprefix("docker-compose-") for file in FILES}

    assert {"local-demo", "tinyllama", "vllm", "join-demo", "metrics"} == names


@pytest.mark.parametrize("service", OURS)
def test_our_containers_may_write_nothing_and_become_nobody_else(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert not {"privileged", "user", "cap_add", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize("service", OURS)
def test_our_images_are_of_this_version_and_built_from_this_folder(service: dict[str, Any]) -> None:
    target = service["build"]["target"]

    assert f"inferline-{target}:{VERSION}" == service["image"]
    assert target in TARGETS
    assert ("..", "docker/Dockerfile") == (
        service["build"]["context"],
        service["build"]["dockerfile"],
    )


@pytest.mark.parametrize("service", THEIRS)
def test_images_of_others_have_a_version(service: dict[str, Any]) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+\}$", service["image"])


@pytest.mark.parametrize("service", services())
def test_a_service_that_stays_has_a_health_check(service: dict[str, Any]) -> None:
    once = service.get("restart") == "no"
    own = service.get("healthcheck", {})
    of_image = "HEALTHCHECK" in stages().get(service.get("build", {}).get("target"), "")

    assert once or "test" in own or (of_image and not own.get("disable"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_one_is_waited_for_but_by_health_or_a_good_end(file: Path) -> None:
    services = loaded(file)["services"]

    for service in services.values():
        for name, waited in service.get("depends_on", {}).items():
            ends = services[name].get("restart") == "no"
            condition = "service_completed_successfully" if ends else "service_healthy"
            assert condition == waited["condition"]


@pytest.mark.parametrize("service", services())
def test_ports_are_for_this_machine_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_demo_is_where_its_addresses_say() -> None:
    demo = loaded(ROOT / "docker/docker-compose-local-demo.yml")["services"]

    ports = {name: service["ports"] for name, service in demo.items() if "ports" in service}

    assert {
        "gateway": ["127.0.0.1:${GATEWAY_PORT:-8000}:8000"],
        "dashboard": ["127.0.0.1:${DASHBOARD_PORT:-5000}:5000"],
        "llm": ["127.0.0.1:${LLM_PORT:-8001}:8001"],
    } == ports


def test_up_comes_back_when_the_page_is_there_and_a_provider_has_joined() -> None:
    demo = loaded(ROOT / "docker/docker-compose-local-demo.yml")["services"]

    waited_for = set().union(*(service.get("depends_on", {}) for service in demo.values()))

    assert {"ready"} == set(demo) - waited_for
    assert {"dashboard", "provider"} == set(demo["ready"]["depends_on"])


@pytest.mark.parametrize("service", [*GATEWAYS, *PROVIDERS])
def test_what_serves_passes_on_where_traces_go(service: dict[str, Any]) -> None:
    assert passed_on(service) >= TRACES
    assert ["host.docker.internal:host-gateway"] == service["extra_hosts"]


@pytest.mark.parametrize("service", GATEWAYS)
def test_a_gateway_is_given_the_time_that_its_end_may_take(service: dict[str, Any]) -> None:
    seconds = Settings().drain_seconds + 2 * CUT_OFF_SECONDS

    assert seconds < int(service["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_provider_is_given_the_time_that_its_end_may_take(service: dict[str, Any]) -> None:
    match = re.search(r":-(\d+)", str(service["environment"].get("DRAIN_SECONDS")))
    drain_seconds = float(match[1]) if match else DRAIN_SECONDS
    seconds = drain_seconds + HAND_BACK_SECONDS_MAX

    assert seconds < int(service["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("service", [*GATEWAYS, *PROVIDERS])
def test_what_serves_takes_its_settings_from_a_file_that_need_not_be_there(
    service: dict[str, Any],
) -> None:
    kind = service["build"]["target"]

    assert [{"path": f".env.{kind}", "required": False}] == service["env_file"]


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_provider_tells_its_metrics_inside_its_network_if_a_port_is_given(
    service: dict[str, Any],
) -> None:
    assert "METRICS_PORT" in passed_on(service)
    assert "0.0.0.0" == service["environment"]["METRICS_HOST"]
    assert "ports" not in service


def test_metrics_leave_the_containers_at_the_loopback_address_unless_it_is_said_otherwise() -> None:
    added = loaded(ROOT / "docker/docker-compose-metrics.yml")["services"]

    assert {"provider"} == set(added)
    assert ["${METRICS_ADDRESS:-127.0.0.1}:${METRICS_PORT:-9101}:${METRICS_PORT:-9101}"] == added[
        "provider"
    ]["ports"]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_an_image_is_nobody_s_and_says_whether_it_is_well(target: str) -> None:
    base, own = stages()["base"], stages()[target]

    assert "USER 10001:10001" in base
    assert not re.findall(r"^USER ", own, re.MULTILINE) or own.rindex("USER 10001") > own.rindex(
        "USER 0"
    )
    assert "HEALTHCHECK" in own
    assert "STOPSIGNAL SIGTERM" in base


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_an_image_holds_what_its_lock_says_and_nothing_else(target: str) -> None:
    environment = stages()[f"{target}-environment"]

    installs = re.findall(r"install (.+?)(?: \\)?$", environment, re.MULTILINE)

    locked = f"--no-compile --require-hashes --only-binary :all: -r requirements/{target}.txt"
    assert [locked, "--no-compile --no-deps /wheels/*.whl"] == installs


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_is_copied_into_an_image_knows_no_time(target: str) -> None:
    # Copied as a whole, /opt has no time of its own either.
    assert f"COPY --from={target}-environment /opt /opt\n" in stages()[target]
    assert "    && seal\n" in stages()[f"{target}-environment"]
    assert "--invalidation-mode unchecked-hash" in stages()["tools"]
    assert "find /opt -exec touch" in stages()["tools"]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_lock_of_an_image_has_the_versions_that_are_tested(target: str) -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / f"requirements/{name}.txt").read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))

    assert pins(target)
    assert pins(target).items() <= pins("dev").items()


def test_no_file_names_an_image_by_latest_or_a_processor() -> None:
    for path in [ROOT / "docker/Dockerfile", *FILES]:
        assert not re.search(r":latest|amd64|x86_64|arm64|aarch64", path.read_text()), path


def test_the_builder_sees_only_what_is_named() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    wanted = {f"!{name}" for names in copied for name in names.split()}
    assert wanted == {rule for rule in rules if rule.startswith("!")}


def variables(file: Path) -> set[str]:
    named = set(re.findall(r"\$\{([A-Z_0-9]+)", file.read_text()))
    return named.union(*map(passed_on, loaded(file)["services"].values()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_variable_stands_in_the_manual(file: Path) -> None:
    rows = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", MANUAL, re.MULTILINE))

    assert variables(file) <= rows


def test_the_manual_and_the_example_set_nothing_that_no_file_reads() -> None:
    known = set().union(*map(variables, FILES)) | {"PIP_INDEX_URL"}
    rows = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", MANUAL, re.MULTILINE))
    example = (ROOT / "docker/.env.example").read_text()

    assert rows == known
    assert set(re.findall(r"^#?([A-Z_0-9]+)=", example, re.MULTILINE)) <= known


@pytest.mark.parametrize("name", ["tinyllama", "vllm"])
@pytest.mark.parametrize(
    "variable", ["INFERLINE_BASE_URL", "INFERLINE_PROVIDER_TOKEN", "PROVIDER_ID"]
)
def test_what_is_missing_is_asked_for_in_a_sentence(name: str, variable: str) -> None:
    text = (ROOT / f"docker/docker-compose-{name}.yml").read_text()

    assert re.search(rf"\$\{{{variable}:?\?Set {variable} to [^}}]{{30,}}\}}", text)


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_provider_is_told_only_what_it_knows(service: dict[str, Any]) -> None:
    aws = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_EC2_METADATA_DISABLED"}

    ours = {option.variable for option in options_of(ProviderSettings)}

    assert set(service["environment"]) <= ours | aws | TRACES | PROXIES


def test_the_weights_are_told_by_their_hash() -> None:
    for name in ("local-demo", "tinyllama"):
        text = (ROOT / f"docker/docker-compose-{name}.yml").read_text()
        assert re.search(r"\$\{MODEL_SHA256-[0-9a-f]{64}\}", text)
    assert model.FILE_SHA256 in MANUAL
    assert model.FILE in MANUAL


@pytest.mark.parametrize("service", [*PROVIDERS, *GATEWAYS])
def test_containers_ask_each_other_without_a_proxy(service: dict[str, Any]) -> None:
    environment = service["environment"]
    asked = {urlsplit(str(value)).hostname for value in environment.values()} - {None}
    direct = set(environment["NO_PROXY"].split(","))

    assert {host for host in asked if host.isidentifier()} <= direct
    assert environment["no_proxy"] == environment["NO_PROXY"]
