"""What the README tells is run as it stands there: every block marked `sh`, with a shell, one after the other.

The API, the worker, the dispatcher, Redis and the command line are real. The stages train in no time, and what they
made is answered for by a stand-in for vLLM that reads definitions.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from app.infra.processes import log_tail
from tests.app.local.playing import ROOT, playing
from tests.evaluation.shop import SCHEMA, conversations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 400  # for a block, on a machine that is busy with something else


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
            timeout=TIMEOUT_S,
            check=False,
        )
        tails = [line for log in sorted(self.logs.glob("*.log")) for line in log_tail(log, 10)]
        assert ended.returncode == 0, "\n".join([ended.stdout, *tails])
        return ended.stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Where the README's reader stands: a folder with an environment and two files, and a product that runs."""
    with playing(tmp_path) as product:
        theirs = {
            "STEERWISE_URL": product.place.url,
            "STEERWISE_API_KEY": str(product.place.api_key),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "EDITOR": "sed -i 's/Damaged goods/Broken goods/'",
            "VISUAL": "",
        }
        yield Terminal(_folder(tmp_path), product.environment | theirs, product.logs)


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


def test_what_the_example_with_data_of_ones_own_does_happens(terminal: Terminal) -> None:
    told = terminal.run(
        f"""
        .venv/bin/steerwise tenants create shop
        export STEERWISE_TENANT=shop
        export STEERWISE_API_KEY=$(.venv/bin/steerwise keys create example --scope admin --json |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])')
        .venv/bin/python {ROOT}/examples/own_data.py shop schema.json conversations.jsonl
        .venv/bin/python {ROOT}/examples/classify.py shop "where is my parcel"
        """
    )
    assert "gate: passed" in told and "deployment: live" in told and "category:   tracking" in told


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "schema.json").write_text(SCHEMA.model_dump_json())
    lines = [row.model_dump_json(exclude_unset=True) for row in conversations()]
    (folder / "conversations.jsonl").write_text("\n".join(lines) + "\n")
    return folder
