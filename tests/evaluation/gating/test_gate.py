"""The gate tells models that follow definitions from those that do not, through the client that serves users."""

from pathlib import Path

import pytest

from evaluation.contract.record import Split
from evaluation.gating import gate
from evaluation.gating.policy import DEFAULT_POLICY, PolicyError, load_policy
from evaluation.metrics.measures import Measure
from evaluation.reporting.assembly import Choices, StageRun, assemble
from evaluation.reporting.report import GateReport, Report, Verdict
from evaluation.suites import steerability
from tests.evaluation import models
from tests.evaluation.evaluation_run import evaluated, measured, run, suite
from tests.evaluation.fake_server import Asked, FakeServer, Reply, says
from tests.evaluation.shop import SCHEMA, of_split


def graded(made: Report) -> GateReport:
    return gate.decide(made, load_policy())


def reason(result: GateReport, measure: str) -> str:
    return next(check.reason for check in result.checks if check.measure == measure)


def verdict(result: GateReport, measure: str) -> Verdict:
    return next(check.verdict for check in result.checks if check.measure == measure)


def test_a_model_that_follows_definitions_scores_1_and_passes() -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    last = made.stages[-1]
    assert last.steerability.value == pytest.approx(1.0)
    assert last.steerability.ci95 == pytest.approx((1.0, 1.0))
    assert (last.accuracy.value, last.flip_accuracy.value, last.invariance.value) == (1.0, 1.0, 1.0)
    assert (last.evidence_rate.value, last.unparsable.value) == (1.0, 0.0)
    assert graded(made).verdict is Verdict.passed


def test_an_accurate_classifier_that_ignores_definitions_scores_about_0_and_fails() -> None:
    made = evaluated({"base": models.oracle(), "sft": models.habit()})
    last = made.stages[-1]
    assert last.accuracy.value is not None
    assert last.accuracy.value > 0.9, "it must be accurate, or the test shows nothing"
    assert last.steerability.value is not None
    assert abs(last.steerability.value) < 0.35
    assert last.flip_accuracy.value is not None
    assert last.flip_accuracy.value < 0.2
    result = graded(made)
    assert result.verdict is Verdict.failed
    assert verdict(result, "steerability") is Verdict.failed


def test_a_model_that_reads_names_fails_where_meanings_were_exchanged_or_names_mislead() -> None:
    made = evaluated({"base": models.oracle(), "sft": models.name_reader()})
    families = made.stages[-1].per_family
    assert families["swap"].flip_accuracy.value is not None
    assert families["swap"].flip_accuracy.value < 0.1
    assert families["shuffle"].invariance.value == 1.0, "it does find names, wherever they stand"
    assert families["rename"].invariance.value is not None
    assert families["rename"].invariance.value < 0.5
    assert graded(made).verdict is Verdict.failed


def test_random_answers_do_not_pass() -> None:
    made = evaluated({"base": models.dice(), "sft": models.dice()})
    assert graded(made).verdict is Verdict.failed


def test_too_few_examples_are_incomplete_and_the_reason_says_how_many_it_takes() -> None:
    small = steerability.build(SCHEMA, of_split(Split.test)[::12], max_items=60)
    result = graded(evaluated({"base": models.oracle(), "rl": models.oracle()}, small))
    assert result.verdict is Verdict.incomplete
    assert "about 200 are needed" in reason(result, "steerability")


def test_where_nobody_has_the_base_all_else_is_judged_and_what_compares_with_it_is_named() -> None:
    for model, expected in ((models.oracle(), Verdict.passed), (models.habit(), Verdict.failed)):
        for stage in ("candidate", "base"):
            result = gate.decide(evaluated({stage: model}), load_policy(), base_needed=False)
            assert result.verdict is expected and not any("base" in c.measure for c in result.checks)
            assert result.not_judged == [
                "accuracy on schemas of others compared with the base",
                "accuracy compared with the base",
                "flip accuracy compared with the base",
            ]
    both = evaluated({"base": models.oracle(), "rl": models.oracle()})
    assert gate.decide(both, load_policy(), base_needed=False) == gate.decide(both, load_policy())


def test_without_a_base_the_gate_is_incomplete_and_says_what_to_do() -> None:
    result = graded(evaluated({"rl": models.oracle()}))
    assert result.verdict is Verdict.incomplete
    of_base = [c.reason for c in result.checks if c.measure.endswith(("_over_base", "_gain"))]
    assert set(result.reasons) == set(of_base)
    assert all("measure the base model too" in reason for reason in of_base)


