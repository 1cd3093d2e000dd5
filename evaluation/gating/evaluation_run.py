"""Models asked until the verdict on the last of them is clear, and the report on all of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation.contract.mode import Mode
from evaluation.gating import gate
from evaluation.gating.policy import Policy
from evaluation.gating.sequential import Sample
from evaluation.inference.stage_client import StageClient
from evaluation.metrics import auxiliary
from evaluation.metrics.auxiliary import AuxiliaryAnswers, AuxiliarySuites
from evaluation.reporting.assembly import (
    BASE,
    COMPARED_WITH,
    LIVE,
    NO_BASELINES,
    Baselines,
    Choices,
    Side,
    StageRun,
    assemble,
)
from evaluation.reporting.report import InterimLooks, Report
from evaluation.suites.steerability import Suite


class EvaluationRun(NamedTuple):
    """auxiliary_suites: what is asked besides the suite; None leaves it out, and what the policy asks of it
    is then open.

    threshold: answers that are less sure count as none of these. baselines: measured elsewhere, for comparison.
    mode: in which the models are asked. base_needed: as for `gate.decide`.
    """

    tenant: str
    suite: Suite
    policy: Policy
    auxiliary_suites: AuxiliarySuites | None = None
    threshold: float | None = None
    baselines: Baselines = NO_BASELINES
    mode: Mode = Mode.reasoned
    base_needed: bool = True


async def evaluate(evaluation: EvaluationRun, stage_client: StageClient) -> Report:
    """The last of the client's stages is the candidate. Those that the verdict does not depend on are asked when it is
    found."""
    stages = [one.stage for one in stage_client.stages]
    deciding = [stage for stage in stages if stage in COMPARED_WITH or stage == stages[-1]]
    found = await _auxiliary_answers(evaluation, stage_client, deciding)
    sample = Sample(evaluation.suite, evaluation.policy.interim_looks)
    made = await _look(evaluation, stage_client, deciding, sample, found)
    while made.gate is not None and sample.grow(made.gate.checks):
        made = await _look(evaluation, stage_client, deciding, sample, found)
    return (
        made if len(deciding) == len(stages) else await _look(evaluation, stage_client, stages, sample, found)
    )


async def _auxiliary_answers(
    evaluation: EvaluationRun, stage_client: StageClient, deciding: Sequence[str]
) -> dict[str, AuxiliaryAnswers]:
    """Where a threshold decides which answers count, the live model's are calibrated too, as those of both are in
    traffic. The base's are not, there either.
    """
    if evaluation.auxiliary_suites is None:
        return {}
    base = BASE if BASE in deciding[:-1] else None
    calibrated = {deciding[-1]} if evaluation.threshold is None else {deciding[-1], LIVE}
    return {
        stage: await auxiliary.ask(
            evaluation.auxiliary_suites,
            stage_client,
            stage,
            base,
            whole=stage in calibrated,
            mode=evaluation.mode,
        )
        for stage in deciding
    }


async def _look(
    evaluation: EvaluationRun,
    stage_client: StageClient,
    stages: Sequence[str],
    sample: Sample,
    found: Mapping[str, AuxiliaryAnswers],
) -> Report:
    models = {one.stage: one.version[:12] for one in stage_client.stages}
    questions = evaluation.suite.questions
    runs = [
        StageRun(stage, models[stage], await stage_client.answers(stage, questions, sample.indices))
        for stage in stages
    ]
    made = assemble(
        evaluation.tenant,
        evaluation.suite,
        runs,
        Choices(evaluation.threshold, evaluation.policy.families.counted),
        interim_looks=InterimLooks(planned=evaluation.policy.interim_looks, used=sample.used),
        side=_side(evaluation, runs, found),
        baselines=evaluation.baselines,
    )
    decided = gate.decide(made, evaluation.policy, base_needed=evaluation.base_needed)
    return made.model_copy(update={"mode": evaluation.mode, "gate": decided})


def _side(
    evaluation: EvaluationRun, runs: Sequence[StageRun], found: Mapping[str, AuxiliaryAnswers]
) -> Side | None:
    if evaluation.auxiliary_suites is None:
        return None
    of_stage = {
        run.stage: auxiliary.report(
            evaluation.auxiliary_suites,
            found[run.stage],
            evaluation.suite,
            run.measured,
            evaluation.threshold,
        )
        for run in runs
        if run.stage in found
    }
    return Side(of_stage, auxiliary.report_out_of_distribution(evaluation.auxiliary_suites, found))
