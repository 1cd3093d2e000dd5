"""Conversations replayed turn by turn: what holds, what flips, and what was right and is given up again."""

import asyncio
from collections.abc import Callable

import pytest

from evaluation.contract.record import Conversation, Message, Role
from evaluation.inference import runner
from evaluation.metrics import turns as scoring
from evaluation.metrics.turns import TurnsReport
from evaluation.suites import turns
from evaluation.suites.turns import TurnsSuite
from tests.evaluation.answering import FAILS, NO_ANSWER, Answering
from tests.evaluation.shop import SCHEMA, conversations


def talk(name: str, customer_turns: int, category: str | None = "refund") -> Conversation:
    """An agent greets, then customer and agent take turns; the customer has the last word but one."""
    messages = [Message(role=Role.agent, text="hello")]
    for number in range(1, customer_turns + 1):
        messages.append(Message(role=Role.customer, text=f"turn {number}"))
        messages.append(Message(role=Role.agent, text=f"reply {number}"))
    return Conversation(id=name, messages=tuple(messages), category=category)


TALKS = [talk(f"t{number}", 2 + number % 4) for number in range(20)]
SUITE = turns.build(SCHEMA, TALKS)


def scored(answer: Callable[[Conversation], str | None], suite: TurnsSuite = SUITE) -> TurnsReport:
    measured = asyncio.run(runner.run(suite.questions, Answering(lambda _, c: answer(c)), model="fake"))
    return scoring.score(suite, measured)


def one(answers: list[str | None]) -> TurnsReport:
    """Of one conversation of `refund` with these answers."""
    return scored(lambda c: answers[len(c.said) - 1], turns.build(SCHEMA, [talk("one", len(answers))]))


def test_prefixes_end_at_each_customer_message_and_the_whole_conversation_comes_last() -> None:
    items = turns.build(SCHEMA, [talk("one", 3)]).items
    assert [[m.text for m in item.conversation.messages] for item in items] == [
        ["hello", "turn 1"],
        ["hello", "turn 1", "reply 1", "turn 2"],
        ["hello", "turn 1", "reply 1", "turn 2", "reply 2", "turn 3", "reply 3"],
    ]
    assert [(item.seen, item.of, item.left) for item in items] == [(1, 3, 2), (2, 3, 1), (3, 3, 0)]
    assert all(Conversation.model_validate(item.conversation.model_dump()).labelled for item in items)


def test_messages_without_text_are_no_turns() -> None:
    blank = Message(role=Role.customer, text=" ")
    said = [Message(role=Role.customer, text=text) for text in ("a", "b")]
    conversation = Conversation(id="c", messages=(blank, said[0], blank, said[1], blank), category="refund")
    items = turns.build(SCHEMA, [conversation]).items
    assert [item.conversation.said for item in items] == [("a",), ("a", "b")]


def test_of_a_long_conversation_the_first_turn_and_the_last_are_kept_and_the_rest_spread() -> None:
    suite = turns.build(SCHEMA, [talk("long", 29)])
    assert [item.seen for item in suite.items] == [1, 5, 9, 13, 17, 21, 25, 29]
    assert scored(lambda c: "refund", suite).thinned == 1
    assert scored(lambda c: "refund").thinned == 0


def test_whole_conversations_are_drawn_at_random_until_the_budget_is_spent() -> None:
    small = turns.build(SCHEMA, TALKS, max_items=30)
    assert 25 <= len(small.items) <= 30
    assert {item.conversation.id for item in small.items if item.left == 0} == {
        item.conversation.id for item in small.items
    }
    assert len(SUITE.items) == sum(len(t.said) for t in TALKS)
    assert turns.build(SCHEMA, TALKS, max_items=1).items == ()


def test_conversations_of_one_message_or_without_a_label_are_not_replayed() -> None:
    unlabelled = Conversation(id="u", messages=TALKS[0].messages)
    unknown = talk("unknown", 3, "no such category")
    suite = turns.build(SCHEMA, [*conversations(), unlabelled, unknown])
    assert suite.items == ()
    report = scored(lambda c: "refund", suite)
    assert (report.flips.value, report.flipping.value, report.regressed.value) == (None, None, None)
    assert report.by_turns_left == [] and report.conversations == 0
    assert TurnsReport.model_validate_json(report.model_dump_json()) == report


