"""What is wrong with a row is told once: one with a megabyte of mistakes takes no longer than to read it."""

from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.contract import strict_json
from evaluation.contract.record import MAX_MESSAGES, Conversation
from evaluation.contract.strict_json import MAX_DEPTH, unusable


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
