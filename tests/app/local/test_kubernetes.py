"""The manifests for Kubernetes keep to its own schema, and name commands, settings and paths that exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from app.cli.program import cli
from app.settings import Settings

ROOT = Path(__file__).parents[3]
MANIFESTS = [
    one
    for path in sorted((ROOT / "docker/kubernetes").glob("*.yaml"))
    for one in yaml.safe_load_all(path.read_text())
]
NAMES = [f"{one['kind']} {one['metadata']['name']}" for one in MANIFESTS]
OURS = {"api", "dispatcher", "worker", "migrate", "vllm"}


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in MANIFESTS:
        if "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def container(name: str) -> dict[str, Any]:
    found: dict[str, Any] = dict(pods())[name]["containers"][0]
    return found


@pytest.mark.parametrize("manifest", MANIFESTS, ids=NAMES)
def test_a_manifest_keeps_to_the_schema_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_schema_would_refuse_a_misspelt_field() -> None:
    broken = {**MANIFESTS[0], "metaData": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_no_two_of_a_kind_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_every_part_of_the_product_is_there_with_a_command_and_options_that_exist() -> None:
    commands = typer.main.get_command(cli).commands  # type: ignore[attr-defined]  # a group, as the program is one
    started = set()
    for name, _ in pods():
        words = container(name)["args"]
        started.add(words[0])
        known = {option for parameter in commands[words[0]].params for option in parameter.opts}
        assert {word for word in words[1:] if word.startswith("--")} <= known, name
    assert started == OURS


def test_every_setting_that_is_named_exists() -> None:
    [shared] = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    named = set(shared) | {pair["name"] for name, _ in pods() for pair in container(name).get("env", [])}
    assert {one.removeprefix("STEERWISE_").lower() for one in named} <= set(Settings.model_fields)


def test_no_secret_stands_in_a_manifest() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "docker/kubernetes").glob("*.yaml"))
    assert "kind: Secret" not in text and not re.search(r"://\w+:[^@\s]+@", text)


def test_a_part_gets_the_secrets_that_it_needs_and_no_others() -> None:
    shared = {"steerwise", "steerwise-storage"}
    assert {name: {one["secretRef"]["name"] for one in container(name).get("envFrom", []) if "secretRef" in one}
            for name, _ in pods()} == {
        "migrate": {"steerwise-owner"},
        "api": shared | {"steerwise-api", "steerwise-teachers"},
        "dispatcher": shared,
        "cpu-worker": shared,
        "gpu-worker": shared | {"steerwise-teachers"},
        "vllm": {"steerwise-storage-read"},
    }  # fmt: skip


def test_as_many_model_servers_are_named_as_there_are() -> None:
    [settings] = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    [servers] = [one for one in MANIFESTS if one["kind"] == "StatefulSet"]
    wanted = [
        f"http://vllm-{n}.{servers['spec']['serviceName']}:8100" for n in range(servers["spec"]["replicas"])
    ]
    assert settings["STEERWISE_VLLM_URLS"].split() == wanted


def test_everything_is_limited_unprivileged_and_ends_in_its_time() -> None:
    settings = Settings()
    for name, pod in pods():
        [one] = pod["containers"]
        assert "memory" in one["resources"]["limits"], name
        assert (
            pod["securityContext"]["runAsNonRoot"] and not one["securityContext"]["allowPrivilegeEscalation"]
        )
        assert one["securityContext"]["readOnlyRootFilesystem"], name
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert pod["automountServiceAccountToken"] is False, name
        if name.endswith("worker"):  # the trainer is stopped, and the row written
            assert pod["terminationGracePeriodSeconds"] >= settings.stage_stop_timeout_s + 15


def test_every_selector_selects_a_pod_and_every_volume_exists() -> None:
    templates = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in MANIFESTS
        if "template" in one.get("spec", {})
    ]
    for one in MANIFESTS:
        selector = one.get("spec", {}).get("selector") or one.get("spec", {}).get("podSelector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector).items()
            assert any(wanted <= labels.items() for labels in templates), one["metadata"]["name"]
    for name, pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == set(volumes), name


def test_no_two_pods_share_a_disk() -> None:
    assert "PersistentVolumeClaim" not in {one["kind"] for one in MANIFESTS}
    for name, pod in pods():
        assert all("emptyDir" in volume for volume in pod["volumes"]), name


def test_adapters_come_out_of_the_object_store_onto_the_disk_of_each_model_server() -> None:
    [shared] = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    assert Settings(**{name.removeprefix("STEERWISE_").lower(): value for name, value in shared.items()
                       if name == "STEERWISE_VLLM_FETCHES_ADAPTERS"}).vllm_fetches_adapters  # fmt: skip
    assert shared["STEERWISE_STORAGE_URL"].startswith("s3://")
    server = container("vllm")
    assert {"configMapRef": {"name": "steerwise"}} in server["envFrom"]
    [home] = [mount for mount in server["volumeMounts"] if mount["name"] == "home"]
    assert not home.get("readOnly", False)
    [policy] = [one["spec"] for one in MANIFESTS if one["kind"] == "NetworkPolicy"]
    assert policy["egress"], "a model server that reaches nothing cannot fetch an adapter"


def test_the_home_is_a_folder_that_its_process_makes_for_itself() -> None:
    """A mounted folder is open to its group, and a home that others may look into is refused."""
    [shared] = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    for name, pod in pods():
        for one in [*pod.get("initContainers", []), *pod["containers"]]:
            mounts = {mount["mountPath"] for mount in one["volumeMounts"]}
            told = {pair["name"]: pair["value"] for pair in one.get("env", [])}
            home = Path(told.get("STEERWISE_HOME", shared["STEERWISE_HOME"]))
            assert str(home) not in mounts and str(home.parent) in mounts, name


def test_who_has_no_torch_finds_the_base_already_built() -> None:
    commands = typer.main.get_command(cli).commands  # type: ignore[attr-defined]
    for name, pod in pods():
        needs = pod["containers"][0]["image"] == "steerwise-product" and name != "migrate"
        built = [one for one in pod.get("initContainers", []) if one["args"][0] == "base"]
        assert len(built) == needs, name
        for one in built:
            assert one["image"] == "steerwise-models" and "base" in commands
            settings = {"configMapRef": {"name": "steerwise"}}
            assert settings in one["envFrom"] and settings in pod["containers"][0]["envFrom"], name
            assert one["securityContext"] == pod["containers"][0]["securityContext"]
            assert "memory" in one["resources"]["limits"]
