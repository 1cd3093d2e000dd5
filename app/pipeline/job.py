"""The main job on files: traces → SFT → distillation → RL, each stage a child process, then the examination.

It can be stopped at any moment and started again with the same command: a stage whose result is there and was made
from the same manifest is not run again, and the examination keeps the answers that it already has.
"""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from app.gates import benchmark
from app.gates.benchmark import Exam
from app.pipeline import estimate
from app.pipeline.console import Progress, examining
from app.pipeline.estimate import NotEstimated
from app.runs import output
from app.runs.inputs import Inputs, check_lengths
from app.runs.output import Output
from app.runs.presets import Plan
from app.runs.supervisor import Event, run_stage
from app.serving import adapters, model_folder
from app.serving.adapters import Adapter
from app.serving.base import Base, codes_for, context_of, digest, token_counter
from app.serving.model_folder import ModelNote
from app.serving.vllm import BASE_NAME, serving, while_alive
from app.settings import Settings
from evaluation import report
from evaluation.asking import Served
from evaluation.beside.companions import temperature_of
from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.mode import Mode
from evaluation.policy import load_policy
from evaluation.report import Report
from training.config import StageManifest
from training.protocol import ADAPTER, GOES_ON_FROM, READ_TRACES, TRACES


class Job(NamedTuple):
    inputs: Inputs
    base: Base
    plan: Plan
    out: Path
    baselines: bool = True
    seed: int = 0
    mode: Mode = Mode.reasoned


class Outcome(NamedTuple):
    report: Report
    output: Output


class Prepared(NamedTuple):
    """A job with what follows from it before anything is run."""

    job: Job
    exam: Exam
    place: Output
    base_sha256: str
    manifests: list[StageManifest]

    @property
    def key(self) -> str:
        """Of everything that the report depends on."""
        stages = [manifest.sha256 for manifest in self.manifests]
        exam = self.exam
        beside = exam.beside.sha256 if exam.beside else ""
        asked = (exam.suite.sha256, beside, str(self.job.baselines), exam.policy.sha256, exam.mode)
        return output.key_of(*asked, *stages)


def run(job: Job, settings: Settings, progress: Progress) -> Outcome:
    suite = benchmark.suite_of(job.inputs, job.plan.benchmark)
    beside = benchmark.beside_of(suite, job.inputs, job.plan.benchmark)
    codes = codes_for(job.base.folder, job.inputs.schema, *beside.foreign.schemas)
    room = context_of(job.base.folder, settings)
    check_lengths(job.inputs, codes.texts, token_counter(job.base.folder), room)
    with output.opened(job.out, settings.min_free_mib) as place:
        base_sha256 = digest(job.base)
        output.start_over_if_changed(place, output.key_of(job.inputs.sha256, base_sha256))
        for notice in job.inputs.notices:
            progress.note(f"note: {notice}")
        manifests = _manifests(job, place, output.write_inputs(place, job.inputs).resolve())
        kept = place.root / "benchmark"
        exam = Exam(job.inputs, suite, beside, load_policy(), codes, kept, job.baselines, mode=job.mode)
        prepared = Prepared(job, exam, place, base_sha256, manifests)
        _say_how_long(job, manifests, progress)
        _train(manifests, settings, progress)
        earlier = _earlier_report(prepared)
        if earlier is not None:
            progress.note(f"everything was done before; the report is {place.report}")
            return Outcome(earlier, place)
        return Outcome(_examine(prepared, settings, progress), place)


def estimated(job: Job) -> dict[str, Any]:
    """What `run` would take; nothing is left behind. Raises: InputError, NotEstimated."""
    with tempfile.TemporaryDirectory(prefix="steerwise-estimate-") as folder:
        place = Output(Path(folder))
        manifests = _manifests(job, place, output.write_inputs(place, job.inputs).resolve())
        return estimate.estimate(manifests, _questions(job))


def _questions(job: Job) -> int:
    """Of the examination: the base and each stage that learns."""
    return job.plan.benchmark.max_items * len(job.plan.stages)


def _say_how_long(job: Job, manifests: list[StageManifest], progress: Progress) -> None:
    """Of what is left to do. That it cannot be said is no reason not to run."""
    left = [manifest for manifest in manifests if not output.finished(manifest)]
    if not left:
        return
    progress.update("estimate", 0, None, "trying the base for some seconds")
    try:
        progress.end("estimate", estimate.line(estimate.estimate(left, _questions(job))))
    except NotEstimated as error:
        progress.end("estimate", f"none: {error}")


