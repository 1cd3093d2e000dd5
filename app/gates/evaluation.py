"""The evaluation: the same questions to the base and to every stage, on held-out conversations, and the verdict."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from app.errors import InputError
from app.runs.inputs import Inputs
from app.runs.presets import Benchmark
from app.serving.vllm import VllmEndpoint
from app.settings import Settings
from evaluation import baselines
from evaluation.atomic_files import write_whole
from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.gating import evaluation_run, label_free
from evaluation.gating.evaluation_run import EvaluationRun
from evaluation.gating.label_free import LabelFree, LabelFreeRun
from evaluation.gating.policy import Policy
from evaluation.inference import stage_client
from evaluation.inference.predictor import Codes
from evaluation.inference.stage_client import ServedStage, VllmStageClient
from evaluation.metrics import auxiliary
from evaluation.metrics.auxiliary import AuxiliarySuites
from evaluation.reporting import report
from evaluation.reporting.page import page
from evaluation.reporting.report import Report
from evaluation.suites import steerability
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite

NOT_ASKED_FOR = "nobody asked for baselines"

Show: TypeAlias = Callable[[str, int, int], None]


class GateEvaluation(NamedTuple):
    """kept: folder for single outcomes, from which a stopped evaluation goes on. auxiliary_suites: what is
    asked besides.

    without_baselines: why none are measured; None where they are. threshold: answers that are less sure than this
    count as none of these. cache_salt: of the tenant, where the server is not asked by it alone.
    """

    inputs: Inputs
    suite: Suite
    auxiliary_suites: AuxiliarySuites | None
    policy: Policy
    codes: Codes
    kept: Path
    without_baselines: str | None
    threshold: float | None = None
    mode: Mode = Mode.reasoned
    cache_salt: str | None = None


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


def auxiliary_suites_of(suite: Suite, inputs: Inputs, settings: Benchmark) -> AuxiliarySuites:
    held_out, calibration = inputs.splits[Split.test], inputs.splits[Split.calibration]
    return auxiliary.build(suite, held_out, calibration, seed=settings.seed, max_items=settings.max_items)


async def evaluate(
    evaluation: GateEvaluation,
    endpoint: VllmEndpoint,
    served: list[ServedStage],
    settings: Settings,
    show: Show,
) -> Report:
    """served: in the order of the stages; the verdict is on the last. show: of what, answers so far, of how many."""
    train, counted = evaluation.inputs.splits[Split.train], evaluation.policy.families.counted
    if evaluation.without_baselines is None:
        measured = await asyncio.to_thread(baselines.measure, evaluation.suite, train, counted)
    else:
        measured = baselines.none_because(evaluation.without_baselines)
    asked = EvaluationRun(
        evaluation.inputs.schema.name,
        evaluation.suite,
        evaluation.policy,
        evaluation.auxiliary_suites,
        evaluation.threshold,
        measured,
        evaluation.mode,
    )

    async with endpoint.async_client() as client:
        how = stage_client.ClientSettings(
            evaluation.kept,
            show,
            settings.concurrency,
            mode=evaluation.mode,
            cache_salt=evaluation.cache_salt,
        )
        return await evaluation_run.evaluate(asked, VllmStageClient(client, served, evaluation.codes, how))


class LabelFreeEvaluation(NamedTuple):
    """kept: folder for single outcomes, from which a stopped one goes on. served: the candidate. cache_salt: of the
    tenant.
    """

    run: LabelFreeRun
    codes: Codes
    kept: Path
    mode: Mode
    served: ServedStage
    cache_salt: str


async def evaluate_without_labels(
    evaluation: LabelFreeEvaluation, endpoint: VllmEndpoint, settings: Settings, show: Show
) -> LabelFree:
    async with endpoint.async_client() as client:
        how = stage_client.ClientSettings(
            evaluation.kept,
            show,
            settings.concurrency,
            mode=evaluation.mode,
            cache_salt=evaluation.cache_salt,
        )
        return await label_free.measure(
            evaluation.run, VllmStageClient(client, [evaluation.served], evaluation.codes, how)
        )


def write(made: Report, json_file: Path, html_file: Path) -> None:
    report.write(made, json_file)
    write_whole(html_file, page.render(made).encode())
