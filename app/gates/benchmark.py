"""The examination: the same questions to the base and to every stage, on held-out conversations, and the verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from app.errors import InputError
from app.runs.inputs import Inputs
from app.runs.presets import Benchmark
from app.serving.vllm import Endpoint
from app.settings import Settings
from evaluation import asking, baselines, examination, report
from evaluation.asking import Served, VllmAsker
from evaluation.atomic_files import write_whole
from evaluation.beside import companions
from evaluation.beside.companions import Beside
from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.examination import Examination
from evaluation.page import page
from evaluation.policy import Policy
from evaluation.predictor import Codes
from evaluation.report import Report
from evaluation.suites import steerability
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite

Show: TypeAlias = Callable[[str, int, int], None]


class Exam(NamedTuple):
    """kept: folder for single outcomes, from which a stopped examination goes on. beside: what is asked besides.

    threshold: answers that are less sure than this count as none of these.
    """

    inputs: Inputs
    suite: Suite
    beside: Beside | None
    policy: Policy
    codes: Codes
    kept: Path
    with_baselines: bool
    threshold: float | None = None
    mode: Mode = Mode.reasoned


def suite_of(inputs: Inputs, settings: Benchmark) -> Suite:
    try:
        return steerability.build(
            inputs.schema,
            inputs.splits[Split.test],
            seed=settings.seed,
            max_items=settings.max_items,
            rewordings=inputs.rewordings,
        )
    except SuiteError as error:
        raise InputError(str(error)) from None


def beside_of(suite: Suite, inputs: Inputs, settings: Benchmark) -> Beside:
    held_out, calibration = inputs.splits[Split.test], inputs.splits[Split.calibration]
    return companions.build(suite, held_out, calibration, seed=settings.seed, max_items=settings.max_items)


async def examine(
    exam: Exam, endpoint: Endpoint, served: list[Served], settings: Settings, show: Show
) -> Report:
    """served: in the order of the stages; the verdict is on the last. show: of what, answers so far, of how many."""
    train, counted = exam.inputs.splits[Split.train], exam.policy.families.counted
    measured = await baselines.measure(exam.suite, train, counted) if exam.with_baselines else {}
    asked = Examination(
        exam.inputs.schema.name, exam.suite, exam.policy, exam.beside, exam.threshold, measured, exam.mode
    )

    async with endpoint.async_client() as client:
        how = asking.Settings(exam.kept, show, settings.concurrency, mode=exam.mode)
        return await examination.examine(asked, VllmAsker(client, served, exam.codes, how))


def write(made: Report, json_file: Path, html_file: Path) -> None:
    report.write(made, json_file)
    write_whole(html_file, page.render(made).encode())