def _manifests(job: Job, place: Output, data: Path) -> list[StageManifest]:
    """Each stage goes on with the adapter of the one before it."""
    root = place.stages.resolve()
    folders: dict[str, Path] = {
        stage.kind: root / f"{number}-{stage.kind}" for number, stage in enumerate(job.plan.stages, start=1)
    }
    adapter = {kind: folders[before] / ADAPTER for kind, before in GOES_ON_FROM.items()}
    brought = output.keep_files(place, job.plan.traces.files)
    traces = job.plan.traces.model_copy(update={"files": brought})
    return [
        StageManifest(
            stage=traces if stage.kind == "traces" else stage,
            base=str(job.base.folder),
            adapter=adapter.get(stage.kind),
            category_schema=job.inputs.schema,
            conversations=data / "train.jsonl",
            validation=output.validation_in(data, job.inputs, stage),
            answers=place.root.resolve() / "teachers.sqlite" if stage.kind == "traces" else None,
            traces=folders["traces"] / TRACES if stage.kind in READ_TRACES else None,
            out=folders[stage.kind],
            seed=job.seed,
        )
        for stage in job.plan.stages
    ]


def _train(manifests: list[StageManifest], settings: Settings, progress: Progress) -> None:
    for position, manifest in enumerate(manifests):
        kind = manifest.stage.kind
        if output.finished(manifest):
            progress.note(f"{kind:<20} done before, not run again")
            continue
        path = output.prepare(manifest, [later.out for later in manifests[position + 1 :]])
        progress.update(kind, 0, None, "starting")
        result = run_stage(path, manifest.out, settings, lambda event: _show(event, progress))
        progress.end(kind, _metrics(result.body.get("metrics") or {}))


def _show(event: Event, progress: Progress) -> None:
    if event["event"] in ("progress", "metric"):
        progress.update(
            event["stage"], event.get("step") or 0, event.get("total_steps"), event.get("message") or ""
        )


def _metrics(metrics: dict[str, Any]) -> str:
    plain = {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
    return ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in list(plain.items())[:4]
    )


def _examine(prepared: Prepared, settings: Settings, progress: Progress) -> Report:
    place, exam = prepared.place, prepared.exam
    frozen = _frozen(prepared, settings)
    # Slots as wide as the widest adapter and no wider: on a CPU the cost of an adapter grows with the slot.
    fitting = settings.model_copy(update={"vllm_max_lora_rank": max(a.rank for a in frozen.values())})
    with serving(prepared.job.base.folder, place.vllm_log, fitting, _starting(progress)) as vllm:
        progress.end("start vLLM")
        served = [Served("base", BASE_NAME, prepared.base_sha256)]
        served += [
            Served(stage, vllm.load(adapter.folder), adapter.sha256) for stage, adapter in frozen.items()
        ]
        made = asyncio.run(
            while_alive(vllm, benchmark.examine(exam, vllm.endpoint, served, settings, examining(progress)))
        )
        benchmark.write(made, place.report, place.page)
        last = served[-1]
        model_folder.write(place.model, _note(prepared, last, made), frozen[last.stage])
        output.set_mark(place, key=output.mark(place)["key"], finished=prepared.key)
    return made


def _frozen(prepared: Prepared, settings: Settings) -> dict[str, Adapter]:
    return {
        m.stage.kind: adapters.freeze(m.out / ADAPTER, prepared.place.adapters, settings.vllm_max_lora_rank)
        for m in prepared.manifests
        if m.stage.kind != "traces"
    }


def _starting(progress: Progress) -> Callable[[float], None]:
    return lambda _passed: progress.update("start vLLM", 0, None)


def _note(prepared: Prepared, last: Served, made: Report) -> ModelNote:
    assert made.gate is not None
    schema, beside = prepared.job.inputs.schema, made.stages[-1].companions
    return ModelNote(
        model_version=output.key_of(prepared.base_sha256, last.version),
        base=prepared.job.base.name,
        base_sha256=prepared.base_sha256,
        stage=last.stage,
        codes=prepared.exam.codes.texts[: len(schema.answers)],
        schema_sha256=schema.sha256,
        mode=prepared.exam.mode,
        verdict=made.gate.verdict.value,
        reasons=tuple(made.gate.reasons),
        temperature=temperature_of(beside.calibration) if beside else None,
        answer_tokens=ANSWER_TOKENS,
    )


def _earlier_report(prepared: Prepared) -> Report | None:
    place = prepared.place
    if output.mark(place).get("finished") != prepared.key or not (place.model / model_folder.NOTE).is_file():
        return None
    try:
        return report.read(place.report)
    except (OSError, ValidationError):
        return None
