"""Models asked until the verdict on the last of them is clear, and the report on all of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation import gate
from evaluation.asking import Asker
from evaluation.assembly import BASE, COMPARED_WITH, LIVE, Choices, Side, StageRun, assemble
from evaluation.beside import companions
from evaluation.beside.companions import Beside, Found
from evaluation.contract.mode import Mode
from evaluation.growing import Sample
from evaluation.measures import Measure
from evaluation.policy import Policy
from evaluation.report import Looks, Report
from evaluation.suites.steerability import Suite


class Examination(NamedTuple):
    """beside: what is asked besides the suite; None leaves it out, and what the policy asks of it is then open.

    threshold: answers that are less sure count as none of these. baselines: measured elsewhere, for comparison.
    mode: that the asker asks in.
    """

    tenant: str
    suite: Suite
    policy: Policy
    beside: Beside | None = None
    threshold: float | None = None
    baselines: Mapping[str, Measure] = {}
    mode: Mode = Mode.reasoned


async def examine(exam: Examination, asker: Asker) -> Report:
    """The last of the asker's stages is the candidate. Those that the verdict does not depend on are asked when it is
    found."""
    stages = [one.stage for one in asker.stages]
    deciding = [stage for stage in stages if stage in COMPARED_WITH or stage == stages[-1]]
    found = await _beside(exam, asker, deciding)
    sample = Sample(exam.suite, exam.policy.looks)
    made = await _look(exam, asker, deciding, sample, found)
    while made.gate is not None and sample.grow(made.gate.checks):
        made = await _look(exam, asker, deciding, sample, found)
    return made if len(deciding) == len(stages) else await _look(exam, asker, stages, sample, found)


async def _beside(exam: Examination, asker: Asker, deciding: Sequence[str]) -> dict[str, Found]:
    """Where a threshold decides which answers count, the live model's are calibrated too, as those of both are in
    traffic. The base's are not, there either.
    """
    if exam.beside is None:
        return {}
    base = BASE if BASE in deciding[:-1] else None
    calibrated = {deciding[-1]} if exam.threshold is None else {deciding[-1], LIVE}
    return {
        stage: await companions.ask(exam.beside, asker, stage, base, whole=stage in calibrated)
        for stage in deciding
    }


async def _look(
    exam: Examination, asker: Asker, stages: Sequence[str], sample: Sample, found: Mapping[str, Found]
) -> Report:
    models = {one.stage: one.version[:12] for one in asker.stages}
    questions = exam.suite.questions
    runs = [
        StageRun(stage, models[stage], await asker.answers(stage, questions, sample.indices))
        for stage in stages
    ]
    made = assemble(
        exam.tenant,
        exam.suite,
        runs,
        Choices(exam.threshold, exam.policy.families.counted),
        looks=Looks(planned=exam.policy.looks, used=sample.used),
        side=_side(exam, runs, found),
        baselines=exam.baselines,
    )
    return made.model_copy(update={"mode": exam.mode, "gate": gate.decide(made, exam.policy)})


def _side(exam: Examination, runs: Sequence[StageRun], found: Mapping[str, Found]) -> Side | None:
    if exam.beside is None:
        return None
    of_stage = {
        run.stage: companions.report(exam.beside, found[run.stage], exam.suite, run.measured, exam.threshold)
        for run in runs
        if run.stage in found
    }
    return Side(of_stage, companions.report_foreign(exam.beside, found))
