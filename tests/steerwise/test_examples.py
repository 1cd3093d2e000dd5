"""Examples are run as they stand there; the others in app/local/test_story.py and evaluation/test_command_line.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.contract.mode import Mode
from tests.app.classify.serving_contexts import SAID, TEXT
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


def asked(place: Place, schema: str, text: str) -> subprocess.CompletedProcess[str]:
    return example("classify.py", schema, text, STEERWISE_URL=place.url, STEERWISE_API_KEY=place.key)


@pytest.mark.parametrize("mode", Mode)
def test_an_answer_is_shown_in_either_mode(place: Place, mode: Mode) -> None:
    shown = asked(place, "shop", TEXT)
    assert shown.returncode == 0, shown.stderr
    assert (
        shown.stdout.startswith("category:   delivery\nconfidence: ") and "gate:       passed" in shown.stdout
    )
    reasons = [f"reasoning:  {SAID}", "evidence:   message 0: Where is my parcel"]
    assert [one in shown.stdout for one in reasons] == [mode is Mode.reasoned] * 2


def test_a_question_that_is_refused_is_told_in_a_line(place: Place) -> None:
    refused = asked(place, "nothing", TEXT)
    assert (refused.returncode, refused.stdout) == (1, "") and "no such schema" in refused.stderr


def test_a_program_that_reaches_nothing_says_so_in_a_line() -> None:
    away = example("own_data.py", "shop", "nowhere.json", "nowhere.jsonl", STEERWISE_API_KEY="sw_x")
    assert away.returncode == 1 and away.stderr.count("\n") == 1 and "nowhere.json" in away.stderr
