"""Models measured the way the product measures them: suite, HTTP, runner, report."""

import asyncio
from functools import cache

from evaluation import runner
from evaluation.assembly import Choices, StageRun, assemble
from evaluation.contract.record import Split
from evaluation.policy import load_policy
from evaluation.report import Report
from evaluation.suites import steerability
from evaluation.suites.steerability import Suite
from tests.evaluation.fake_server import FakeServer, Model, predictor
from tests.evaluation.shop import SCHEMA, of_split


@cache
def suite(max_items: int = 600) -> Suite:
    return steerability.build(SCHEMA, of_split(Split.test), max_items=max_items)


@cache
def measured(model: Model) -> list[runner.Measured]:
    return run(FakeServer(model), suite())


def run(server: FakeServer, exam: Suite) -> list[runner.Measured]:
    return asyncio.run(runner.run(exam.questions, predictor(server), model="fake"))


def examined(stages: dict[str, Model], exam: Suite | None = None) -> Report:
    runs = [
        StageRun(stage, "fake", run(FakeServer(model), exam) if exam else measured(model))
        for stage, model in stages.items()
    ]
    return assemble("shop", exam or suite(), runs, Choices(counted=load_policy().families.counted))
