"""The whole product as one command: real processes, but for the model server, which only answers that it is well."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.faults.process_tree import alive, children_of, descendants
from app.infra.processes import log_tail
from app.local.recipes import free_port
from app.serving.base import STARTER
from tests.app.local.stand_in import Place, stand_in

pytestmark = [pytest.mark.fault, pytest.mark.slow]
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 480  # for one step, on a machine that is busy with something else
NAMES = ("redis", "vllm", "worker-cpu", "worker-gpu", "dispatcher", "api")


class Serve:
    def __init__(self, home: Path, port: int, child: subprocess.Popen[str]):
        self.home, self.port, self.child = home, port, child
        self.output = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def read_until(self, word: str) -> str:
        """The line that begins with it."""
        assert self.child.stdout is not None
        while line := self.child.stdout.readline():
            self.output += line
            if line.startswith(word):
                return line
        logs = sorted((self.home / "logs").glob("*.log"))
        tails = "\n".join(f"{log.name}: {log_tail(log, 5)}" for log in logs)
        raise AssertionError(f"it ended before {word!r}:\n{self.output}\n{tails}")

    def pid(self, name: str) -> int | None:
        """Of the process of this name, a child of ours."""
        marks = {
            "redis": "redis-server", "vllm": "vllm.entrypoints", "worker-cpu": "worker --queues cpu",
            "worker-gpu": "worker --queues gpu", "dispatcher": "app.cli.program dispatcher",
            "api": "app.cli.program api",
        }  # fmt: skip
        found = [pid for pid in children_of(self.child.pid) if marks[name] in command_of(pid)]
        return found[0] if found else None

    def everybody(self) -> set[int]:
        return descendants(self.child.pid)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with stand_in(tmp_path) as found:
        yield found


def environment(place: Place) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STEERWISE_")}
    return clean | {
        "PYTHONPATH": str(place.path),
        "STEERWISE_BASE": STARTER,  # the one that ships is built first, which takes a while
        "STEERWISE_SOCKET_DIR": str(place.sockets),
        "STEERWISE_VLLM_DEVICE": "cpu",
    }


def command(place: Place, port: int, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "app.cli.program",
        "serve",
        "--home",
        str(place.home),
        "--port",
        str(port),
        *more,
    ]


@contextmanager
def served(place: Place, *more: str) -> Iterator[Serve]:
    port = free_port()
    child = subprocess.Popen(
        command(place, port, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(place),
        start_new_session=True,
    )
    found = Serve(place.home, port, child)
    try:
        yield found
    finally:
        everybody = found.everybody()
        child.kill()
        child.wait()
        for pid in everybody:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_it_starts_says_where_restarts_what_dies_and_leaves_nothing_behind(place: Place) -> None:
    with served(place) as product:
        key = product.read_until("admin key").split()[2]
        ready = product.read_until("ready")
        assert product.url in ready
        assert httpx.get(f"{product.url}/readyz").json()["redis"] == "reachable"
        me = httpx.get(f"{product.url}/v1/me", headers={"Authorization": f"Bearer {key}"})
        assert me.json()["platform_admin"] is True
        check_second_start_is_refused(place, product)

        before = {name: product.pid(name) for name in NAMES}
        assert None not in before.values(), before
        for name in NAMES:
            os.kill(before[name] or 0, signal.SIGKILL)
        for name in NAMES:
            until(
                lambda name=name: product.pid(name) not in (None, before[name]),
                f"{name} was not started again",
            )
        for _ in NAMES:
            assert "ended: signal SIGKILL" in next_of(product, "ended")
        until(lambda: readyz(product.url) == "reachable", "the API did not come back")

        until(lambda: len(product.everybody()) >= len(NAMES) + 2, "a worker has no pool process")
        everybody = product.everybody()
        product.child.send_signal(signal.SIGINT)
        product.read_until("stopped")
        assert product.child.wait(TIMEOUT_S) == 0
        until(lambda: not any(alive(pid) for pid in everybody), "a process was left behind")
    assert list(place.sockets.iterdir()) == []


def check_second_start_is_refused(place: Place, product: Serve) -> None:
    argv = command(place, free_port())
    second = subprocess.run(
        argv, capture_output=True, text=True, cwd=ROOT, env=environment(place), timeout=TIMEOUT_S
    )
    assert second.returncode == 2, second.stdout + second.stderr
    assert f"process {product.child.pid}" in second.stderr


def test_when_it_is_killed_everything_ends_and_it_can_be_started_again(place: Place) -> None:
    with served(place, "--no-vllm") as product:
        product.read_until("ready")
        everybody = product.everybody()
        product.child.kill()
        until(lambda: not any(alive(pid) for pid in everybody), "a process was left behind")
    with served(place, "--no-vllm") as again:
        assert "made before" in again.read_until("admin key")
        again.read_until("ready")
        again.child.terminate()
        assert again.child.wait(TIMEOUT_S) == 0


def test_a_port_in_use_is_refused_before_anything_is_started_or_written(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        argv = command(place, taken.getsockname()[1])
        ended = subprocess.run(
            argv, capture_output=True, text=True, cwd=ROOT, env=environment(place), timeout=TIMEOUT_S
        )
    assert ended.returncode == 2
    assert "--port" in ended.stderr
    assert not place.home.exists()


def next_of(product: Serve, what: str) -> str:
    assert product.child.stdout is not None
    while line := product.child.stdout.readline():
        product.output += line
        if what in line:
            return line
    raise AssertionError(product.output)


def readyz(url: str) -> str | None:
    try:
        found: str = httpx.get(f"{url}/readyz").json().get("redis")
        return found
    except (httpx.TransportError, json.JSONDecodeError):
        return None


def command_of(pid: int) -> str:
    try:
        return re.sub("\0", " ", Path(f"/proc/{pid}/cmdline").read_text())
    except FileNotFoundError:
        return ""
