"""What the README tells is run as it stands there: every block marked `sh`, with a shell, one after the other.

The API, the worker, the dispatcher, Redis and the command line are real. The stages train in no time, and what they
made is answered for by a stand-in for vLLM that reads definitions.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from app.auth import bootstrap
from app.children import log_tail, spawn, stop
from app.main import create_app
from app.serve.redis import embedded_redis
from app.settings import Settings
from tests.app.serve import story_work
from tests.evaluation.fake_server import Asked, Reply, says
from tests.evaluation.models import oracle
from tests.evaluation.shop import SCHEMA, conversations
from tests.servers import databases
from tests.servers.s3 import serving
from tests.servers.vllm import FakeVllm, listening, socket_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 400  # for a block, on a machine that is busy with something else


class Terminal(NamedTuple):
    folder: Path
    environment: dict[str, str]
    logs: Path

    def run(self, block: str) -> str:
        """What it printed, standard error included."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        tails = [line for log in sorted(self.logs.glob("*.log")) for line in log_tail(log, 10)]
        assert ended.returncode == 0, "\n".join([ended.stdout, *tails])
        return ended.stdout


def reader(asked: Asked) -> Reply:
    """Follows the test shop's definitions; whatever else is said is the second category."""
    try:
        return oracle()(asked)
    except KeyError:
        return says(asked.options[1].code, f'The customer says "{asked.customer}".')


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Where the README's reader stands: a folder with an environment and two files, and a product that runs."""
    with ExitStack() as stack:
        socket = stack.enter_context(socket_path())
        model_url = stack.enter_context(listening(FakeVllm({"base": reader}), socket))
        redis = stack.enter_context(embedded_redis(tmp_path / "redis", Settings()))
        told = {
            "home": str(tmp_path / "home"),
            "database_url": databases.sqlite_url(tmp_path),
            "storage_url": str(tmp_path / "storage"),
            "redis_url": redis.url,
            "vllm_urls": model_url,
        }
        (tmp_path / "play").mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERWISE_")}
        environment |= {f"STEERWISE_{name.upper()}": value for name, value in told.items()}
        environment |= {"PYTHONPATH": str(ROOT), "STEERWISE_TEST_PLAY": str(tmp_path / "play")}
        for role in ("dispatcher", "worker"):
            argv = [sys.executable, "-m", story_work.__name__, role]
            stack.callback(stop, spawn(argv, tmp_path / f"{role}.log", environment), 20)
        settings = Settings(**told)  # type: ignore[arg-type]
        url = stack.enter_context(serving(create_app(settings)))
        folder = _folder(tmp_path)
        key = bootstrap.run(settings).text
        theirs = {
            "STEERWISE_URL": url,
            "STEERWISE_API_KEY": key,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "EDITOR": "sed -i 's/Damaged goods/Broken goods/'",
            "VISUAL": "",
        }
        yield Terminal(folder, environment | theirs, tmp_path)


def test_what_the_readme_tells_happens(terminal: Terminal) -> None:
    with_commands, with_curl = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    told = terminal.run(with_commands)
    answers = [line for line in told.splitlines() if line.startswith("by: ")]
    assert [re.sub(", model .*", "", line) for line in answers] == [
        "by:        schema version 1",
        "by:        schema version 2",
    ], told
    answered = terminal.run(with_curl)
    assert "event: end" in answered
    assert answered.splitlines()[-1].startswith("{") and '"category":"tracking"' in answered


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "schema.json").write_text(SCHEMA.model_dump_json())
    lines = [row.model_dump_json(exclude_unset=True) for row in conversations()]
    (folder / "conversations.jsonl").write_text("\n".join(lines) + "\n")
    return folder
