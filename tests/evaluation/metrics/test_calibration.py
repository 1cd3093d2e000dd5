"""Calibration keeps its promises in simulations whose truth is known, and counts what it cannot use."""

import asyncio
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from evaluation.contract.score import UNPARSABLE
from evaluation.inference import runner
from evaluation.inference.runner import Question, Questions
from evaluation.metrics import calibrator
from evaluation.metrics.calibration import Calibration, measure
from evaluation.metrics.calibrator import ALPHA, WANTED, Gold, ReadAnswer, conformal_set, fit
from evaluation.metrics.statistics import Floats
from evaluation.reporting.page import calibration_plots, page
from tests.evaluation.fake_server import FakeServer, Reply, predictor, says
from tests.evaluation.shop import SCHEMA, conversations

ANSWERS = ("a", "b", "c", "d", "e", None)


class Drawn(NamedTuple):
    """shown_NK: what the model says of each answer. gold_N: their numbers."""

    shown_NK: Floats
    gold_N: Floats

    @property
    def reads(self) -> list[ReadAnswer]:
        rows = zip(self.shown_NK.tolist(), self.shown_NK.argmax(axis=1), self.gold_N, strict=True)
        return [
            ReadAnswer(str(i), ANSWERS[gold], ANSWERS[top], dict(zip(ANSWERS, row, strict=True)))
            for i, (row, top, gold) in enumerate(rows)
        ]


def draw(rng: np.random.Generator, n: int, overconfidence: float = 1, spread: float = 3) -> Drawn:
    """A model whose confidences would be true at this temperature."""
    logits_NK = rng.normal(size=(n, len(ANSWERS))) * spread
    true_NK = _softmax(logits_NK)
    gold_N = np.minimum((true_NK.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), len(ANSWERS) - 1)
    return Drawn(_softmax(logits_NK * overconfidence), gold_N)


def flat(rng: np.random.Generator, n: int, right: float) -> Drawn:
    """A model whose confidences say nothing: it is right as often whatever they are."""
    shown_NK = draw(rng, n).shown_NK
    top_N = shown_NK.argmax(axis=1)
    return Drawn(shown_NK, np.where(rng.random(n) < right, top_N, (top_N + 1) % len(ANSWERS)))


def test_the_temperature_that_was_put_in_is_found() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.5, 1, 2, 4):
        found = fit(draw(rng, 2000, truth).reads)
        assert found.method == "temperature"
        assert found.temperature == pytest.approx(truth, rel=0.1)


def test_a_calibrated_model_has_an_ece_near_0_and_an_overconfident_one_only_once_it_is_scaled() -> None:
    rng = np.random.default_rng(1)
    calibrated = measure(fit(draw(rng, 1000).reads), draw(rng, 1000).reads)
    overconfident = measure(fit(draw(rng, 1000, 3).reads), draw(rng, 1000, 3).reads)
    assert calibrated.ece.before.value < 0.05
    assert calibrated.ece.before.ci95 and calibrated.ece.before.ci95[0] == 0
    assert overconfident.ece.before.value > 0.1
    assert overconfident.ece.before.ci95 and overconfident.ece.before.ci95[0] > 0.05
    assert overconfident.ece.after.value < 0.05
    for one in (overconfident.nll, overconfident.brier):
        assert one.after.value < one.before.value


@pytest.mark.seconds
def test_the_interval_of_the_ece_holds_0_for_nearly_all_calibrated_models() -> None:
    rng = np.random.default_rng(2)
    as_it_is = fit([])
    made = [measure(as_it_is, draw(rng, 150).reads).ece.before for _ in range(40)]
    assert np.mean([m.ci95 is not None and m.ci95[0] == 0 for m in made]) >= 0.9
    assert all(m.ci95 and m.value is not None and m.ci95[0] <= m.value <= m.ci95[1] for m in made)


def test_too_few_answers_and_answers_without_a_mistake_leave_confidences_as_they_are() -> None:
    few = fit(draw(np.random.default_rng(3), 49, 3).reads)
    assert (few.method, few.temperature, few.n) == ("none", 1, 49)
    assert few.reason and "49" in few.reason
    drawn = draw(np.random.default_rng(3), 300, 3)
    flawless = fit([read._replace(gold=read.given) for read in drawn.reads])
    assert (flawless.method, flawless.temperature) == ("none", 1)
    assert flawless.reason and "no mistake" in flawless.reason
    assert fit(drawn.reads).reason is None


