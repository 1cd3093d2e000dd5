"""The examples are run as they stand there (own_data.py needs a product that trains: app/local/test_story.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation import models
from tests.evaluation.fake_server import FakeServer, listening
from tests.evaluation.shop import SCHEMA, conversations
from tests.evaluation.tokenizer import save_tokenizer
from tests.steerwise.conftest import Place

pytestmark = pytest.mark.seconds

ROOT = Path(__file__).parents[2]


def example(name: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_an_answer_is_shown_in_either_mode(place: Place) -> None:
    theirs = {"STEERWISE_URL": place.url, "STEERWISE_API_KEY": place.key}
    shown = example("classify.py", "shop", "Where is my parcel?", **theirs)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("category:   delivery\n") and "evidence:" in shown.stdout
    refused = example("classify.py", "nothing", "Where is my parcel?", **theirs)
    assert (refused.returncode, refused.stdout) == (1, "") and "no such schema" in refused.stderr


def test_a_program_that_reaches_nothing_says_so_in_a_line() -> None:
    away = example("own_data.py", "shop", "nowhere.json", "nowhere.jsonl", STEERWISE_API_KEY="sw_x")
    assert away.returncode == 1 and away.stderr.count("\n") == 1 and "nowhere.json" in away.stderr


def test_any_server_is_measured(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(SCHEMA.model_dump_json())
    (tmp_path / "asked.jsonl").write_text("".join(c.model_dump_json() + "\n" for c in conversations()))
    save_tokenizer(tmp_path)
    with listening(FakeServer(models.oracle())) as address:
        shown = example(
            "measure_server.py",
            *(tmp_path / "schema.json", tmp_path / "asked.jsonl", address, "fake", tmp_path),
            *("--max-items", "120"),
        )
    assert shown.returncode == 0, shown.stderr
    accuracy, *_, invariance = shown.stdout.splitlines()
    assert accuracy.startswith("accuracy         1.000 (") and invariance.startswith(
        "invariance       1.000 ("
    )
