"""A verdict is explained to somebody who has to do something about it."""

from evaluation.contract.record import Split
from evaluation.gating import explain
from evaluation.gating.explain import _WORDS
from evaluation.gating.policy import Named
from evaluation.reporting.page import page
from evaluation.reporting.report import InterimLooks, Verdict
from evaluation.suites import steerability
from tests.evaluation import models
from tests.evaluation.evaluation_run import evaluated
from tests.evaluation.shop import SCHEMA, of_split


def test_what_failed_comes_first_with_what_to_do_and_the_weakest_kinds_of_edit() -> None:
    made = evaluated({"base": models.oracle(), "sft": models.name_reader()})
    told = explain.explain(made)
    assert [one.verdict for one in told] == sorted(
        (one.verdict for one in told), key=["failed", "incomplete", "passed"].index
    )
    steered = next(one for one in told if one.asked == _WORDS["steerability"].asked)
    assert "sft.perturb=true" in steered.change and steered.weakest.startswith("weakest on ")
    assert all(one.change for one in told if one.verdict is not Verdict.passed)
    assert not any(one.change for one in told if one.verdict is Verdict.passed)
    assert explain.lines(made)[0].startswith("failed: ")
    (steering,) = [mended for change, mended in explain.to_change(made).items() if "sft.perturb" in change]
    assert len(steering) >= 2, "one remedy is said once, with all that it is for"


def test_too_few_examples_say_how_many_and_where_they_come_from() -> None:
    small = steerability.build(SCHEMA, of_split(Split.test)[::12], max_items=60)
    told = explain.explain(evaluated({"base": models.oracle(), "rl": models.oracle()}, small))
    needed = [one.change for one in told if "about 200 examples are needed" in one.change]
    assert needed and "`benchmark.max_items`" in needed[0]


def test_what_was_not_asked_to_the_end_is_not_blamed_on_the_conversations() -> None:
    """The verdict was clear before: more labels would not be asked either."""
    small = steerability.build(SCHEMA, of_split(Split.test)[::12], max_items=60)
    made = evaluated({"base": models.oracle(), "rl": models.oracle()}, small)
    stopped = made.model_copy(update={"interim_looks": InterimLooks(planned=(0.4, 1.0), used=1)})
    needed = [one.change for one in explain.explain(stopped) if "about 200 examples are needed" in one.change]
    assert needed and "once the verdict was clear" in needed[0] and "label more" not in needed[0]


def test_every_measure_that_a_policy_can_name_has_words() -> None:
    assert set(Named.__args__) <= _WORDS.keys()


def test_a_report_that_nobody_has_judged_explains_nothing() -> None:
    made = evaluated({"base": models.oracle(), "rl": models.oracle()})
    assert explain.explain(made.model_copy(update={"gate": None})) == []


def test_the_page_says_what_would_have_to_change_below_the_verdict() -> None:
    made = evaluated({"base": models.oracle(), "sft": models.name_reader()})
    shown = page.render(made)
    assert (
        shown.index("Failed: this model")
        < shown.index("What would have to change")
        < shown.index("weakest on")
    )
    assert "What would have to change" not in page.render(made.model_copy(update={"gate": None}))