@pytest.mark.seconds
def test_sets_hold_the_right_answer_as_often_as_promised_though_the_split_is_small() -> None:
    rng = np.random.default_rng(4)
    covered, sizes = [], []
    for _ in range(300):
        fitted, fresh = fit(draw(rng, 20, 3, 1.5).reads), draw(rng, 20, 3, 1.5).reads
        for read in fresh:
            assert read.probabilities is not None
            found = conformal_set(read.probabilities, fitted.quantile, fitted.temperature)
            covered.append(read.gold in found)
            sizes.append(len(found))
    # Without the correction for 20 answers it would be 0.86; between splits it varies by 0.065.
    assert 1 - ALPHA - 0.012 <= np.mean(covered) <= 0.95
    assert np.mean(sizes) < 5, "all six answers cover everything"


def test_a_set_is_never_empty_and_holds_everything_where_the_split_was_too_small() -> None:
    probabilities = {"a": 0.5, "b": 0.3, None: 0.2}
    assert conformal_set(probabilities, 0.1, 1) == {"a"}
    assert conformal_set(probabilities, 0.75, 1) == {"a", "b"}
    assert conformal_set(probabilities, None, 1) == {"a", "b", None}
    assert fit(draw(np.random.default_rng(5), 8).reads).quantile is None
    assert fit(draw(np.random.default_rng(5), 9).reads).quantile is not None


@pytest.mark.seconds
def test_a_threshold_is_hardly_ever_chosen_where_no_confidence_is_precise_enough() -> None:
    """The lowest of fifty passing bounds would be wrong here in every sixth split."""
    rng = np.random.default_rng(6)
    chosen = [fit(flat(rng, 300, WANTED[0] - 0.005).reads).thresholds[0] for _ in range(200)]
    assert np.mean([threshold is not None for threshold in chosen]) <= 0.05


@pytest.mark.seconds
def test_chosen_thresholds_reach_the_wanted_precision_in_95_of_100_splits() -> None:
    rng = np.random.default_rng(7)
    many = draw(rng, 20_000, 2, 8)
    right_N = many.shown_NK.argmax(axis=1) == many.gold_N
    reached: list[list[bool]] = [[] for _ in WANTED]
    for _ in range(100):
        fitted = fit(draw(rng, 400, 2, 8).reads)
        sure_N = _softmax(np.log(many.shown_NK + 1e-300) / fitted.temperature).max(axis=1)
        for found, wanted, threshold in zip(reached, WANTED, fitted.thresholds, strict=True):
            if threshold is not None:
                found.append(bool(right_N[sure_N >= threshold].mean() >= wanted))
    assert len(reached[0]) > 90 and len(reached[1]) > 50, "a threshold must be found in most splits"
    assert all(np.mean(found) >= 0.95 for found in reached if found)


def test_the_threshold_reported_is_the_chosen_one_with_what_it_does_to_held_out_answers() -> None:
    rng = np.random.default_rng(8)
    fitted, held_out = fit(draw(rng, 500, 2, 8).reads), draw(rng, 500, 2, 8).reads
    first, *_, last = measure(fitted, held_out).thresholds
    assert (first.wanted, first.threshold) == (WANTED[0], fitted.thresholds[0])
    assert first.threshold is not None
    kept = [
        r
        for r in held_out
        if calibrator.scaled(r.probabilities, fitted.temperature)[r.given] >= first.threshold
    ]
    assert first.coverage.value == len(kept) / 500
    assert first.precision.value == sum(r.given == r.gold for r in kept) / len(kept)
    assert last.threshold is None and last.coverage.value is None and last.precision.value is None


