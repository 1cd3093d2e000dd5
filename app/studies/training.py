"""What training costs: SFT, self-distillation and RL on the same data, and RL by TRL's own trainer, in one run.

Each stage is the child process that a run starts. What is compared is seconds a step without the first one, which
loads, warms up and counts; and the ways take turns, because a machine may grow slower from minute to minute.
"""

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter
from rich.table import Table

from app.cli.console import Progress
from app.runs import output
from app.runs.inputs import Inputs, checked
from app.runs.output import Output
from app.runs.supervisor import supervise
from app.serving.base import STARTER, find_base
from app.settings import Settings
from app.studies import subjects
from evaluation.atomic_files import write_whole
from evaluation.inference.predictor import load_codes
from training.config import Stage, StageManifest
from training.protocol import EVENTS

_LORA = {"rank": 8, "alpha": 16}
_LEARNING = {"batch_size": 32, "micro_batch_size": 32, "lora": _LORA, "perturb": False}
_RL = {"kind": "rl", "batch_size": 64, "micro_batch_size": 64, "beta": 0.0, "lora": _LORA, "perturb": False}


class TimedStage(NamedTuple):
    """command: of `python -m training`. sequences: learned from in a step."""

    name: str
    command: str
    stage: dict[str, Any]
    sequences: int


def _arms(steps: int) -> tuple[TimedStage, ...]:
    return (
        TimedStage(
            "sft",
            "run",
            {
                "kind": "sft",
                "max_steps": steps,
                "at_once": 0,
                "perturb": False,
                "encoder_steps": 0,
                **_LEARNING,
            },
            32,
        ),
        TimedStage("sdft", "run", {"kind": "distill", "steps": steps, **_LEARNING}, 32),
        TimedStage("rl", "run", {**_RL, "steps": steps}, 64),
        TimedStage("rl_by_trl", "baseline", {**_RL, "steps": steps}, 64),
    )


class StageSpeed(BaseModel):
    """Means over the rounds. tokens and flops: of a step."""

    seconds_per_step: float
    sequences_per_s: float
    tokens: float | None
    flops: float | None
    peak_memory_mib: float


class TrainingSpeed(BaseModel):
    """sdft_over_sft_wall: for the same number of sequences. Geometric means over the rounds."""

    sdft_over_sft_wall: float
    rl_samples_over_trl: float
    stages: dict[str, StageSpeed]
    round_ratios: dict[str, list[float]]
    steps: int
    rounds: int
    processors: int


class _Ran(NamedTuple):
    seconds_per_step: float
    tokens: float | None
    flops: float | None
    peak_memory_mib: float


def measure(steps: int, rounds: int, settings: Settings, progress: Progress) -> TrainingSpeed:
    """steps: of each stage in each round, at least 2."""
    arms = _arms(steps)
    ran: dict[str, list[_Ran]] = {arm.name: [] for arm in arms}
    with tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder:
        place = _Place(Path(folder))
        for number in range(rounds):
            for arm in arms if number % 2 == 0 else reversed(arms):
                title = f"round {number + 1}: {arm.name}"
                ran[arm.name].append(place.run(arm, number, settings, progress, title))
                progress.end(title)
    return _speed(ran, steps, {arm.name: arm.sequences for arm in arms})


def table(speed: TrainingSpeed) -> Table:
    shown = Table("stage", "s a step", "sequences/s", "tokens a step", "GFLOP a step", "peak MiB")
    for name, one in speed.stages.items():
        shown.add_row(
            name,
            f"{one.seconds_per_step:.2f}",
            f"{one.sequences_per_s:.1f}",
            "–" if one.tokens is None else f"{one.tokens:,.0f}",
            "–" if one.flops is None else f"{one.flops / 1e9:,.0f}",
            f"{one.peak_memory_mib:,.0f}",
        )
    return shown


class _Place:
    """The demo tenant on disk."""

    def __init__(self, folder: Path):
        self._base, tenant = find_base(STARTER), subjects.load(subjects.WORLD[0], 0)
        inputs: Inputs = checked(tenant.category_schema, tenant.conversations)
        self._folder, self._schema = folder, inputs.schema
        self._data = output.write_inputs(Output(folder), inputs).resolve()
        pool = load_codes(self._base.folder, max(len(ascii_uppercase), len(inputs.schema.answers))).texts
        write_whole(self._data / "expert.jsonl", subjects.lines(tenant.traces(inputs, pool, 0)))

    def run(self, arm: TimedStage, number: int, settings: Settings, progress: Progress, title: str) -> _Ran:
        manifest = StageManifest(
            stage=TypeAdapter[Stage](Stage).validate_python(arm.stage),
            base=str(self._base.folder),
            category_schema=self._schema,
            conversations=self._data / "train.jsonl",
            traces=None if arm.stage["kind"] == "rl" else self._data / "expert.jsonl",
            out=self._folder / f"{arm.name}-{number}",
        )
        path = output.prepare(manifest, [])
        argv = [sys.executable, "-m", "training", arm.command, str(path)]
        result = supervise(
            argv,
            manifest.out,
            settings,
            lambda event: progress.update(title, event.get("step") or 0, event.get("total_steps")),
        )
        times = list(_step_times(manifest.out / EVENTS))
        steps = len(times)
        tokens, flops = result.body["tokens"], result.body["metrics"].get("flops")
        return _Ran(
            (times[-1] - times[0]) / (steps - 1),
            tokens and tokens / steps,
            flops and flops / steps,
            result.body["peak_memory_bytes"] / 2**20,
        )


def _step_times(events: Path) -> Iterator[float]:
    """When each step ended, in seconds."""
    for line in filter(None, events.read_text().split("\n")):
        event = json.loads(line)
        if event["event"] == "metric" and "loss" in event:
            yield datetime.fromisoformat(event["at"]).timestamp()


def _speed(ran: dict[str, list[_Ran]], steps: int, sequences: dict[str, int]) -> TrainingSpeed:
    def ratios(one: str, other: str) -> list[float]:
        pairs = zip(ran[one], ran[other], strict=True)
        return [a.seconds_per_step / b.seconds_per_step for a, b in pairs]

    found = {"sdft_over_sft_wall": ratios("sdft", "sft"), "rl_samples_over_trl": ratios("rl_by_trl", "rl")}
    return TrainingSpeed(
        **{name: statistics.geometric_mean(values) for name, values in found.items()},
        stages={name: _mean(all_of, sequences[name]) for name, all_of in ran.items()},
        round_ratios=found,
        steps=steps,
        rounds=len(ran["sft"]),
        processors=len(os.sched_getaffinity(0)),
    )


def _mean(ran: list[_Ran], sequences: int) -> StageSpeed:
    seconds = statistics.fmean(one.seconds_per_step for one in ran)
    tokens = [one.tokens for one in ran if one.tokens is not None]
    flops = [one.flops for one in ran if one.flops is not None]
    return StageSpeed(
        seconds_per_step=seconds,
        sequences_per_s=sequences / seconds,
        tokens=statistics.fmean(tokens) if tokens else None,
        flops=statistics.fmean(flops) if flops else None,
        peak_memory_mib=max(one.peak_memory_mib for one in ran),
    )
