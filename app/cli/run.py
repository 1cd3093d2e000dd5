"""The main job on files: traces → SFT → distillation → RL, each stage a child process, then the evaluation.

It can be stopped at any moment and started again with the same command: a stage whose result is there and was made
from the same manifest is not run again, and the evaluation keeps the answers that it already has.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from app.cli import estimate
from app.cli.console import Progress, evaluating
from app.cli.estimate import NotEstimated
from app.gates import evaluation
from app.gates.evaluation import NOT_ASKED_FOR, GateEvaluation
from app.runs import output
from app.runs.inputs import Inputs, check_lengths
from app.runs.output import Output
from app.runs.presets import Plan
from app.runs.supervisor import Event, run_stage
from app.serving import adapters, model_folder
from app.serving.adapters import Adapter
from app.serving.base import ModelBase, codes_for, context_of, digest, token_counter
from app.serving.model_folder import ModelNote
from app.serving.vllm import BASE_NAME, serving, while_alive
from app.settings import Settings
from evaluation import baselines
from evaluation.atomic_files import write_whole
from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.gating.coverage import too_few
from evaluation.gating.policy import load_policy
from evaluation.inference.stage_client import ServedStage
from evaluation.metrics.auxiliary import temperature_of
from evaluation.reporting import report
from evaluation.reporting.report import BASELINES, Report
from evaluation.tools import label_review
from training.config import StageManifest
from training.protocol import ADAPTER, GOES_ON_FROM, READ_TRACES, TRACES

_SAID = (
    *("kept", "tried", "without_yield", "not_reached"),  # of traces
    *("stopped_by", "encoder_steps", "encoder_label_accuracy_last", "loss", "label_accuracy", "reward"),
)


class FileRun(NamedTuple):
    inputs: Inputs
    base: ModelBase
    plan: Plan
    out: Path
    baselines: bool = True
    seed: int = 0
    mode: Mode = Mode.reasoned


class FileRunOutcome(NamedTuple):
    report: Report
    output: Output


class PreparedRun(NamedTuple):
    """A job with what follows from it before anything is run."""

    job: FileRun
    planned: GateEvaluation
    place: Output
    base_sha256: str
    manifests: list[StageManifest]

    @property
    def key(self) -> str:
        """Of everything that the report depends on."""
        stages = [manifest.sha256 for manifest in self.manifests]
        planned = self.planned
        auxiliary_suites = planned.auxiliary_suites.sha256 if planned.auxiliary_suites else ""
        baseline = f"{self.job.baselines} {sorted(set(BASELINES) - baselines.missing().keys())}"
        asked = (
            planned.suite.sha256,
            auxiliary_suites,
            baseline,
            planned.policy.sha256,
            planned.mode,
        )
        return output.key_of(*asked, *stages)


def run(job: FileRun, settings: Settings, progress: Progress) -> FileRunOutcome:
    suite = evaluation.suite_of(job.inputs, job.plan.benchmark)
    auxiliary_suites = evaluation.auxiliary_suites_of(suite, job.inputs, job.plan.benchmark)
    codes = codes_for(job.base.folder, job.inputs.schema, *auxiliary_suites.out_of_distribution.schemas)
    room = context_of(job.base.folder, settings)
    check_lengths(job.inputs, codes.texts, token_counter(job.base.folder), room)
    with output.opened(job.out, settings.min_free_mib) as place:
        base_sha256 = digest(job.base)
        output.start_over_if_changed(place, output.key_of(job.inputs.sha256, base_sha256))
        kept = place.root / "benchmark"
        planned = GateEvaluation(
            job.inputs,
            suite,
            auxiliary_suites,
            load_policy(),
            codes,
            kept,
            None if job.baselines else NOT_ASKED_FOR,
            mode=job.mode,
        )
        for notice in (*job.inputs.notices, *_undecidable(job, planned)):
            progress.note(f"note: {notice}")
        manifests = _manifests(job, place, output.write_inputs(place, job.inputs).resolve())
        prepared = PreparedRun(job, planned, place, base_sha256, manifests)
        left = [manifest for manifest in manifests if not output.finished(manifest)]
        if left:
            _list_doubted_labels(job.inputs, place, progress)
            _say_how_long(job, left, progress)
        _train(manifests, settings, progress)
        earlier = _earlier_report(prepared)
        if earlier is not None:
            progress.note(f"everything was done before; the report is {place.report}")
            return FileRunOutcome(earlier, place)
        return FileRunOutcome(_evaluate(prepared, settings, progress), place)


def _undecidable(job: FileRun, planned: GateEvaluation) -> list[str]:
    """Said before an hour of training, not after it."""
    found = too_few(planned.suite, planned.policy)
    if not found:
        return []
    more = (
        f"hold out more labels, or raise benchmark.max_items (now {job.plan.benchmark.max_items}) with --set"
    )
    return [f"the gate will stay incomplete: {'; '.join(found)}; {more}"]


def _list_doubted_labels(inputs: Inputs, place: Output, progress: Progress) -> None:
    """For a person to read before they are learned; nothing is changed or left out by it."""
    found = label_review.doubted([c for split in Split for c in inputs.splits[split]])
    rows = (json.dumps(one.as_dict(), ensure_ascii=False) + "\n" for one in found)
    write_whole(place.doubted, "".join(rows).encode())
    if found:
        progress.note(
            f"note: the other labels speak against {len(found)} labels; read {place.doubted} before you trust them"
        )


def estimated(job: FileRun) -> dict[str, Any]:
    """What `run` would take; nothing is left behind. Raises: InputError, NotEstimated."""
    with tempfile.TemporaryDirectory(prefix="steerwise-estimate-") as folder:
        place = Output(Path(folder))
        manifests = _manifests(job, place, output.write_inputs(place, job.inputs).resolve())
        return estimate.estimate(manifests, _questions(job), job.mode)


def _questions(job: FileRun) -> int:
    """Of the evaluation: the base and each stage that learns."""
    return job.plan.benchmark.max_items * len(job.plan.stages)


def _say_how_long(job: FileRun, left: list[StageManifest], progress: Progress) -> None:
    """Of the stages that are left. That it cannot be said is no reason not to run."""
    progress.update("estimate", 0, None, "trying the base for some seconds")
    try:
        progress.end("estimate", estimate.line(estimate.estimate(left, _questions(job), job.mode)))
    except NotEstimated as error:
        progress.end("estimate", f"none: {error}")


def _manifests(job: FileRun, place: Output, data: Path) -> list[StageManifest]:
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
        result = run_stage(path, manifest.out, settings, partial(_show, progress, manifest.stage.max_seconds))
        progress.end(kind, _metrics(result.body.get("metrics") or {}))


def _show(progress: Progress, most_s: float | None, event: Event) -> None:
    if event["event"] in ("progress", "metric"):
        step, total = event.get("step") or 0, event.get("total_steps")
        progress.update(event["stage"], step, total, event.get("message") or "", most_s)


def _metrics(metrics: dict[str, Any]) -> str:
    """Those that tell most; of what was measured at the first step and at the last, both."""
    said = []
    for name in _SAID:
        first, last = metrics.get(f"{name}_first"), metrics.get(f"{name}_last")
        if name in metrics:
            said.append(f"{name} {metrics[name]}")
        elif first is not None and last is not None:
            said.append(f"{name} {first:.3g} to {last:.3g}")
    return ", ".join(said)


def _evaluate(prepared: PreparedRun, settings: Settings, progress: Progress) -> Report:
    place, planned = prepared.place, prepared.planned
    frozen = _frozen(prepared, settings)
    # Slots as wide as the widest adapter and no wider: on a CPU the cost of an adapter grows with the slot.
    fitting = settings.model_copy(update={"vllm_max_lora_rank": max(a.rank for a in frozen.values())})
    with serving(prepared.job.base.folder, place.vllm_log, fitting, _starting(progress)) as vllm:
        progress.end("start vLLM")
        served = [ServedStage("base", BASE_NAME, prepared.base_sha256)]
        served += [
            ServedStage(stage, vllm.load(adapter.folder), adapter.sha256, adapter.folder)
            for stage, adapter in frozen.items()
        ]
        made = asyncio.run(
            while_alive(
                vllm,
                evaluation.evaluate(planned, vllm.endpoint, served, settings, evaluating(progress)),
            )
        )
        evaluation.write(made, place.report, place.page)
        last = served[-1]
        model_folder.write(place.model, _note(prepared, last, made), frozen[last.stage])
        output.set_state(place, key=output.state(place)["key"], finished=prepared.key)
    return made


def _frozen(prepared: PreparedRun, settings: Settings) -> dict[str, Adapter]:
    return {
        m.stage.kind: adapters.freeze(m.out / ADAPTER, prepared.place.adapters, settings.vllm_max_lora_rank)
        for m in prepared.manifests
        if m.stage.kind != "traces"
    }


def _starting(progress: Progress) -> Callable[[float], None]:
    return lambda _passed: progress.update("start vLLM", 0, None)


def _note(prepared: PreparedRun, last: ServedStage, made: Report) -> ModelNote:
    assert made.gate is not None
    schema, auxiliary_suites = prepared.job.inputs.schema, made.stages[-1].auxiliary
    return ModelNote(
        model_version=output.key_of(prepared.base_sha256, last.version),
        base=prepared.job.base.name,
        base_sha256=prepared.base_sha256,
        stage=last.stage,
        codes=prepared.planned.codes.texts[: len(schema.answers)],
        schema_sha256=schema.sha256,
        mode=prepared.planned.mode,
        verdict=made.gate.verdict.value,
        reasons=tuple(made.gate.reasons),
        temperature=temperature_of(auxiliary_suites.calibration) if auxiliary_suites else None,
        answer_tokens=ANSWER_TOKENS,
    )


def _earlier_report(prepared: PreparedRun) -> Report | None:
    place = prepared.place
    if output.state(place).get("finished") != prepared.key or not (place.model / model_folder.NOTE).is_file():
        return None
    try:
        return report.read(place.report)
    except (OSError, ValidationError):
        return None
