"""Reasoning length against accuracy, where the truth is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluation.metrics.reasoning_length import MeasuredLength, ReasoningLength, against_accuracy


def answers(rng: np.random.Generator, n: int, slope: float) -> list[MeasuredLength]:
    """slope: how much likelier to be right the longest are than the shortest."""
    lengths = rng.integers(20, 60, size=n)
    right = rng.random(n) < 0.5 + slope * (lengths - 40) / 40
    return [
        MeasuredLength(str(i), int(length), bool(r))
        for i, (length, r) in enumerate(zip(lengths, right, strict=True))
    ]


def test_the_correlation_is_spearmans_with_ties() -> None:
    made = answers(np.random.default_rng(0), 200, 0.8)
    found = against_accuracy(made).correlation
    assert found.value == pytest.approx(
        spearmanr([a.length for a in made], [a.right for a in made]).statistic
    )
    assert found.n == 200


@pytest.mark.seconds
def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    many = answers(rng, 100_000, 0.8)
    everyone = spearmanr([a.length for a in many], [a.right for a in many]).statistic
    made = [against_accuracy(answers(rng, 100, 0.8)).correlation.ci95 for _ in range(100)]
    assert 0.88 <= np.mean([i is not None and i[0] <= everyone <= i[1] for i in made]) <= 0.99


def test_quartiles_hold_equal_numbers_from_the_shortest_on() -> None:
    made = against_accuracy([MeasuredLength(str(i), i, i >= 30) for i in range(40)])
    assert [(b.shortest, b.longest, b.accuracy.value, b.accuracy.n) for b in made.bins] == [
        (0, 9, 0, 10),
        (10, 19, 0, 10),
        (20, 29, 0, 10),
        (30, 39, 1, 10),
    ]
    assert made.bins[3].accuracy.ci95 and made.bins[3].accuracy.ci95[0] < 1, "ten of ten is not certainty"


def test_answers_of_one_length_stay_together() -> None:
    made = against_accuracy([MeasuredLength(str(i), 160 if i >= 10 else i, i % 2 == 0) for i in range(40)])
    assert [(b.shortest, b.longest, b.accuracy.n) for b in made.bins] == [(0, 9, 10), (160, 160, 30)]


def test_nothing_is_measured_where_nothing_differs() -> None:
    for made in (
        [],
        [MeasuredLength(str(i), 9, i > 2) for i in range(5)],
        [MeasuredLength(str(i), i, True) for i in range(5)],
    ):
        found = against_accuracy(made)
        assert (found.correlation.value, found.correlation.n) == (None, len(made))
    assert against_accuracy([]).bins == ()


def test_answers_of_one_conversation_widen_the_interval() -> None:
    alone = answers(np.random.default_rng(2), 100, 0.5)
    fourfold = [a for a in alone for _ in range(4)]
    apart = [a._replace(conversation_id=str(i)) for i, a in enumerate(fourfold)]
    wide, narrow = (against_accuracy(a).correlation.ci95 for a in (fourfold, apart))
    assert wide and narrow and wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_it_survives_json() -> None:
    made = against_accuracy(answers(np.random.default_rng(3), 50, 0.5))
    assert ReasoningLength.model_validate_json(made.model_dump_json()) == made