def test_what_has_no_confidence_is_counted_and_changes_nothing_else() -> None:
    drawn = draw(np.random.default_rng(9), 120, 2).reads
    odd = [ReadAnswer("u", "a", UNPARSABLE, None), ReadAnswer("v", "a", UNPARSABLE, {"a": 1.0})]
    odd += [ReadAnswer("w", "a", "b", None), ReadAnswer("x", "a", "b", {"a": 0.9, "c": 0.1})]
    assert fit([*drawn, *odd]) == fit(drawn)
    plain, made = measure(fit(drawn), drawn), measure(fit(drawn), [*odd, *drawn])
    assert (made.n, made.unparsable, made.without_probabilities) == (120, 2, 2)
    assert made == plain.model_copy(update={"unparsable": 2, "without_probabilities": 2})


def test_reads_come_from_what_a_server_answered_and_errors_are_counted() -> None:
    asked = conversations()[:6]
    replies = iter([says("A", sure=0.7), Reply("no code"), *[says("B")] * 3])
    server = FakeServer(lambda _: next(replies, Reply("no code")), failing=(400,))
    questions = Questions("x", [Question(SCHEMA, c) for c in asked[:4]])
    measured = asyncio.run(runner.run(questions, predictor(server), model="fake", concurrency=1))
    found, errored = calibrator.reads([Gold(c.id, c.category) for c in asked], measured)
    assert errored == 1
    assert [r.conversation_id for r in found] == [c.id for c in asked[1:4]]
    assert [r.gold for r in found] == [c.category for c in asked[1:4]]
    assert found[0].given == SCHEMA.answers[0]
    assert found[0].probabilities is not None and found[0].probabilities[SCHEMA.answers[0]] > 0.99


def test_an_answer_of_one_conversation_counts_once_in_what_is_fitted() -> None:
    drawn = draw(np.random.default_rng(10), 60).reads
    with pytest.raises(ValueError, match="twice"):
        fit([*drawn, drawn[0]])


def test_a_calibration_survives_json() -> None:
    rng = np.random.default_rng(11)
    for n in (400, 30, 0):
        made = measure(fit(draw(rng, n, 2).reads), draw(rng, n, 2).reads)
        assert Calibration.model_validate_json(made.model_dump_json()) == made


def test_of_nothing_held_out_nothing_is_measured() -> None:
    made = measure(fit(draw(np.random.default_rng(12), 200).reads), [ReadAnswer("u", "a", UNPARSABLE, None)])
    measured = [made.nll.after, made.ece.before, made.brier.before, made.aurc, made.conformal.coverage]
    assert all(m.value is None and m.n == 0 for m in measured)
    assert (made.bins, made.curve, made.n) == ((), (), 0)


def test_losses_are_those_computed_by_hand() -> None:
    pair = [
        ReadAnswer("1", "a", "a", {"a": 0.8, None: 0.2}),
        ReadAnswer("2", "a", None, {"a": 0.4, None: 0.6}),
    ]
    made = measure(fit([]), pair)
    assert made.nll.before.value == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert made.brier.before.value == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    assert made.ece.before.value == pytest.approx(abs((0.8 - 1 + 0.6 - 0) / 2))
    assert calibrator.scaled({"a": 0.8, None: 0.2}, 2)["a"] == pytest.approx(0.8**0.5 / (0.8**0.5 + 0.2**0.5))


def test_a_right_answer_that_the_server_did_not_report_is_a_loss_and_not_covered() -> None:
    unreported = [ReadAnswer("1", "c", "a", {"a": 0.8, "b": 0.2})]
    made = measure(fit([]), unreported)
    assert made.nll.before.value == pytest.approx(-math.log(calibrator.FLOOR))
    assert made.brier.before.value == pytest.approx(1 + 0.8**2 + 0.2**2)
    assert made.conformal.coverage.value == 0
    known = draw(np.random.default_rng(17), 20).reads
    assert fit(known).quantile is not None
    assert fit([r._replace(gold="f") if i < 5 else r for i, r in enumerate(known)]).quantile is None


