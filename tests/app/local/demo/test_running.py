"""A product of the demo's own: real processes, but for a model server that only says that it is well."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.client.api import Api
from app.cli.console import ConsoleReporter
from app.faults.process_tree import alive, children_of, descendants
from app.local.demo.running import NotServing, running
from app.settings import Settings
from tests.app.local.stand_in import Place, stand_in

PARTS = ("redis", "vllm", "worker-cpu", "worker-gpu", "dispatcher", "api")
pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Place]:
    with stand_in(tmp_path) as found:
        yield found


@pytest.fixture
def settings(target: Place, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYTHONPATH", str(target.path))
    monkeypatch.setenv("STEERWISE_SOCKET_DIR", str(target.sockets))
    monkeypatch.setenv("STEERWISE_VLLM_DEVICE", "cpu")
    return Settings()


def test_it_serves_from_a_folder_of_its_own_and_leaves_nothing_running(
    target: Place, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERWISE_DATABASE_URL", "postgresql://somebody@elsewhere/precious")
    monkeypatch.setenv("STEERWISE_VLLM_URLS", "http://elsewhere")
    keys, others = [], set(children_of(os.getpid()))  # servers of other tests
    for _ in range(2):
        with running(target.home, settings, ConsoleReporter()) as found, Api(found) as api:
            assert api.get("/v1/me")["platform_admin"] is True
            keys.append(found.api_key)
            (product,) = set(children_of(os.getpid())) - others
            everybody = {product, *descendants(product)}
        assert len(everybody) > len(PARTS) and not any(alive(pid) for pid in everybody)
    assert keys[0] == keys[1]
    assert (target.home / "steerwise.db").is_file()


def test_what_keeps_it_from_starting_is_said(
    target: Place, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERWISE_BASE", "/nowhere/at/all")
    with pytest.raises(NotServing) as caught, running(target.home, settings, ConsoleReporter()):
        pass
    assert any("/nowhere/at/all" in line for line in caught.value.details)
