"""What `steerwise bench training` makes of the stages' events."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from app.studies import training
from app.studies.training import _Ran
from training.config import Stage


def test_steps_are_timed_by_their_events_alone(tmp_path: Path) -> None:
    lines = [
        {"at": "2026-01-01T00:00:00.000+00:00", "event": "progress", "message": "training"},
        {"at": "2026-01-01T00:00:09.000+00:00", "event": "metric", "loss": 2.0},
        {"at": "2026-01-01T00:00:11.500+00:00", "event": "metric", "loss": 1.0},
        {"at": "2026-01-01T00:00:12.000+00:00", "event": "metric", "validation_accuracy": 1.0},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = training._step_times(path)
    assert second - first == pytest.approx(2.5)


def test_each_stage_is_compared_with_its_neighbour_of_the_same_round() -> None:
    """The machine was three times as slow in the second round, which no ratio may show."""
    seconds = {"sft": 2.0, "sdft": 3.0, "rl": 4.0, "rl_by_trl": 8.0}
    ran = {name: [_Ran(s, 10, None, 100), _Ran(3 * s, 30, 5.0, 50)] for name, s in seconds.items()}
    speed = training._speed(ran, 4, dict.fromkeys(seconds, 32))
    assert speed.sdft_over_sft_wall == pytest.approx(1.5)
    assert speed.rl_samples_over_trl == pytest.approx(2.0)
    sft = speed.stages["sft"]
    assert (sft.seconds_per_step, sft.tokens, sft.flops, sft.peak_memory_mib) == (4.0, 20, 5.0, 100)
    assert sft.sequences_per_s == pytest.approx(8)
    assert speed.rounds == 2


def test_the_ways_are_stages_that_can_be_run() -> None:
    arms = training._arms(3)
    stages = {arm.name: TypeAdapter[Stage](Stage).validate_python(arm.stage) for arm in arms}
    assert stages["rl"] == stages["rl_by_trl"]
    assert {arm.name: arm.sequences for arm in arms} == {
        name: stage.batch_size for name, stage in stages.items()
    }