def test_equal_confidences_are_never_parted_whatever_their_order() -> None:
    values = np.array([0.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.5])
    for bins in (1, 2, 4, 8):
        number = calibrator.equal_mass(values, bins)
        assert len({int(i) for i in number[1:6]}) == 1
        assert sorted(set(number.tolist())) == list(range(number.max() + 1))
        assert (calibrator.equal_mass(values[::-1], bins) == number[::-1]).all()
    assert calibrator.equal_mass(np.full(5, 0.7), 4).tolist() == [0] * 5
    assert np.bincount(calibrator.equal_mass(np.arange(40.0), 4)).tolist() == [10] * 4
    one = measure(
        fit([]), [ReadAnswer(str(i), "a", "a" if i < 45 else "b", {"a": 0.5, "b": 0.5}) for i in range(60)]
    )
    (only,) = one.bins
    assert (only.confidence, only.accuracy.value, only.accuracy.n) == (0.5, 0.75, 60)
    assert [(p.coverage, p.risk) for p in one.curve] == [(1, 0.25)]


def test_risk_is_that_of_the_surest_and_its_area_the_mean_over_them() -> None:
    sure_and_right = [(0.9, True), (0.8, True), (0.7, False), (0.7, True), (0.6, False)]
    given = [
        ReadAnswer(str(i), "a" if right else "b", "a", {"a": p, "b": 1 - p})
        for i, (p, right) in enumerate(sure_and_right)
    ]
    made = measure(fit([]), given)
    shown = [(round(p.threshold, 6), p.coverage, p.risk) for p in made.curve]
    assert shown == [(0.9, 0.2, 0), (0.8, 0.4, 0), (0.7, 0.8, 0.25), (0.6, 1, 0.4)]
    assert made.aurc.value == pytest.approx((0 + 0 + 2 * 0.25 + 0.4) / 5)
    assert len(measure(fit([]), draw(np.random.default_rng(13), 400).reads).curve) <= 50


def test_answers_of_one_conversation_widen_the_intervals() -> None:
    drawn = draw(np.random.default_rng(14), 150, 2).reads
    fourfold = [read for read in drawn for _ in range(4)]
    apart = [read._replace(conversation_id=str(i)) for i, read in enumerate(fourfold)]
    fitted = fit(drawn)
    together, alone = measure(fitted, fourfold), measure(fitted, apart)
    for wide, narrow in zip(_intervals(together), _intervals(alone), strict=True):
        assert wide > 1.5 * narrow


def test_the_plots_are_whole_and_use_the_classes_of_the_page() -> None:
    rng = np.random.default_rng(15)
    styles = Path(page.__file__).with_name("page.html.jinja").read_text(encoding="utf-8")
    drawn = measure(fit(draw(rng, 500, 2, 8).reads), draw(rng, 500, 2, 8).reads)
    nothing = measure(fit([]), [])
    for made in (drawn, nothing):
        for svg in (calibration_plots.reliability(made), calibration_plots.risk_coverage(made)):
            root = ET.fromstring(svg)
            assert root.tag == "svg" and root.findtext("title")
            for css in {name for e in root.iter() for name in e.get("class", "").split()}:
                assert re.search(rf"\.{css}\b", styles), css
    dots = ET.fromstring(calibration_plots.reliability(drawn)).findall("circle")
    assert len(dots) == len(drawn.bins)
    assert dots[-1].findtext("title", "").startswith(f"confidence {drawn.bins[-1].confidence:.3f}: accuracy")
    marked = ET.fromstring(calibration_plots.risk_coverage(drawn)).findall("circle")
    assert len(marked) == sum(t.threshold is not None for t in drawn.thresholds) > 0
    assert not ET.fromstring(calibration_plots.risk_coverage(nothing)).findall("circle")


def test_everything_drawn_is_inside_the_frame() -> None:
    drawn = measure(fit([]), flat(np.random.default_rng(16), 200, 0.1).reads)
    for svg in (calibration_plots.reliability(drawn), calibration_plots.risk_coverage(drawn)):
        root = ET.fromstring(svg)
        for line in root.iter("polyline"):
            for x, y in (point.split(",") for point in line.attrib["points"].split()):
                assert 44 <= float(x) <= 440 and 14 <= float(y) <= 218


def _softmax(logits_NK: Floats) -> Floats:
    exponentials = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _intervals(made: Calibration) -> Sequence[float]:
    found = [made.nll.before.ci95, made.brier.before.ci95, made.aurc.ci95, made.conformal.size.ci95]
    return [high - low for low, high in (ci95 for ci95 in found if ci95)]
