"""A product that runs, but for training and the model: its stages train in no time, and a stand-in for vLLM answers."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from app.auth import bootstrap
from app.cli.client.profile import Target
from app.infra.processes import spawn, stop
from app.local.redis import embedded_redis
from app.main import create_app
from app.serving.base import STARTER
from app.settings import Settings
from evaluation.contract.render import plain
from tests.app.local import story_work
from tests.evaluation.fake_server import Asked, Model, Reply, says
from tests.evaluation.models import oracle
from tests.evaluation.shop import conversations
from tests.servers import databases
from tests.servers.s3 import serving
from tests.servers.vllm import FakeVllm, listening, socket_path

ROOT = Path(__file__).parents[3]
KNOWN = {plain(one.said[-1]) for one in conversations()}


class Product(NamedTuple):
    """place: with the key of an admin of the platform. environment: of its processes. logs: of those."""

    place: Target
    environment: dict[str, str]
    logs: Path


def reader(asked: Asked) -> Reply:
    """Follows the test shop's definitions; whatever else is said is the second category."""
    if any(known in asked.customer for known in KNOWN):
        return oracle()(asked)
    return says(asked.options[1].code, f'The customer says "{asked.customer}".')


@contextmanager
def playing(folder: Path, model: Model = reader) -> Iterator[Product]:
    with ExitStack() as stack:
        socket = stack.enter_context(socket_path())
        model_url = stack.enter_context(listening(FakeVllm({"base": model}), socket))
        redis = stack.enter_context(embedded_redis(folder / "redis", Settings()))
        told = {
            "home": str(folder / "home"),
            "database_url": databases.sqlite_url(folder),
            "storage_url": str(folder / "storage"),
            "redis_url": redis.url,
            "vllm_urls": model_url,
            "base": STARTER,
        }
        (folder / "play").mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERWISE_")}
        environment |= {f"STEERWISE_{name.upper()}": value for name, value in told.items()}
        environment |= {"PYTHONPATH": str(ROOT), "STEERWISE_TEST_PLAY": str(folder / "play")}
        for role in ("dispatcher", "worker"):
            argv = [sys.executable, "-m", story_work.__name__, role]
            stack.callback(stop, spawn(argv, folder / f"{role}.log", environment), 20)
        settings = Settings(**told)  # type: ignore[arg-type]
        url = stack.enter_context(serving(create_app(settings)))
        yield Product(Target(url, bootstrap.run(settings).text, None), environment, folder)
