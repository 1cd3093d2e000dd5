"""Intervals hold what they promise, in simulations whose truth is known."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from evaluation.contract import score
from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.contract.score import UNPARSABLE, Graded, Moved
from evaluation.metrics import measures, statistics
from evaluation.metrics.statistics import Interval, clustered_interval, wilson_interval
from evaluation.suites import steerability
from evaluation.suites.steerability import Suite


def covered(intervals: Sequence[Interval | tuple[float, float] | None], truth: float) -> float:
    return float(np.mean([i is not None and i[0] <= truth <= i[1] for i in intervals]))


@pytest.mark.seconds
def test_the_interval_covers_the_truth_though_examples_of_a_conversation_agree() -> None:
    rng = np.random.default_rng(0)
    clustered, naive = [], []
    for trial in range(150):
        right_C = rng.random(60) < 0.7
        right_I = np.repeat(right_C, 4) ^ (rng.random(240) < 0.05)
        terms = np.column_stack([right_I, np.ones(240)]).astype(np.float64)
        conversations = [str(i // 4) for i in range(240)]
        clustered.append(
            clustered_interval(conversations, terms, statistics.ratio, resamples=300, seed=trial)
        )
        rows = [str(i) for i in range(240)]
        naive.append(clustered_interval(rows, terms, statistics.ratio, resamples=300, seed=trial))
    truth = 0.7 * 0.95 + 0.3 * 0.05
    assert 0.90 <= covered(clustered, truth) <= 0.99
    assert covered(naive, truth) < 0.85, "the simulation must be one in which clustering matters"


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    terms = np.column_stack([np.sqrt(np.arange(50)), np.ones(50)])
    clusters = [str(i // 2) for i in range(50)]
    first = clustered_interval(clusters, terms, statistics.ratio, seed=1)
    assert first == clustered_interval(clusters, terms, statistics.ratio, seed=1)
    assert first != clustered_interval(clusters, terms, statistics.ratio, seed=2)


def test_one_conversation_has_no_interval() -> None:
    assert clustered_interval(["a", "a"], np.ones((2, 2)), statistics.ratio) is None


def test_the_resampled_macro_f1_is_the_one_that_is_reported() -> None:
    rng = random.Random(0)
    answers = ["a", "b", "c", None]
    graded = [Graded(rng.choice(answers), rng.choice([*answers, UNPARSABLE])) for _ in range(60)]
    rows = [
        [j.right and j.gold == a for a in answers]
        + [j.gold == a for a in answers]
        + [j.given == a for a in answers]
        for j in graded
    ]
    whole = np.array(rows, dtype=np.float64).sum(axis=0)[None]
    assert statistics.macro_f1(whole)[0] == pytest.approx(score.macro_f1(graded))


def test_a_share_of_no_failures_is_not_certain() -> None:
    interval = wilson_interval(0, 100)
    assert interval is not None
    assert interval.low == 0
    assert interval.high == pytest.approx(0.037, abs=0.001)


@pytest.mark.seconds
@pytest.mark.parametrize("right", [0.95, 0.8])
def test_the_interval_of_steerability_covers_what_repeated_evaluations_give_on_average(right: float) -> None:
    benchmark = _suite()
    made = [
        measures.steerability(_answers(benchmark, right, random.Random(seed)), benchmark)
        for seed in range(40)
    ]
    average = float(np.mean([m.value for m in made if m.value is not None]))
    assert covered([m.ci95 for m in made], average) >= 0.9
    assert all(m.ci95 and m.value is not None and m.ci95[0] <= m.value <= m.ci95[1] for m in made)
    widths = [m.ci95[1] - m.ci95[0] for m in made if m.ci95]
    assert np.median(widths) < 0.25, "an interval that covers everything says nothing"


def _suite() -> Suite:
    categories = tuple(Category(key=f"k{i}", name=f"name {i}", definition=f"meaning {i}") for i in range(8))
    texts = [(conversation_from_text("text"), f"k{i % 8}", str(i)) for i in range(240)]
    labelled = [c.model_validate(c.model_dump() | {"id": i, "category": k}) for c, k, i in texts]
    return steerability.build(CategorySchema(categories=categories), labelled, max_items=600)


def _answers(benchmark: Suite, right: float, rng: random.Random) -> list[tuple[str, Moved]]:
    """A model that follows every edit, but knows only `right` of the conversations, and wavers in 3 of 10."""

    def guess(gold: str | None) -> str | None:
        return gold if rng.random() < right else rng.choice(benchmark.schema.keys)

    before = {
        item.conversation_id: guess(item.gold_before) for item in benchmark.items if not item.perturbation
    }
    rows = []
    for item in benchmark.items[len(before) :]:
        gold, known = benchmark.perturbations[item.perturbation].gold, before[item.conversation_id]
        after = gold(guess(item.gold_before) if rng.random() < 0.3 else known)
        moved = Moved(item.perturbation, item.gold_before, item.gold_after, known, after, gold(known))
        rows.append((item.conversation_id, moved))
    return rows
