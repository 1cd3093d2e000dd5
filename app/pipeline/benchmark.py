"""The examination: the same questions to the base and to every stage, on held-out conversations, and the verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from app.errors import InputError
from app.pipeline.console import Progress
from app.pipeline.files import Inputs
from app.pipeline.presets import Benchmark
from app.serving.model_folder import write_whole
from app.serving.vllm import Endpoint
from app.settings import Settings
from app.studies import baselines
from evaluation import examination, page, report, runner
from evaluation.assembly import StageRun
from evaluation.contract.record import Split
from evaluation.policy import load_policy
from evaluation.predictor import Codes, VllmPredictor
from evaluation.report import Report
from evaluation.suites import steerability
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite


class Served(NamedTuple):
    """A stage that can be asked. model: `base` or its adapter's name at this vLLM; version: of its content, lasting."""

    stage: str
    model: str
    version: str


class Exam(NamedTuple):
    """kept: folder for single outcomes, from which a stopped examination goes on.

    threshold: answers that are less sure than this count as none of these.
    """

    inputs: Inputs
    suite: Suite
    codes: Codes
    kept: Path
    with_baselines: bool
    threshold: float | None = None


def suite_of(inputs: Inputs, settings: Benchmark) -> Suite:
    try:
        return steerability.build(
            inputs.schema, inputs.splits[Split.test], seed=settings.seed, max_items=settings.max_items
        )
    except SuiteError as error:
        raise InputError(str(error)) from None


async def examine(
    exam: Exam, endpoint: Endpoint, served: list[Served], settings: Settings, progress: Progress
) -> Report:
    """served: in the order of the stages; the verdict is on the last."""
    policy = load_policy()
    by_stage = {one.stage: one for one in served}
    train = exam.inputs.splits[Split.train]
    counted = policy.families.counted
    measured = await baselines.measure(exam.suite, train, counted) if exam.with_baselines else {}

    async def ask(stage: str, questions: Sequence[int]) -> StageRun:
        return await _ask(exam, endpoint, by_stage[stage], questions, settings, progress)

    return await examination.examine(
        exam.inputs.schema.name,
        exam.suite,
        list(by_stage),
        ask,
        policy,
        threshold=exam.threshold,
        baselines=measured,
    )


def write(made: Report, json_file: Path, html_file: Path) -> None:
    report.write(made, json_file)
    write_whole(html_file, page.render(made).encode())


async def _ask(
    exam: Exam,
    endpoint: Endpoint,
    one: Served,
    questions: Sequence[int],
    settings: Settings,
    progress: Progress,
) -> StageRun:
    title = f"examine {one.stage}"
    # Named after all that an answer depends on, so that outcomes of another model or suite are never taken over.
    kept = exam.kept / exam.suite.sha256[:12] / f"{one.stage}-{one.version[:12]}.jsonl"
    async with endpoint.async_client() as client:
        predictor = VllmPredictor(
            client, one.model, exam.codes.texts, exam.codes.token_ids, concurrency=settings.concurrency
        )
        measured = await runner.run(
            exam.suite.questions,
            predictor,
            model=one.version,
            out=kept,
            only=questions,
            concurrency=settings.concurrency,
            progress=lambda done, total: progress.update(title, done, total),
        )
    progress.end(title)
    return StageRun(one.stage, one.version[:12], measured)
