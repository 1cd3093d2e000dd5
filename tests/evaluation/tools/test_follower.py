"""A model that follows every edit is found to, and what it lacks to 1 is the noise of few conversations."""

import random
from pathlib import Path

import pytest

from evaluation.contract.record import Split
from evaluation.suites import steerability
from evaluation.tools.follower import follow, main
from tests.evaluation.shop import SCHEMA, conversations, of_split


@pytest.mark.parametrize("max_items", [400, 20_000])
def test_who_is_always_right_has_all_of_it_at_any_budget(max_items: int) -> None:
    found = follow(
        steerability.build(SCHEMA, of_split(Split.test), max_items=max_items), 1.0, random.Random(0)
    )
    assert found.steerability == pytest.approx(1)
    assert found.flip_accuracy == 1


def test_who_misreads_half_has_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "schema.json", tmp_path / "rows.jsonl"
    files[0].write_text(SCHEMA.model_dump_json())
    files[1].write_text("".join(c.model_dump_json(exclude_unset=True) + "\n" for c in conversations()))
    given = [
        "--schema",
        str(files[0]),
        "--conversations",
        str(files[1]),
        "--draws",
        "4",
        "--max-items",
        "300",
    ]
    assert main([*given, "--right", "1", "0.5"]) == 0
    sure, unsure = capsys.readouterr().out.splitlines()
    assert sure.startswith("right 1.00: steerability 1.00 (standard deviation 0.00")
    assert float(unsure.split("steerability ")[1].split()[0]) < 0.9
    assert main([*given, "--right", "1.5"]) == 2
    assert "--right: from 0 to 1" in capsys.readouterr().err
