"""The gate applies a tenant's threshold to the confidence that traffic would show, so that both abstain alike."""

import asyncio
from functools import cache

import pytest

from evaluation.contract.parse import ParseFailure
from evaluation.contract.record import Conversation, Message, Role, Split
from evaluation.gating.evaluation_run import EvaluationRun, evaluate
from evaluation.gating.policy import load_policy
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics import auxiliary, calibrator, sample_scores
from evaluation.metrics.auxiliary import temperature_of
from evaluation.reporting.report import Report, StageReport
from tests.evaluation import models
from tests.evaluation.evaluation_run import AUXILIARY_ITEMS, Models, measured, run, suite
from tests.evaluation.fake_server import FakeServer, says
from tests.evaluation.shop import of_split

THRESHOLD = 0.9  # below the 0.98 that the model says, above the six times in ten that it is right


@cache
def evaluated(threshold: float | None, *between: str) -> Report:
    policy = load_policy().model_copy(update={"interim_looks": (1.0,)})
    chats = [_greeted(c) for c in of_split(Split.test)]
    auxiliary_suites = auxiliary.build(suite(), chats, of_split(Split.train), max_items=AUXILIARY_ITEMS)
    evaluation = EvaluationRun("shop", suite(), policy, auxiliary_suites, threshold)
    stages = dict.fromkeys(("base", *between, "rl"), models.overconfident())
    return asyncio.run(evaluate(evaluation, Models(stages)))


def _greeted(conversation: Conversation) -> Conversation:
    """In two turns, of which the first says nothing yet."""
    hello = Message(role=Role.customer, text="hello there")
    return conversation.model_copy(update={"messages": (hello, *conversation.messages)})


def given(stage: StageReport) -> set[object]:
    return {score.given(THRESHOLD) for score in stage.sample_scores}


def test_a_temperature_changes_how_sure_an_answer_is_and_not_which_it_is() -> None:
    raw, scaled = (sample_scores.sample_scores(measured(models.overconfident()), t) for t in (None, 2.0))
    assert [m.category for m in scaled] == [m.category for m in raw]
    assert [m.label_mass for m in scaled] == [m.label_mass for m in raw]
    for answer, score in zip(measured(models.overconfident()), scaled, strict=True):
        assert answer.prediction is not None and answer.prediction.probabilities is not None
        expected = calibrator.scaled(answer.prediction.probabilities, 2.0)
        assert score.confidence == expected[answer.prediction.category]
        assert answer.prediction.confidence == pytest.approx(0.98), "what was answered stays as it was"


def test_what_has_no_confidence_gets_none() -> None:
    unreadable = run(FakeServer(lambda _: says("Z"), knows_token_ids=False), suite())
    errored = [Measured(item=0, outcome=Outcome.errored, prediction=None)]
    for answers in (unreadable, errored):
        assert sample_scores.sample_scores(answers, 2.0) == sample_scores.sample_scores(answers)
        assert {score.confidence for score in sample_scores.sample_scores(answers, 2.0)} == {None}


def test_an_unreadable_answer_is_not_as_sure_as_none_of_these_is_likely() -> None:
    found = measured(models.overconfident())[0].prediction
    assert found is not None and found.probabilities is not None and None in found.probabilities
    change = {"category": None, "confidence": None, "failure": ParseFailure.unknown_label}
    unreadable = calibrator.applied(found.model_copy(update=change), 2.0)
    assert unreadable.confidence is None and unreadable.probabilities != found.probabilities


def test_the_threshold_is_of_the_calibrated_confidence_in_the_suite_and_beside_it() -> None:
    base, candidate = evaluated(THRESHOLD).stages
    assert candidate.auxiliary is not None and base.auxiliary is not None
    assert (temperature_of(candidate.auxiliary.calibration) or 0) > 1.5
    assert given(candidate) == {None} and given(base) != {None}, "of the base nothing was fitted"
    assert candidate.auxiliary.turns is not None and candidate.auxiliary.turns.flips.value == 0
    assert candidate.auxiliary.injection.disturbed.value == 0
    assert base.auxiliary.injection.disturbed.value != 0


def test_the_live_model_is_calibrated_too_where_a_threshold_decides_which_answers_count() -> None:
    """As its answers are in traffic; without a threshold nothing depends on it, and it is asked less."""
    base, live, _ = evaluated(THRESHOLD, "live").stages
    assert given(live) == {None} and given(base) != {None}
    _, live, _ = evaluated(None, "live").stages
    assert live.auxiliary is not None and live.auxiliary.calibration is None


def test_the_calibration_is_of_raw_answers_whatever_the_threshold() -> None:
    with_threshold, without = (evaluated(threshold).stages[-1].auxiliary for threshold in (THRESHOLD, None))
    assert with_threshold is not None and without is not None
    assert with_threshold.calibration == without.calibration
    assert with_threshold.turns != without.turns
