"""A report holds enough to be scored anew, and compares models on what both of them answered."""

import random
from functools import cache

import numpy as np
import pytest

from evaluation.contract.perturb import IDENTITY
from evaluation.inference.runner import Outcome
from evaluation.metrics import sample_scores
from evaluation.metrics.comparison import Compared, compare
from evaluation.metrics.measures import GradedAnswers, Measure
from evaluation.metrics.sample_scores import SampleScore
from evaluation.reporting.assembly import Choices, StageRun, assemble, rescore
from evaluation.reporting.report import Report
from evaluation.suites.families import SEEN
from evaluation.suites.steerability import Suite
from tests.evaluation import models
from tests.evaluation.evaluation_run import evaluated, measured, suite


def test_a_written_report_is_scored_anew_to_the_same_figures() -> None:
    made = evaluated({"base": models.oracle(), "sft": models.name_reader()})
    read = Report.model_validate_json(made.model_dump_json())
    assert rescore(read, made.counted).model_copy(update={"gate": made.gate}) == made


def test_other_families_can_be_counted_without_asking_again() -> None:
    runs = [StageRun("sft", "fake", measured(models.name_reader()))]
    shuffled = assemble("shop", suite(), runs, Choices(counted=("shuffle", "rename")))
    everything = assemble("shop", suite(), runs)
    assert everything.counted == tuple(SEEN)
    assert rescore(everything, ("shuffle", "rename")) == shuffled
    assert shuffled.stages[0].invariance != everything.stages[0].invariance
    assert shuffled.stages[0].per_family == everything.stages[0].per_family


def test_without_some_conversations_the_others_are_scored_as_if_they_alone_had_been_asked() -> None:
    asked = suite()
    gone = {item.conversation_id for item in asked.items[:5]}
    kept = [m for m in measured(models.name_reader()) if asked.items[m.item].conversation_id not in gone]
    found = rescore(
        assemble("shop", asked, [StageRun("sft", "fake", measured(models.name_reader()))]), SEEN, gone
    )
    assert found.stages == assemble("shop", asked, [StageRun("sft", "fake", kept)]).stages


def test_a_suite_comes_back_whole_but_for_its_texts() -> None:
    back = sample_scores.restore(sample_scores.keep(suite()))
    assert back.perturbations == suite().perturbations
    assert back.items == suite().items
    assert not back.conversations


def test_the_same_answers_differ_by_nothing_and_a_habit_loses_against_an_oracle() -> None:
    made = evaluated({"base": models.oracle(), "live": models.habit(), "rl": models.oracle()})
    same, better = made.stages[-1].compared["base"], made.stages[-1].compared["live"]
    assert (same.steerability.value, same.flip_accuracy.value, same.accuracy.value) == (0.0, 0.0, 0.0)
    for found in (same.flip_accuracy, same.accuracy):  # which is no certainty that they are alike
        assert found.ci95 is not None and -0.1 < found.ci95[0] < 0 < found.ci95[1] < 0.1
    assert better.flip_accuracy.ci95 is not None and better.flip_accuracy.ci95[0] > 0.5
    assert better.steerability.ci95 is not None and better.steerability.ci95[0] > 0.5
    assert made.stages[0].compared.keys() == {"live"}, "nothing is compared with itself"
    assert better.per_family.keys() == {p.family for p in suite().perturbations} - {IDENTITY}


def test_a_question_that_one_of_them_did_not_answer_compares_nothing() -> None:
    benchmark = suite()
    edited = next(i for i, item in enumerate(benchmark.items) if item.must_move)
    right = [SampleScore(i, Outcome.scored, item.gold_after) for i, item in enumerate(benchmark.items)]
    missed = [SampleScore(i, Outcome.errored) if i == edited else right[i] for i in range(len(right))]
    whole = compare(GradedAnswers(benchmark, right), GradedAnswers(benchmark, right), SEEN)
    part = compare(GradedAnswers(benchmark, right), GradedAnswers(benchmark, missed), SEEN)
    assert part.flip_accuracy.n == whole.flip_accuracy.n - 1
    assert part.flip_accuracy.value == 0


@pytest.mark.parametrize("measure", ["flip_accuracy", "steerability"])
def test_the_interval_of_a_difference_covers_what_repeated_evaluations_give_on_average(measure: str) -> None:
    differences = [_difference(seed) for seed in range(40)]
    found: list[Measure] = [getattr(one, measure) for one in differences]
    average = float(np.mean([m.value for m in found]))
    assert average < -0.03, "the simulation must be one in which they differ"
    covered = [m.ci95 is not None and m.ci95[0] <= average <= m.ci95[1] for m in found]
    assert np.mean(covered) >= 0.9


@cache
def _difference(seed: int) -> Compared:
    """Of two models that follow edits, right on 80 % and 90 % of the conversations."""
    benchmark, rng = suite(), random.Random(seed)
    worse, better = (GradedAnswers(benchmark, _answers(benchmark, right, rng)) for right in (0.8, 0.9))
    return compare(worse, better, SEEN)


def _answers(benchmark: Suite, right: float, rng: random.Random) -> list[SampleScore]:
    knows = {identity: rng.random() < right for identity in sorted(benchmark.conversations)}
    guess = {identity: rng.choice(benchmark.schema.keys) for identity in knows}
    answers = []
    for index, item in enumerate(benchmark.items):
        known, gold = knows[item.conversation_id], benchmark.perturbations[item.perturbation].gold
        answer = item.gold_after if known else gold(guess[item.conversation_id], item.conversation_id)
        answers.append(SampleScore(index, Outcome.scored, answer))
    return answers
