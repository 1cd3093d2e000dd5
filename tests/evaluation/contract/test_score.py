"""Measures by hand, and against the libraries that everyone trusts."""

import random

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from evaluation.contract import score
from evaluation.contract.parse import Answer, ParseFailure
from evaluation.contract.score import UNPARSABLE, Graded, Moved, NothingMeasured
from evaluation.metrics.statistics import Shifting


def moved(gold: tuple[str | None, str | None], given: tuple[score.Given, score.Given], p: int = 0) -> Moved:
    return Moved(p, *gold, *given, given[0])


def test_none_of_these_is_an_answer_of_its_own_and_unparsable_is_not_it() -> None:
    graded = [Graded(None, None), Graded(None, UNPARSABLE), Graded("a", None), Graded("a", "a")]
    assert score.accuracy(graded) == 0.5
    assert score.recalls(graded) == {None: 0.5, "a": 0.5}


def test_macro_f1_by_hand() -> None:
    graded = [Graded("a", "a"), Graded("a", "b"), Graded("b", "b"), Graded("b", UNPARSABLE)]
    # a: precision 1, recall 1/2. b: precision 1/2, recall 1/2.
    assert score.macro_f1(graded) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_macro_f1_equals_the_reference_on_random_answers() -> None:
    rng = random.Random(0)
    for _ in range(20):
        pairs = [Graded(rng.choice("abcd"), rng.choice("abce")) for _ in range(30)]
        expected = f1_score(
            [j.gold for j in pairs], [j.given for j in pairs], average="macro", zero_division=0
        )
        assert score.macro_f1(pairs) == pytest.approx(expected)


def test_over_selection_is_the_predicted_share_of_the_largest_category_minus_its_real_share() -> None:
    graded = [Graded("a", "a"), Graded("a", "a"), Graded("b", "a"), Graded("c", "c")]
    assert score.over_selection(graded) == pytest.approx(3 / 4 - 2 / 4)


def test_of_equally_large_categories_the_majority_does_not_depend_on_what_was_answered() -> None:
    graded = [Graded("b", "b"), Graded("a", "b"), Graded("b", "b"), Graded("a", "b")]
    assert score.majority(graded) == "a"
    assert score.over_selection(graded) == -0.5


def test_ties_have_average_ranks() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: a covariance of 4.5, and spreads of 4.5 and 5.
    assert score.spearman([0.1, 0.2, 0.2, 0.3], [1, 3, 2, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_what_is_resampled_is_the_rank_correlation_that_is_reported() -> None:
    rng = random.Random(1)
    for ties in (3, 1000):
        for _ in range(20):
            x = [float(rng.randrange(ties)) for _ in range(25)]
            y = [a + rng.randrange(ties) for a in x]
            resampled = Shifting(["c"], [0], np.array(x), np.array([y]))
            assert resampled.value == pytest.approx(score.spearman(x, y))


@pytest.mark.parametrize(
    ("category", "failure", "gold", "right"),
    [
        ("a", None, "a", True),
        ("a", None, "b", False),
        ("a", None, None, False),
        (None, None, None, True),
        (None, ParseFailure.truncated, None, False),  # nothing could be read: that is not none of these
        (None, ParseFailure.no_label, "a", False),
    ],
)
def test_an_answer_is_right_where_it_could_be_read_and_is_the_gold_one(
    category: str | None, failure: ParseFailure | None, gold: str | None, right: bool
) -> None:
    answer = Answer(category, "", failure)
    assert score.is_right(answer, gold) is right
    assert score.given(answer) == (UNPARSABLE if failure else category)


def test_steerability_is_0_where_no_answer_moves() -> None:
    assert score.spearman([-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]) == 0.0


def test_steerability_has_no_value_where_nothing_was_asked_to_move() -> None:
    with pytest.raises(NothingMeasured):
        score.spearman([0.0, 0.0], [0.0, 1.0])


def test_shifts_by_hand() -> None:
    # Three examples of a move to b; one of them does not follow, and one of b strays to c.
    rows = [
        moved(("a", "b"), ("a", "b")),
        moved(("a", "b"), ("a", "b")),
        moved(("a", "b"), ("a", "a")),
        moved(("b", "b"), ("b", "c")),
    ]
    expected, observed = score.shifts(rows, [("a", "b", "c")])
    assert expected == [-0.75, 0.75, 0.0]
    assert observed == [-0.5, 0.25, 0.25]
    assert score.steerability(rows, [("a", "b", "c")]) == pytest.approx(
        spearmanr(expected, observed).statistic
    )


def test_an_answer_lost_to_unparsable_leaves_its_category_and_reaches_none() -> None:
    rows = [moved(("a", "b"), ("a", UNPARSABLE)), moved(("a", "b"), ("a", "b"))]
    assert score.shifts(rows, [("a", "b", None)]).observed == [-1.0, 0.5, 0.0]


def test_flips_invariance_and_overrides_by_hand() -> None:
    rows = [
        moved(("a", "b"), ("a", "b")),  # flipped, and overridden
        moved(("a", "b"), ("a", "a")),  # did not flip
        moved(("a", "b"), ("c", "b")),  # flipped, though wrong before
        moved(("c", "c"), ("c", "c")),
        moved(("c", "c"), ("c", "a")),
        moved(("c", "c"), (UNPARSABLE, UNPARSABLE)),  # silent twice has not stayed
    ]
    assert score.flip_accuracy(rows) == pytest.approx(2 / 3)
    assert score.override_rate(rows) == pytest.approx(1 / 2)
    assert score.invariance(rows) == pytest.approx(1 / 3)


def test_a_wrong_answer_whose_definition_moves_is_followed_there() -> None:
    wrong = Moved(0, "c", "c", before="a", after="b", before_followed="b")
    assert wrong.stayed
    assert not wrong._replace(after="a").stayed


@pytest.mark.parametrize("measure", [score.accuracy, score.macro_f1, score.over_selection])
def test_a_measure_of_nothing_raises(measure: object) -> None:
    with pytest.raises(NothingMeasured):
        measure([])  # type: ignore[operator]


@pytest.mark.parametrize("measure", [score.flip_accuracy, score.invariance, score.override_rate])
def test_a_share_of_nothing_raises(measure: object) -> None:
    with pytest.raises(NothingMeasured):
        measure([])  # type: ignore[operator]
