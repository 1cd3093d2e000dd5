"""A study is run: every arm trained and measured with every seed, each training and each vLLM a process of its own."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from app.cli import estimate
from app.cli.console import Progress
from app.cli.estimate import NotEstimated
from app.errors import InputError
from app.runs import output
from app.runs.supervisor import Event, read_result, run_stage
from app.serving.base import ModelBase
from app.settings import Settings
from app.studies import bases, matrix, measuring
from app.studies.matrix import Chain, Study, on_base
from app.studies.preparing import PreparedStudy, StudyFolder, prepare
from app.studies.results import ArmResult, Cost, SeedResult, ValidationPoint, at_end, families_at_end
from evaluation.atomic_files import write_whole
from training.config import StageManifest
from training.protocol import EVENTS, validated_in


class StudyRequest(NamedTuple):
    study: Study
    seeds: int
    out: Path


def run(asked: StudyRequest, settings: Settings, progress: Progress) -> list[SeedResult]:
    """Raises: InputError, StageFailed, ServingError; what is done is kept, and the same command goes on."""
    matrix.check(asked.study)
    with output.opened(asked.out, settings.min_free_mib) as place:
        on = bases.ready(asked.study, place.root / "bases", settings, progress)
        return [
            _seed(asked.study, seed, on, place.root / f"seed-{seed}", settings, progress)
            for seed in range(asked.seeds)
        ]


def _seed(
    study: Study, seed: int, on: Mapping[str, ModelBase], folder: Path, settings: Settings, progress: Progress
) -> SeedResult:
    keys, arms = list[str](), dict[str, ArmResult]()
    for name, base in on.items():
        title = f"seed {seed}, {name}" if name else f"seed {seed}"
        made = _on_one(prepare(study, StudyFolder(seed, base, folder, title)), settings, progress)
        keys.append(made.key)
        arms |= {on_base(name, arm): marks for arm, marks in made.arms.items()}
    return SeedResult(key=" ".join(keys), seed=seed, arms=arms)


def _on_one(prepared: PreparedStudy, settings: Settings, progress: Progress) -> SeedResult:
    """All arms on one base."""
    place = prepared.place
    kept = place.folder / f"result-{prepared.key[:12]}.json"
    if kept.is_file():
        progress.note(f"{place.title}: everything was done before")
        return SeedResult.model_validate_json(kept.read_bytes())
    _train(prepared, settings, progress)
    several, chains = len(prepared.tenants) > 1, prepared.chains
    arms = {
        name: ArmResult(
            measures=at_end(found.points),
            cost=_cost(chains[name].stages),
            curve=_curve(chains[name]),
            pass_at_k=found.pass_at_k,
            points=found.points if several else [],
            families=families_at_end(found.points),
            over=found.over,
            validated=_validated(chains[name]),
            chosen=dict(chains[name].tried),
        )
        for name, found in measuring.measure(prepared, settings, progress).items()
    }
    made = SeedResult(key=prepared.key, seed=place.seed, arms=arms)
    write_whole(kept, made.model_dump_json(indent=1).encode())
    return made


def _train(prepared: PreparedStudy, settings: Settings, progress: Progress) -> None:
    wanted = prepared.stages
    _say_how_long(prepared, [one for one in wanted if not output.finished(one)], progress)
    for number, manifest in enumerate(wanted, start=1):
        title = f"{prepared.place.title}: {number}/{len(wanted)} {manifest.stage.kind}"
        if output.finished(manifest):
            progress.end(title, "done before")
            continue
        path = output.prepare(manifest, [])
        progress.update(title, 0, None, "starting")
        run_stage(
            path, manifest.out, settings, partial(_show_event, progress, title, manifest.stage.max_seconds)
        )
        progress.end(title)


def _say_how_long(prepared: PreparedStudy, left: Sequence[StageManifest], progress: Progress) -> None:
    """Of a seed. That it cannot be said is no reason not to run."""
    if not left:
        return
    title = f"{prepared.place.title}: estimate"
    study = prepared.study
    asked = (study.suite_items * len(prepared.tenants) + study.retention_items) * len(prepared.tries)
    progress.update(title, 0, None, "trying the base for some seconds")
    try:
        minutes = estimate.estimate(left, asked)["minutes"]
        progress.end(title, f"about {minutes:.0f} minutes for {len(left)} stages and {asked} answers")
    except NotEstimated as error:
        progress.end(title, f"none: {error}")


def _show_event(progress: Progress, title: str, most_s: float | None, event: Event) -> None:
    step, total = event.get("step") or 0, event.get("total_steps")
    progress.update(title, step, total, event.get("message") or "", most_s)


def _curve(chain: Chain) -> list[float]:
    if not chain.stages or chain.stages[-1].stage.kind != "rl":
        return []
    by_step = {
        event["step"]: event["label_accuracy"]
        for event in _events(chain.stages[-1])
        if "label_accuracy" in event
    }
    return [by_step[step] for step in sorted(by_step)]


def _validated(chain: Chain) -> list[ValidationPoint]:
    """Of a step that was made twice, because the stage had died, the last."""
    found: dict[tuple[str, int], ValidationPoint] = {}
    for manifest in chain.stages:
        for event in _events(manifest):
            if (metrics := validated_in(event)) is not None:
                folder, step = manifest.out.name, int(event["step"])
                found[folder, step] = ValidationPoint(
                    folder=folder, stage=manifest.stage.kind, step=step, **metrics._asdict()
                )
    return list(found.values())


def _events(manifest: StageManifest) -> list[dict[str, Any]]:
    lines = (manifest.out / EVENTS).read_text().split("\n")
    return [json.loads(line) for line in filter(None, lines)]


def _cost(stages: Sequence[StageManifest]) -> Cost:
    """Seconds of every process that worked on a stage. Raises: InputError where a stage that was trained has no result
    any more."""
    bodies = [(manifest.stage.kind, _result(manifest)) for manifest in stages]
    counts = [body.get("tokens") for _, body in bodies]
    known = [int(count) for count in counts if count is not None]
    tokens = sum(known) if len(known) == len(counts) else None
    learned = [body["step"] for kind, body in bodies if kind != "traces"]
    return Cost(wall_s=sum(map(_spent_s, stages)), tokens=tokens, updates=sum(learned))


def _spent_s(manifest: StageManifest) -> float:
    """A process that was stopped has spent what passed until its last word."""
    processes: list[list[datetime]] = []
    for event in _events(manifest):
        if event["event"] == "started" or not processes:
            processes.append([])
        processes[-1].append(datetime.fromisoformat(event["at"]))
    return sum((said[-1] - said[0]).total_seconds() for said in processes)


def _result(manifest: StageManifest) -> dict[str, Any]:
    result = read_result(manifest.out)
    if result is None:
        raise InputError(f"{manifest.out} has lost its result; the same command trains this stage again")
    return result.body
