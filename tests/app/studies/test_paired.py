"""Differences question by question, of an arm to another."""

import pytest

from app.studies.paired import ArmAnswers, differences, measure_of
from app.studies.results import over_tenants
from evaluation.inference.runner import Outcome
from evaluation.metrics.measures import GradedAnswers, Measure
from evaluation.metrics.sample_scores import SampleScore
from evaluation.suites.steerability import build
from tests.evaluation.shop import SCHEMA, conversations

FAMILIES = ("swap", "drop", "rename")


def graded(right: bool, tokens: int) -> GradedAnswers:
    """A model that is always right, or that always answers the first category."""
    suite = build(SCHEMA, conversations(), seed=0, max_items=60)
    scores = [
        SampleScore(
            number, Outcome.scored, item.gold_after if right else SCHEMA.keys[0], completion_tokens=tokens
        )
        for number, item in enumerate(suite.items)
    ]
    return GradedAnswers(suite, scores)


def test_what_was_asked_beside_the_evaluation_is_compared_question_by_question() -> None:
    far = differences(ArmAnswers([], {"nats": [4.0, 3.0, 5.0]}), ArmAnswers([], {"nats": [1.0] * 3}), ())
    assert far["nats"].value == 3.0 and far["nats"].ci95 is not None and far["nats"].ci95[1] > 3.0
    mine = ArmAnswers([], {"retention": [True, True, False], "kl_to_base": [0.5, None, 0.25], "own": [True]})
    theirs = ArmAnswers([], {"retention": [False, True, False], "kl_to_base": [0.25, 9.0, 0.5]})
    found = differences(mine, theirs, ())
    assert list(found) == ["retention", "kl_to_base"]
    assert found["retention"].paired == (1, 0) and found["retention"].value == pytest.approx(1 / 3)
    assert (found["kl_to_base"].value, found["kl_to_base"].n) == (0.0, 2)
    assert (measure_of([True, False]).value, measure_of([0.5, None, 1.0]).value) == (0.5, 0.75)


def test_an_evaluation_is_compared_with_the_intervals_of_pairs() -> None:
    mine, theirs = ArmAnswers([graded(True, 40)], {}), ArmAnswers([graded(False, 1)], {})
    found = differences(mine, theirs, FAMILIES)
    own = [one.right for one in theirs.graded[0].natural.values()]
    assert found["accuracy"].value == pytest.approx(1 - sum(own) / len(own))
    assert found["accuracy"].ci95 is not None and found["accuracy"].ci95[0] > 0
    tokens = found["completion_tokens"]
    assert tokens.value == 39.0 and tokens.ci95 == (39.0, 39.0)  # not bounded as a share is
    largest = found["majority_over_selection"]
    assert largest.value is not None and largest.n == len(own)
    same = differences(mine, mine, FAMILIES)
    assert {one.value for one in same.values()} == {0.0}


def test_the_mean_over_tenants_has_an_interval_where_each_of_them_has() -> None:
    one, other = Measure(value=0.4, n=10, ci95=(0.1, 0.6)), Measure(value=0.8, n=30, ci95=(0.4, 0.9))
    mean = over_tenants([{"accuracy": one}, {"accuracy": other}], ["accuracy"])["accuracy"]
    assert (mean.value, mean.n) == (pytest.approx(0.6), 40) and mean.ci95 is not None
    assert mean.ci95 == (pytest.approx(0.6 - 0.5 / 2), pytest.approx(0.6 + 0.05**0.5 / 2))
    bare = other.model_copy(update={"ci95": None})
    assert over_tenants([{"a": one}, {"a": bare}], ["a"])["a"].ci95 is None
