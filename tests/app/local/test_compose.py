"""docker-compose.yml and Dockerfile, as far as they can be checked without Docker: what they name exists."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.cli.program import cli
from app.settings import Settings

ROOT = Path(__file__).parents[3]
OURS = ("migrate", "api", "dispatcher", "cpu-worker", "gpu-worker", "vllm")
SERVERS = ("postgres", "redis", "storage")
SERVICE_KEYS = {
    "build", "cap_add", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init", "mem_limit",
    "networks", "pids_limit", "ports", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs",
    "user", "volumes",
}  # fmt: skip
# What each of ours is told, beyond where it keeps things. vLLM runs models that tenants trained: it gets nothing else.
DATABASE = {"STEERWISE_HOME", "STEERWISE_DATABASE_URL"}
ALL_BUT_ITS_OWN = DATABASE | {
    "STEERWISE_PLATFORM_DATABASE_URL", "STEERWISE_REDIS_URL", "STEERWISE_STORAGE_URL", "STEERWISE_VLLM_URLS",
    "STEERWISE_BASE", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION",
}  # fmt: skip
TOLD = {
    "migrate": DATABASE,
    "api": ALL_BUT_ITS_OWN | {"STEERWISE_SECRET", "STEERWISE_TEACHERS", "STEERWISE_OIDC"},
    "dispatcher": ALL_BUT_ITS_OWN,
    "cpu-worker": ALL_BUT_ITS_OWN,
    "gpu-worker": ALL_BUT_ITS_OWN | {"STEERWISE_TEACHERS"},
    "vllm": {"STEERWISE_HOME", "STEERWISE_BASE"},
}
# Services that end, or that nothing can be asked of.
WITHOUT_HEALTHCHECK = {"migrate", "dispatcher"}
SECRETS = {
    "POSTGRES_PASSWORD", "OWNER_PASSWORD", "APP_PASSWORD", "PLATFORM_PASSWORD", "REDIS_PASSWORD",
    "STORAGE_SECRET_KEY", "STEERWISE_SECRET",
}  # fmt: skip


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return found


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def commands() -> dict[str, Any]:
    return dict(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]


def test_every_service_is_there_and_has_only_keys_that_compose_knows() -> None:
    assert set(SERVICES) == {*OURS, *SERVERS}
    assert {key for service in SERVICES.values() for key in service} <= SERVICE_KEYS


def test_networks_volumes_and_services_that_are_named_exist() -> None:
    whole = compose()
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= set(whole["networks"]), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in whole["volumes"], name
    hosts = re.findall(r"(?:@|//)(\w[\w-]*)[:/]\w", yaml.safe_dump(SERVICES))
    assert set(hosts) - set(SERVICES) <= {"127"}


def test_what_is_waited_for_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) != (name in WITHOUT_HEALTHCHECK), name
        for other, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert ("healthcheck" in SERVICES[other]) == healthy, (name, other)


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_ours_with_options_that_it_has(name: str) -> None:
    words = SERVICES[name]["command"]
    known = {option for parameter in commands()[words[0]].params for option in parameter.opts}
    assert {word for word in words[1:] if word.startswith("--")} <= known


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.gpu.yml"])
def test_every_setting_that_is_named_exists(file: str) -> None:
    for service in compose(file)["services"].values():
        named = [name for name in service.get("environment", {}) if name.startswith("STEERWISE_")]
        assert {name.removeprefix("STEERWISE_").lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize("name", ["api", "cpu-worker", "vllm"])
def test_the_settings_of_a_service_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        if value is not None:  # which is taken from .env
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:[^}]*\}", "a" * 40, value))
    assert Settings().home == Path("/var/lib/steerwise")


def test_no_secret_has_a_default_and_all_are_in_the_example() -> None:
    used = dict(re.findall(r"\$\{(\w+)(:[?-])", (ROOT / "docker-compose.yml").read_text()))
    assert {name for name, kind in used.items() if kind == ":?"} == SECRETS
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert set(example) == set(used)
    assert all(example[name] == "" for name in SECRETS)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_database_is_used_as_a_role_that_owns_nothing() -> None:
    users = {
        name: re.search(r"//(\w+):", service["environment"]["STEERWISE_DATABASE_URL"])
        for name, service in SERVICES.items()
        if "STEERWISE_DATABASE_URL" in service.get("environment", {})
    }
    of_all = {
        re.search(r"//(\w+):", service["environment"]["STEERWISE_PLATFORM_DATABASE_URL"])[1]  # type: ignore[index]
        for service in SERVICES.values()
        if "STEERWISE_PLATFORM_DATABASE_URL" in service.get("environment", {})
    }
    assert of_all == {"steerwise_platform"}
    as_owner = {name for name, found in users.items() if found and found[1] == "steerwise_owner"}
    assert as_owner == {"migrate"}
    assert SERVICES["migrate"]["command"] == [
        "migrate", "--app-role", "steerwise_app", "--platform-role", "steerwise_platform"
    ]  # fmt: skip


def test_the_model_server_is_reached_by_our_own_services_alone() -> None:
    assert SERVICES["vllm"]["networks"] == ["serving"]
    assert compose()["networks"]["serving"]["internal"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_told_what_it_needs_and_nothing_else(name: str) -> None:
    assert set(SERVICES[name]["environment"]) == TOLD[name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_little_has_no_rights_and_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] and service["pids_limit"]
    assert name == "migrate" or service["stop_grace_period"]
    assert any(place.partition(":")[0] == "/tmp" for place in service["tmpfs"])
    assert "cap_add" not in service or name == "storage"
    # Ours are built so; those of others are told, but for one that gives its rights away by itself.
    assert name in OURS or name == "storage" or service["user"] not in ("root", "0")


def test_nothing_but_s3_with_its_keys_is_open_on_the_object_store() -> None:
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(SERVICES["storage"]["command"])
    assert SERVICES["storage"]["environment"]["AWS_SECRET_ACCESS_KEY"].startswith("${STORAGE_SECRET_KEY:?")


def test_a_worker_has_the_time_that_its_stage_needs_to_stop() -> None:
    grace_s = {
        name: int(one["stop_grace_period"].rstrip("s")) for name, one in SERVICES.items() if name != "migrate"
    }
    assert grace_s["gpu-worker"] >= Settings().stage_stop_timeout_s + 15
    assert grace_s["vllm"] > Settings().vllm_stop_timeout_s


def test_the_images_are_built_from_stages_that_exist_and_get_every_file_that_they_copy() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS ([\w-]+)$", dockerfile, flags=re.MULTILINE))
    assert {SERVICES[name]["build"]["target"] for name in OURS} <= stages
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {one.rstrip("*") for one in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    named = {*project["project"]["license-files"], project["project"]["readme"], "pyproject.toml"}
    assert kept == packages | named | {"docker/requirements"}
