"""A gate without labels: what it can say of a model, what it cannot, and which labels it asks for."""

import asyncio
from collections.abc import Sequence

import pytest

from evaluation.contract.record import Conversation, Split
from evaluation.gating import label_free
from evaluation.gating.label_free import LabelFree, LabelFreeRun
from evaluation.gating.policy import load_policy
from evaluation.reporting.report import Check, Verdict
from tests.evaluation import models
from tests.evaluation.evaluation_run import Models
from tests.evaluation.fake_server import FakeServer, Model, says
from tests.evaluation.shop import SCHEMA, of_split


def unlabelled(conversations: Sequence[Conversation]) -> list[Conversation]:
    return [
        Conversation.model_validate(c.model_dump(exclude={"category", "criterion"}, exclude_unset=True))
        for c in conversations
    ]


TEST = of_split(Split.test)


def measured(model: Model | FakeServer, conversations: Sequence[Conversation], needed: int = 50) -> LabelFree:
    run = LabelFreeRun(SCHEMA, conversations, needed, max_items=300)
    return asyncio.run(label_free.measure(run, Models({"base": says_nothing, "rl": model})))


def says_nothing(_: object) -> object:
    raise AssertionError("only the candidate is asked")


def test_a_model_that_follows_definitions_follows_its_own_answers_definition() -> None:
    found = measured(models.oracle(), unlabelled(TEST))
    assert found.follows.value == 1.0 and found.follows.n > 20
    assert {family: one.value for family, one in found.stays.items()} == {"rename": 1.0, "shuffle": 1.0}
    assert found.injection_success.n > 20
    assert (found.labelled, found.missing, found.errored) == (0, 50, 0)


def test_one_that_knows_texts_by_heart_stays_where_its_definition_left() -> None:
    """It is as right as the other: labels would not tell them apart, edits do."""
    found = measured(models.habit(), unlabelled(TEST))
    assert found.follows.value is not None and found.follows.value < 0.3


def test_one_that_answers_by_place_does_not_survive_a_shuffle() -> None:
    found = measured(lambda _: says("A"), unlabelled(TEST))
    assert found.stays["shuffle"].value is not None and found.stays["shuffle"].value < 0.7


def test_what_cannot_be_read_is_counted_and_nothing_is_made_of_it() -> None:
    found = measured(FakeServer(lambda _: says("Z"), knows_token_ids=False), unlabelled(TEST))
    assert (found.n, found.unparsable.value, found.follows.value, found.stays) == (0, 1.0, None, {})
    assert found.label_first == ()


def test_it_asks_first_for_a_label_of_each_category_and_then_by_lot() -> None:
    found = measured(models.oracle(), unlabelled(TEST))
    assert len(found.label_first) == 50
    categories = {c.category for c in TEST}
    first = found.label_first[: len(categories)]
    assert {one.answered for one in first} == categories
    assert {one.why for one in first} == {"the first of its category, as the model answers"}
    assert {one.why for one in found.label_first[len(categories) :]} == {"as it comes"}


def test_it_grows_with_the_labels() -> None:
    """What has a label is not asked for again, and what is left comes in the same order."""
    before = measured(models.oracle(), unlabelled(TEST))
    named = [one.conversation_id for one in before.label_first]
    have = set(named[:20])
    mixed = [c if c.id in have else unlabelled([c])[0] for c in TEST]
    after = measured(models.oracle(), mixed)
    assert (after.labelled, after.missing) == (20, 30)
    assert [one.conversation_id for one in after.label_first] == named[20:]


def test_how_many_are_needed_is_what_the_policy_wants_and_what_an_incomplete_gate_has_said() -> None:
    policy = load_policy()
    assert label_free.needed(policy) == 50
    open_check = Check(measure="accuracy_over_base", verdict=Verdict.incomplete, reason="", needed=90)
    closed = Check(measure="accuracy_over_live", verdict=Verdict.passed, reason="", needed=None)
    of_edits = Check(measure="flip_accuracy", verdict=Verdict.incomplete, reason="", needed=900)
    assert label_free.needed(policy, [open_check, closed, of_edits]) == 90


def test_its_sentences_say_what_is_missing_and_what_was_found() -> None:
    told = label_free.reasons(measured(models.oracle(), unlabelled(TEST)))
    assert told[0] == "50 more held-out conversations need a label, of which there are 0"
    assert told[1].startswith("these would decide it soonest: '")
    assert any("1.00 went with it" in sentence for sentence in told)


@pytest.mark.parametrize("conversations", [[], TEST[:1]])
def test_few_conversations_are_no_error(conversations: list[Conversation]) -> None:
    found = measured(models.oracle(), conversations)
    assert found.n == len(conversations) and found.missing == 50 - len(conversations)
