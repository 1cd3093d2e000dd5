"""How often a model that is as bad as a check's slack allows passes it, by simulating gates whose sample grows."""

from collections.abc import Callable, Sequence
from math import log, sqrt

import numpy as np
import pytest

from evaluation.contract import score
from evaluation.contract.score import Graded, Moved
from evaluation.gating import gate
from evaluation.gating.policy import NotWorse, load_policy
from evaluation.metrics import measures
from evaluation.metrics.measures import Measure
from evaluation.metrics.statistics import DIFFERENCE, clustered_interval, paired_interval, ratio
from evaluation.reporting.report import Verdict

pytestmark = pytest.mark.seconds

POLICY = load_policy()
PROMISED = 0.025


def not_worse(measure: str) -> gate._Limit:
    """Than the base, as the policy asks it."""
    asked = next(o for o in POLICY.not_worse if (o.measure, o.than, o.edits) == (measure, "base", "counted"))
    assert isinstance(asked, NotWorse)
    return gate._Limit(-asked.margin, asked.slack, asked.least_n, 1, gate.widening(len(POLICY.interim_looks)))


def floor(measure: str) -> gate._Limit:
    asked = next(o for o in POLICY.floors if o.measure == measure)
    return gate._Limit(asked.limit, asked.slack, asked.least_n, 1, gate.widening(len(POLICY.interim_looks)))


def passes(limit: gate._Limit, looks: Sequence[int], measured: Callable[[int], Measure]) -> bool:
    """measured: on the first so many conversations."""
    for look in looks:
        verdict = gate._outcome(measured(look), limit).verdict
        if verdict is not Verdict.incomplete:
            return verdict is Verdict.passed
    return False


def share(runs: int, one: Callable[[np.random.Generator], bool]) -> float:
    return sum(one(np.random.default_rng(run)) for run in range(runs)) / runs


def at_most_promised(found: float, runs: int) -> bool:
    return found <= PROMISED + 3 * sqrt(PROMISED * (1 - PROMISED) / runs)


def accuracy_gate(won: float, lost: float) -> Callable[[np.random.Generator], bool]:
    """won, lost: chances that a conversation is right for one model alone."""
    limit, looks = not_worse("accuracy"), (50, 88, 126)

    def one(rng: np.random.Generator) -> bool:
        found = rng.choice([1, -1, 0], size=looks[-1], p=[won, lost, 1 - won - lost]).tolist()
        return passes(limit, looks, lambda n: measures.paired_difference(found[:n]))

    return one


@pytest.mark.parametrize(("won", "lost"), [(0.0, 0.07), (0.01, 0.08), (0.04, 0.11), (0.1, 0.17)])
def test_accuracy_lost_by_margin_and_slack_passes_one_gate_in_forty_at_most(won: float, lost: float) -> None:
    runs = 1500
    assert at_most_promised(share(runs, accuracy_gate(won, lost)), runs)


def test_a_model_as_accurate_as_the_base_still_passes_most_gates() -> None:
    assert share(300, accuracy_gate(0.02, 0.02)) > 0.6


RIGHT, WRONG = (Moved(1, "a", "b", "a", after, "b") for after in ("b", "a"))


def answers(
    rng: np.random.Generator, together: float, levels: Sequence[int], chances: Sequence[float]
) -> list[list[int]]:
    """Of 90 conversations one to five answers each; together: how often those of one are all alike."""
    made = []
    for _ in range(90):
        size = int(rng.integers(1, 6))
        drawn = rng.choice(levels, size=1 if rng.random() < together else size, p=chances).tolist()
        made.append(drawn * size if len(drawn) < size else drawn)
    return made


def named(found: list[list[int]]) -> list[tuple[str, int]]:
    return [(str(number), one) for number, ones in enumerate(found) for one in ones]


@pytest.mark.parametrize("together", [0.3, 0.8])
def test_flip_accuracy_below_its_floor_by_the_slack_passes_one_gate_in_forty_at_most(together: float) -> None:
    limit, runs = floor("flip_accuracy"), 500
    truth = limit.limit - limit.slack

    def one(rng: np.random.Generator) -> bool:
        found = answers(rng, together, (1, 0), (truth, 1 - truth))
        return passes(
            limit,
            (36, 63, 90),
            lambda n: measures.flip_accuracy([(c, RIGHT if hit else WRONG) for c, hit in named(found[:n])]),
        )

    assert at_most_promised(share(runs, one), runs)


@pytest.mark.parametrize(("won", "lost"), [(0.0, 0.1), (0.01, 0.11), (0.06, 0.16)])
def test_flip_accuracy_lost_by_margin_and_slack_passes_one_gate_in_forty_at_most(
    won: float, lost: float
) -> None:
    limit, runs = not_worse("flip_accuracy"), 500

    def one(rng: np.random.Generator) -> bool:
        found = answers(rng, 0.6, (1, -1, 0), (won, lost, 1 - won - lost))
        return passes(
            limit, (36, 63, 90), lambda n: measures.mean_difference(*zip(*named(found[:n]), strict=True))
        )  # type: ignore[arg-type]

    assert at_most_promised(share(runs, one), runs)


@pytest.mark.parametrize(("won", "lost", "n"), [(3, 9, 50), (0, 4, 88), (12, 0, 40), (20, 31, 126)])
def test_the_ends_of_a_paired_interval_are_as_far_from_the_counts_as_the_test_allows(
    won: int, lost: int, n: int
) -> None:
    """By the likeliest share of losses under each end, searched for on a grid."""
    found = paired_interval(won, lost, n)
    assert found is not None and found.low < (won - lost) / n < found.high
    for end in found:

        def likelihood(losing: float, end: float = end) -> float:
            cells = ((won, losing + end), (lost, losing), (n - won - lost, 1 - 2 * losing - end))
            return sum(count * log(max(chance, 1e-300)) for count, chance in cells if count)

        grid = np.linspace(max(0.0, -end), (1 - end) / 2, 200_001)
        losing = max(grid[::200], key=likelihood)
        losing = max(
            np.linspace(max(0.0, -end, losing - 0.01), min((1 - end) / 2, losing + 0.01), 4001),
            key=likelihood,
        )
        distance = abs(won - lost - n * end) / sqrt(n * (2 * losing + end * (1 - end)))
        assert distance == pytest.approx(1.96, rel=2e-3)


def test_pairs_that_never_differ_are_not_certain_to_be_alike() -> None:
    found = paired_interval(0, 0, 50)
    assert found == pytest.approx((-3.8415 / 53.8415, 3.8415 / 53.8415), rel=1e-3)
    answers = [str(i // 3) for i in range(150)]
    clustered = clustered_interval(answers, np.tile([0.0, 1.0], (150, 1)), ratio, ends=DIFFERENCE)
    assert clustered is not None and clustered.low < -0.02 and clustered.high > 0.02
    assert paired_interval(0, 0, 0) is None


def test_values_are_those_of_the_contract() -> None:
    rng = np.random.default_rng(0)
    graded = {
        str(i): Graded(str(rng.choice(["a", "a", "b"])), str(rng.choice(["a", "b"]))) for i in range(60)
    }
    assert measures.accuracy(graded).value == pytest.approx(score.accuracy(list(graded.values())))
    assert measures.over_selection(graded).value == pytest.approx(score.over_selection(list(graded.values())))
