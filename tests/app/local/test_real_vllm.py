"""`steerwise serve` with the real vLLM and the starter model, as on a bare machine."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.faults.process_tree import alive
from app.serving.vllm import VllmEndpoint
from tests.app.local.test_product import Place, next_of, served, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Nothing stands before the real vLLM on the path of modules."""
    (tmp_path / "path").mkdir()
    with TemporaryDirectory(prefix="sw-") as sockets:
        yield Place(tmp_path / "home", tmp_path / "path", Path(sockets))


def test_the_real_model_server_is_started_revived_and_stopped(place: Place) -> None:
    with served(place) as product:
        assert re.search(rf"http://127\.0\.0\.1:{product.port}\b", product.read_until("ready"))
        [path] = place.sockets.glob("steerwise-*/vllm-*/vllm.sock")
        with VllmEndpoint("http://vllm", path).client() as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["base"]
            old = product.pid("vllm")
            assert old is not None
            os.kill(old, signal.SIGKILL)
            next_of(product, "ended: signal SIGKILL")
            assert re.search("vllm +ready", next_of(product, "ready after"))
            assert client.get("/health").status_code == 200
        everybody = product.everybody()
        product.child.send_signal(signal.SIGINT)
        assert product.child.wait(120) == 0
        until(lambda: not any(alive(pid) for pid in everybody), "a process was left behind")
    assert list(place.sockets.iterdir()) == []
