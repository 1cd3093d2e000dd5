"""How an estimate is shown, and that a run goes on without one."""

from pathlib import Path
from typing import Any

import pytest

from app.cli import estimate
from app.cli.estimate import NotEstimated, line, table
from app.cli.terminal import Terminal
from tests.evaluation.shop import SCHEMA
from training.config import Sft, StageManifest

GIB = 1 << 30


def found(need: int) -> dict[str, Any]:
    tokens = {"read": 0, "learned": 216_000, "written": 0}
    sft = {"stage": "sft", "minutes": 30.0, "bounded": True, "tokens": tokens, "memory_bytes": need}
    evaluation = {
        "stage": "evaluation", "minutes": 19.4, "bounded": False, "tokens": tokens, "memory_bytes": None,
    }  # fmt: skip
    machine = {"processor": "A Processor", "cores": 2, "memory_bytes": 8 * GIB, "precision": "fp32"}
    return {
        "machine": machine,
        "stages": [sft, evaluation],
        "minutes": 49.4,
        "memory_bytes": need,
    }


def test_one_line_says_how_long_where_and_what_is_cut_short() -> None:
    assert line(found(4 * GIB)) == (
        "about 49 minutes here (A Processor, 2 cores, fp32): sft 30.0 (max_seconds), evaluation 19.4; "
        "4.0 GiB of memory at most"
    )


def test_too_little_memory_is_said_with_what_to_do() -> None:
    assert "this machine has 8.0 GiB, so lower the stages' micro_batch_size" in line(found(9 * GIB))
    assert "micro_batch_size" not in line(found(7 * GIB))


def test_the_table_has_a_row_for_each_stage_and_one_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(soft_wrap=False).print(table(found(4 * GIB)))
    shown = capsys.readouterr().out
    assert "216,000" in shown and "49" in shown and "30.0 (max_seconds)" in shown


@pytest.mark.seconds
def test_a_probe_that_fails_says_why(tmp_path: Path) -> None:
    manifest = StageManifest(
        stage=Sft(), base=str(tmp_path / "nowhere"), category_schema=SCHEMA,
        conversations=tmp_path / "none.jsonl", traces=tmp_path / "none.jsonl", out=tmp_path,
    )  # fmt: skip
    with pytest.raises(NotEstimated) as caught:
        estimate.estimate([manifest], 0)
    assert any("nowhere" in detail for detail in caught.value.details)