def test_accuracy_lost_against_the_base_fails() -> None:
    def forgetful(asked: Asked) -> Reply:
        forgot = any(word in asked.customer for word in ("lamp", "kettle", "mugs"))
        return says("A") if forgot else models.oracle()(asked)

    result = graded(evaluated({"base": models.oracle(), "rl": forgetful}))
    assert verdict(result, "accuracy_over_base") is Verdict.failed


def rambling(asked: Asked) -> Reply:
    return Reply("I would rather not say.") if "lamp" in asked.customer else models.oracle()(asked)


def test_unparsable_answers_count_as_wrong_and_fail() -> None:
    server = FakeServer(rambling, knows_token_ids=False)  # a forced read finds no code there
    runs = [StageRun("base", "fake", measured(models.oracle())), StageRun("rl", "fake", run(server, suite()))]
    made = assemble("shop", suite(), runs)
    last = made.stages[-1]
    assert last.unparsable.value is not None
    assert last.unparsable.value > 0.05
    lamps = sum("lamp" in c.messages[0].text for c in of_split(Split.test)) / len(of_split(Split.test))
    assert last.accuracy.value == pytest.approx(1 - lamps, abs=0.03)
    assert verdict(graded(made), "unparsable") is Verdict.failed


def test_answers_that_always_have_to_be_forced_fail() -> None:
    def forced(asked: Asked) -> Reply:
        return models.oracle()(asked)._replace(text="Let me think about", finish_reason="length")

    made = evaluated({"base": models.oracle(), "rl": forced})
    assert made.stages[-1].accuracy.value == 1.0, "the forced read finds the code"
    assert verdict(graded(made), "forced_read") is Verdict.failed


def test_failed_requests_make_even_a_good_model_incomplete() -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    last = made.stages[-1].model_copy(update={"errored": Measure(value=0.006, n=900, ci95=(0.003, 0.01))})
    result = graded(made.model_copy(update={"stages": [made.stages[0], last]}))
    assert result.verdict is Verdict.incomplete
    assert "0.6 % of 900 requests failed on our side" in result.reasons[0]


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.85, 0.80, 0.90, Verdict.passed),
        (0.81, 0.73, 0.89, Verdict.passed),
        (0.85, 0.60, 0.99, Verdict.incomplete),
        (0.79, 0.70, 0.87, Verdict.failed),
        (0.79, 0.50, 0.95, Verdict.incomplete),
        (0.30, 0.10, 0.60, Verdict.failed),
    ],
)
def test_a_floor_is_judged_by_value_and_interval(
    value: float, low: float, high: float, expected: Verdict
) -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    changed = Measure(value=value, n=400, ci95=(low, high))
    last = made.stages[-1].model_copy(update={"steerability": changed})
    result = graded(made.model_copy(update={"stages": [made.stages[0], last]}))
    assert result.verdict is expected


def test_the_largest_category_may_not_swallow_the_others() -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    greedy = Measure(value=0.4, n=400, ci95=(0.35, 0.45))
    last = made.stages[-1].model_copy(update={"majority_over_selection": greedy})
    result = graded(made.model_copy(update={"stages": [made.stages[0], last]}))
    assert verdict(result, "majority_over_selection") is Verdict.failed


def test_an_abstention_threshold_is_part_of_what_is_measured() -> None:
    oracle = models.oracle()

    def unsure(asked: Asked) -> Reply:
        first, second = oracle(asked), "F"
        code = next(iter(first.probabilities))
        return first._replace(probabilities={second: 0.3, code: 0.5})

    runs = [StageRun("rl", "fake", measured(unsure))]
    assert assemble("shop", suite(), runs).stages[0].accuracy.value == 1.0
    abstaining = assemble("shop", suite(), runs, Choices(0.95)).stages[0]
    assert {c.category for c in abstaining.per_category if c.recall == 1.0} == {None, "size"}


def test_the_policy_is_named_by_the_hash_of_its_file(tmp_path: Path) -> None:
    copied = tmp_path / "policy.toml"
    copied.write_bytes(DEFAULT_POLICY.read_bytes())
    assert load_policy(copied).sha256 == load_policy().sha256
    copied.write_bytes(DEFAULT_POLICY.read_bytes() + b"# reviewed\n")
    assert load_policy(copied).sha256 != load_policy().sha256


@pytest.mark.parametrize(
    "text",
    ["version = 1", "not toml", 'version = 2\nmax_errored = 0.1\n[[floors]]\nmeasure = "luck"\nlimit = 1'],
)
def test_a_policy_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=r"policy\.toml"):
        load_policy(path)
