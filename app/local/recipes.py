"""How each process of `steerwise serve` is started, and how one sees that it is up."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx

import app
from app.http.server import STOP_TIMEOUT_S
from app.infra.processes import spawn
from app.jobs.handlers import Queue
from app.local.home import log_file
from app.local.part import Health, PartRecipe
from app.local.redis import RedisServer
from app.serving import vllm
from app.serving.vllm import VllmEndpoint
from app.settings import Settings

START_TIMEOUT_S = 300  # of a Python process, on a machine that is busy with something else
_REDIS_STOP_TIMEOUT_S = 10
_HAND_BACK_S = 15  # for a job's row, when its training has been stopped
_PROBE_TIMEOUT_S = 2
_HANGS_S = 300  # a vLLM that is only busy answers this question all the same
_SETTLED_S = 3

HealthOf = Callable[[subprocess.Popen[bytes]], Health]


class LocalSetup(NamedTuple):
    """What all of them share. lock: of the home. sockets: the folder for theirs."""

    settings: Settings
    environment: Mapping[str, str]
    lock: int
    sockets: Path

    def with_settings(self, **changed: str) -> "LocalSetup":
        """The children read their settings from the environment."""
        added = {f"STEERWISE_{name.upper()}": value for name, value in changed.items()}
        return self._replace(environment={**self.environment, **added})


def environment(settings: Settings) -> dict[str, str]:
    """settings: with what the options of the command have changed."""
    root = str(
        Path(next(iter(app.__path__))).parent
    )  # so that `-m app.cli.program` is found from any directory
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {
        "STEERWISE_HOME": str(settings.home),
        "STEERWISE_HOST": settings.host,
        "STEERWISE_PORT": str(settings.port),
        "PYTHONPATH": paths,
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **ours}


def redis(server: RedisServer) -> PartRecipe:
    """It runs already."""

    def start() -> subprocess.Popen[bytes]:
        server.revive()
        return server.child

    def health(_child: subprocess.Popen[bytes]) -> Health:
        return Health.well if server.healthy() else Health.silent

    return PartRecipe("redis", start, health, server.log, START_TIMEOUT_S, _REDIS_STOP_TIMEOUT_S)


def serving(ground: LocalSetup, model: Path, endpoint: VllmEndpoint) -> PartRecipe:
    settings = ground.settings
    log = log_file(settings.home, "vllm")
    env = {**vllm.environment(settings), "PYTHONPATH": ground.environment["PYTHONPATH"]}

    def start() -> subprocess.Popen[bytes]:
        if endpoint.socket is not None:
            endpoint.socket.unlink(missing_ok=True)  # left by one that was killed
        return spawn(vllm.command(model, endpoint, settings), log, env, [ground.lock])

    return PartRecipe(
        "vllm",
        start,
        partial(_answers, endpoint, "/health"),
        log,
        settings.vllm_start_timeout_s,
        settings.vllm_stop_timeout_s,
        _HANGS_S,
    )


def api(ground: LocalSetup) -> PartRecipe:
    health = partial(_answers, VllmEndpoint(url_here(ground.settings)), "/readyz")
    return _ours(ground, "api", ["api"], health, STOP_TIMEOUT_S)


def worker(ground: LocalSetup, queue: Queue) -> PartRecipe:
    """One for each queue: a deployment does not wait behind a day of training."""
    flag = ground.sockets / f"worker-{queue.value}.ready"

    def health(_child: subprocess.Popen[bytes]) -> Health:
        return Health.well if flag.exists() else Health.silent

    arguments = ["worker", "--queues", queue.value, "--ready-file", str(flag)]
    stop_timeout_s = ground.settings.stage_stop_timeout_s + _HAND_BACK_S
    recipe = _ours(ground, f"worker-{queue.value}", arguments, health, stop_timeout_s)

    def start() -> subprocess.Popen[bytes]:
        flag.unlink(missing_ok=True)  # left by one that was killed
        return recipe.start()

    return recipe._replace(start=start)


def dispatcher(ground: LocalSetup) -> PartRecipe:
    started: dict[int, float] = {}

    def health(child: subprocess.Popen[bytes]) -> Health:
        """It answers nobody: that it has not ended is all there is to see."""
        since = started.setdefault(child.pid, time.monotonic())
        return Health.well if time.monotonic() - since > _SETTLED_S else Health.silent

    return _ours(ground, "dispatcher", ["dispatcher"], health, _HAND_BACK_S)


def free_port() -> int:
    """Free on this machine when asked; somebody else may be faster."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def url_here(settings: Settings) -> str:
    """Of the API, as this machine reaches it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def vllm_urls(endpoint: VllmEndpoint) -> str:
    """STEERWISE_VLLM_URLS for the processes that ask it."""
    return json.dumps([endpoint.url])


def _ours(
    ground: LocalSetup, name: str, arguments: list[str], health: HealthOf, stop_timeout_s: float
) -> PartRecipe:
    log = log_file(ground.settings.home, name)
    argv = [sys.executable, "-m", "app.cli.program", *arguments]

    def start() -> subprocess.Popen[bytes]:
        return spawn(argv, log, ground.environment, [ground.lock])

    return PartRecipe(name, start, health, log, START_TIMEOUT_S, stop_timeout_s)


def _answers(endpoint: VllmEndpoint, path: str, _child: subprocess.Popen[bytes]) -> Health:
    """vLLM answers 503 for ever when its engine is dead. The API does when its database is away, and recovers."""
    try:
        with endpoint.client(timeout_s=_PROBE_TIMEOUT_S) as client:
            status = client.get(path).status_code
    except httpx.TransportError:
        return Health.silent
    if status == 200:
        return Health.well
    return Health.sick if status == 503 and path == "/health" else Health.silent