def test_a_suite_is_the_same_for_the_same_seed_in_whatever_order_conversations_come() -> None:
    again = turns.build(SCHEMA, TALKS[::-1])
    assert again == SUITE and again.sha256 == SUITE.sha256
    assert turns.build(SCHEMA, TALKS, seed=1).sha256 != SUITE.sha256
    other = [TALKS[0].model_copy(update={"category": "cancel"}), *TALKS[1:]]
    assert turns.build(SCHEMA, other).sha256 != SUITE.sha256


def test_a_model_that_never_flips() -> None:
    report = scored(lambda c: "refund")
    assert (report.flips.value, report.flipping.value, report.regressed.value) == (0, 0, 0)
    assert report.first_is_final.value == 1
    assert report.conversations == report.flips.n == len(TALKS)
    assert {at.accuracy.value for at in report.by_turns_left} == {1}
    assert report.examples == []


def test_a_model_that_alternates_flips_at_every_turn() -> None:
    report = scored(lambda c: "refund" if len(c.said) % 2 else "cancel")
    assert report.flips.value == pytest.approx(sum(len(t.said) - 1 for t in TALKS) / len(TALKS))
    assert (report.flipping.value, report.regressed.value) == (1, 1)
    assert report.first_is_final.value == 0.5  # where the number of turns is odd
    assert len(report.examples) == 4
    for example in report.examples:
        assert [turn.said for turn in example.turns] == [
            f"turn {n}" for n in range(1, len(example.turns) + 1)
        ]
        assert [turn.answer for turn in example.turns] == (["refund", "cancel"] * 4)[: len(example.turns)]
        assert example.gold == "refund" and not any(turn.unparsable for turn in example.turns)
    assert TurnsReport.model_validate_json(report.model_dump_json()) == report


def test_finding_the_answer_late_is_a_flip_and_no_regression() -> None:
    report = one(["cancel", "cancel", "refund"])
    assert (report.flips.value, report.flipping.value, report.regressed.value) == (1, 1, 0)
    assert report.first_is_final.value == 0


@pytest.mark.parametrize("answers", [["refund", "cancel", "refund"], ["cancel", "refund", "cancel"]])
def test_leaving_the_right_answer_is_a_regression_whether_or_not_it_comes_back(
    answers: list[str | None],
) -> None:
    report = one(answers)
    assert (report.flips.value, report.regressed.value, report.first_is_final.value) == (2, 1, 1)


def test_from_one_wrong_answer_to_another_is_a_flip_and_no_regression() -> None:
    report = one(["cancel", None, "size"])
    assert (report.flips.value, report.regressed.value) == (2, 0)


def test_accuracy_is_counted_from_the_end() -> None:
    report = scored(lambda c: "refund" if len(c.said) > 1 else None)
    found = {at.turns_left: (at.accuracy.value, at.accuracy.n) for at in report.by_turns_left}
    assert found == {0: (1, 20), 1: (0.75, 20), 2: (pytest.approx(2 / 3), 15), 3: (0.5, 10), 4: (0, 5)}


def test_an_unreadable_answer_is_one_of_its_own() -> None:
    report = one([None, NO_ANSWER, NO_ANSWER, None])
    assert report.flips.value == 2
    (example,) = report.examples
    assert [turn.unparsable for turn in example.turns] == [False, True, True, False]
    assert [turn.answer for turn in example.turns] == [None] * 4


def test_a_conversation_with_a_failed_turn_is_left_out_and_counted() -> None:
    report = scored(lambda c: FAILS if c.id == "t3" and len(c.said) == 2 else "refund")
    assert (report.errored, report.conversations, report.flips.n) == (1, 19, 19)


def test_only_what_was_asked_is_counted() -> None:
    first = SUITE.items[0].conversation.id
    asked = [index for index, item in enumerate(SUITE.items) if item.conversation.id == first]
    running = runner.run(SUITE.questions, Answering(lambda _, c: "refund"), model="fake", only=asked)
    report = scoring.score(SUITE, asyncio.run(running))
    assert (report.conversations, report.errored) == (1, 0)


def test_below_the_threshold_of_traffic_an_answer_is_none_of_these() -> None:
    measured = asyncio.run(runner.run(SUITE.questions, Answering(lambda _, c: "refund"), model="fake"))
    unsure = [
        m.model_copy(update={"prediction": m.prediction.model_copy(update={"confidence": 0.4})})
        for m in measured
        if m.prediction and SUITE.items[m.item].left == 0
    ]
    sure = [m for m in measured if SUITE.items[m.item].left]
    assert scoring.score(SUITE, sure + unsure, 0.3).flipping.value == 0
    assert scoring.score(SUITE, sure + unsure, 0.5).flipping.value == 1
