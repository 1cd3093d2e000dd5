"""What is wrong with a row is told once: one with a megabyte of mistakes takes no longer than to read it. So with what
a model wrote: nobody else is answered while it is read."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.contract import parse, strict_json
from evaluation.contract.record import MAX_MESSAGES, Conversation, conversation_from_text
from evaluation.contract.strict_json import MAX_DEPTH, unusable
from tests.evaluation.shop import SCHEMA


@pytest.mark.parametrize("wrong", [{}, [], {"role": 1}, {"role": "customer", "text": 7}])
def test_of_wrong_messages_the_first_is_told_and_no_other(wrong: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Conversation.model_validate({"id": "1", "messages": [wrong] * (MAX_MESSAGES * 100)})
    places = [error["loc"] for error in refused.value.errors()]
    assert places[0][:2] == ("messages", 0)
    assert {place[:2] for place in places} <= {("messages", 0), ("messages",)}  # and that too few are left


@pytest.mark.parametrize(
    "fine", ["ä€🎈", [], {}, None, 10**30, [1, 2.5, True, "x"], {"a": [{"b": ["c"]}]}, ["a"] * 1000]
)
def test_where_nothing_is_wrong_no_place_is_written_down(fine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "_unusable", lambda *_: pytest.fail("places were written down"))
    assert list(unusable(fine)) == []


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_looking_and_writing_down_agree_about_depth(depth: int) -> None:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    assert bool(list(unusable(value))) == (depth > MAX_DEPTH)


@pytest.mark.parametrize(
    "text",
    [
        " " * 20_000,
        "\n" * 20_000,
        "the " * 5_000,
        "so my final answer " * 1_000,
        "\n* " * 7_000,
        "code " * 4_000,
    ],
)
def test_an_answer_of_any_shape_is_read_at_once(text: str) -> None:
    codes = ("A", "B", "C", "D")
    began = time.thread_time()
    parse.parse(text, SCHEMA, codes)
    parse.settled(text)
    parse.code_at(text)
    parse.forced_prefix(text)
    assert time.thread_time() - began < 0.2


def test_an_answer_of_nothing_but_quotations_is_looked_up_at_once() -> None:
    conversation = conversation_from_text("wörd, " * 16_000)
    quotes = " ".join(f'"not in it {number}"' for number in range(500))
    began = time.thread_time()
    assert parse.evidence(quotes, conversation) == []
    assert time.thread_time() - began < 1
