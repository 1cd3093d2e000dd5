"""The sample grows where the verdict is open, and looking several times does not make a wrong verdict likelier."""

import random
from collections.abc import Sequence

import pytest

from evaluation.contract.perturb import IDENTITY
from evaluation.contract.record import Split
from evaluation.gating import gate
from evaluation.gating.policy import load_policy
from evaluation.gating.sequential import Sample, open_families
from evaluation.metrics.measures import Measure, rate
from evaluation.reporting.report import Check, InterimLooks, Report, Verdict
from evaluation.suites import steerability
from tests.evaluation import models
from tests.evaluation.evaluation_run import evaluated, suite
from tests.evaluation.shop import SCHEMA, of_split

LOOKS = (0.4, 0.7, 1.0)


def check(verdict: Verdict, *families: str) -> Check:
    return Check(measure="x", verdict=verdict, reason="", families=families)


def asked(sample: Sample) -> dict[str, int]:
    benchmark = suite()
    families = [benchmark.perturbations[benchmark.items[i].perturbation].family for i in sample.indices]
    return {family: families.count(family) for family in families}


def test_every_look_asks_all_of_the_one_before_and_the_last_asks_everything() -> None:
    sample, everything = Sample(suite(), LOOKS), [check(Verdict.incomplete)]
    before: list[int] = []
    while True:
        assert set(before) < set(sample.indices)
        with_identity = {
            suite().items[i].conversation_id for i in sample.indices if not suite().items[i].perturbation
        }
        assert {suite().items[i].conversation_id for i in sample.indices} == with_identity
        before = sample.indices
        if not sample.grow(everything):
            break
    assert before == list(range(len(suite().items)))
    assert sample.used == len(LOOKS)


def test_only_families_whose_answers_can_still_decide_grow() -> None:
    sample, first = Sample(suite(), LOOKS), asked(Sample(suite(), LOOKS))
    assert sample.grow([check(Verdict.passed, "swap"), check(Verdict.incomplete, "novel")])
    grown = {family for family, count in asked(sample).items() if count > first[family]}
    assert grown == {"novel", IDENTITY}


@pytest.mark.parametrize(
    "checks",
    [
        [check(Verdict.passed)],
        [check(Verdict.failed), check(Verdict.incomplete)],
        [check(Verdict.incomplete, "reword")],  # which this suite does not have
    ],
)
def test_nothing_grows_once_more_answers_would_change_nothing(checks: list[Check]) -> None:
    assert not Sample(suite(), LOOKS).grow(checks)
    assert not open_families(checks, ["swap", "novel"])


def test_what_is_asked_follows_from_the_suite_alone() -> None:
    other = steerability.build(SCHEMA, of_split(Split.test), max_items=600, seed=1)
    assert Sample(suite(), LOOKS).indices == Sample(suite(), LOOKS).indices
    assert Sample(suite(), LOOKS).indices != Sample(other, LOOKS).indices


@pytest.mark.parametrize(("truth", "wrong"), [(0.72, Verdict.passed), (0.88, Verdict.failed)])
def test_a_model_on_the_far_side_of_the_slack_gets_the_wrong_verdict_in_one_gate_of_forty_at_most(
    truth: float, wrong: Verdict
) -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    rng = random.Random(0)
    sizes, simulations = (40, 70, 100), 3000  # small, so that it is the interval that decides
    runs = [[rng.random() < truth for _ in range(sizes[-1])] for _ in range(simulations)]
    careful = share_of(wrong, [_verdicts(made, answers, sizes, LOOKS) for answers in runs[:400]])
    assert careful <= 0.025 + 3 * (0.025 * 0.975 / 400) ** 0.5
    quick = share_of(wrong, [_graded(answers, sizes, gate.widening(len(sizes))) for answers in runs])
    careless = share_of(wrong, [_graded(answers, sizes, 1.0) for answers in runs])
    assert quick <= 0.025 + 3 * (0.025 * 0.975 / simulations) ** 0.5
    assert careless > 1.5 * quick, "the simulation must be one in which looking several times matters"


@pytest.mark.parametrize(
    ("used", "verdict"), [(1, Verdict.incomplete), (2, Verdict.incomplete), (3, Verdict.failed)]
)
def test_a_rank_correlation_fails_nobody_before_all_is_asked(used: int, verdict: Verdict) -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    policy = load_policy()
    (floor,) = (one for one in policy.floors if one.measure == "steerability")
    policy = policy.model_copy(update={"floors": (floor,), "not_worse": ()})
    low = Measure(value=0.5, n=400, ci95=(0.4, 0.6))
    changed = {
        "stages": [made.stages[-1].model_copy(update={"steerability": low})],
        "interim_looks": InterimLooks(planned=tuple(LOOKS), used=used),
    }
    decided = gate.decide(made.model_copy(update=changed), policy)
    check = next(one for one in decided.checks if one.measure == "steerability")
    assert check.verdict is decided.verdict is verdict
    assert ("which only all of the questions can decide" in check.reason) is (used < 3)
    assert bool(open_families([check], ["swap", "novel"])) is (used < 3)


def share_of(verdict: Verdict, found: Sequence[Verdict]) -> float:
    return sum(one is verdict for one in found) / len(found)


def _graded(answers: Sequence[bool], sizes: Sequence[int], widened: float) -> Verdict:
    limit = gate._Limit(limit=0.8, slack=0.08, least_n=1, sign=1, widened=widened)
    for size in sizes:
        found = gate._outcome(rate(sum(answers[:size]), size), limit).verdict
        if found is not Verdict.incomplete:
            return found
    return Verdict.incomplete


def _verdicts(made: Report, answers: Sequence[bool], sizes: Sequence[int], looks: Sequence[float]) -> Verdict:
    """Through the whole gate, with flip accuracy as the only thing that is open."""
    policy = load_policy()
    floor = policy.floors[1].model_copy(update={"limit": 0.8, "least_n": 1})
    policy = policy.model_copy(update={"floors": (floor,), "not_worse": ()})
    for size in sizes:
        changed: Measure = rate(sum(answers[:size]), size)
        last = made.stages[-1].model_copy(update={"flip_accuracy": changed})
        report = made.model_copy(
            update={"stages": [last], "interim_looks": InterimLooks(planned=tuple(looks))}
        )
        found = gate.decide(report, policy).verdict
        if found is not Verdict.incomplete:
            return found
    return Verdict.incomplete
