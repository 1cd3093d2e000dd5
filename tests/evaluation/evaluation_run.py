"""Models evaluated as the product evaluates them: suite, HTTP, runner, auxiliary suites, report."""

import asyncio
from collections.abc import Sequence
from functools import cache

from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.gating.evaluation_run import EvaluationRun, evaluate
from evaluation.gating.policy import Policy, load_policy
from evaluation.inference import runner
from evaluation.inference.runner import Measured, Questions
from evaluation.inference.stage_client import ServedStage
from evaluation.metrics import auxiliary
from evaluation.metrics.divergence import Divergence
from evaluation.reporting.report import Report
from evaluation.suites import steerability
from evaluation.suites.steerability import Suite
from tests.evaluation.fake_server import FakeServer, Model, predictor
from tests.evaluation.shop import SCHEMA, of_split

AUXILIARY_ITEMS = 440  # enough of each for the policy to judge it


@cache
def suite(max_items: int = 600) -> Suite:
    return steerability.build(SCHEMA, of_split(Split.test), max_items=max_items)


@cache
def auxiliary_suites() -> auxiliary.AuxiliarySuites:
    return auxiliary.build(suite(), of_split(Split.test), of_split(Split.train), max_items=AUXILIARY_ITEMS)


@cache
def measured(model: Model) -> list[Measured]:
    return run(FakeServer(model), suite())


def run(server: FakeServer, benchmark: Suite) -> list[Measured]:
    return asyncio.run(runner.run(benchmark.questions, predictor(server), model="fake"))


_KEPT: dict[tuple[Model | FakeServer, str], list[Measured]] = {}


class Models:
    """Each behind a server of its own; what one has answered it is not asked again, in no other test either."""

    modes = tuple(Mode)

    def __init__(self, stages: dict[str, Model | FakeServer]):
        self._stages = stages
        self.asked: dict[str, list[int]] = {}  # how many questions of the suite, at each look

    @property
    def stages(self) -> Sequence[ServedStage]:
        return [ServedStage(stage, "fake", "fake") for stage in self._stages]

    async def answers(
        self,
        stage: str,
        questions: Questions,
        only: Sequence[int] | None = None,
        mode: Mode | None = None,
    ) -> list[Measured]:
        model = self._stages[stage]
        if (model, questions.sha256) not in _KEPT:
            server = model if isinstance(model, FakeServer) else FakeServer(model)
            _KEPT[model, questions.sha256] = await runner.run(questions, predictor(server), model="fake")
        answered = _KEPT[model, questions.sha256]
        if only is None:
            return answered
        self.asked.setdefault(stage, []).append(len(only))
        return [answered[i] for i in only]

    async def divergence(self, stage: str, other: str, questions: Questions) -> Divergence | None:
        return None


def evaluated(
    stages: dict[str, Model | FakeServer], benchmark: Suite | None = None, policy: Policy | None = None
) -> Report:
    """Every question at once, unless the policy says otherwise. Nobody changes it: it is made once for all tests."""
    at_once = load_policy().model_copy(update={"interim_looks": (1.0,)})
    asked = tuple(stages.items()), (benchmark or suite()).sha256, policy or at_once
    if asked not in _EVALUATED:
        run_of = EvaluationRun("shop", benchmark or suite(), policy or at_once, auxiliary_suites())
        _EVALUATED[asked] = asyncio.run(evaluate(run_of, Models(stages)))
    return _EVALUATED[asked]


_EVALUATED: dict[tuple[tuple[tuple[str, Model | FakeServer], ...], str, Policy], Report] = {}
