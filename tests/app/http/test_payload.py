"""Bodies that a database could not hold are refused before they reach it."""

from typing import Any

import pytest
from pydantic import Field, ValidationError

from app.http.payload import Name, RequestBody, unstorable
from evaluation.contract.strict_json import MAX_DEPTH


class Order(RequestBody):
    name: Name
    parts: list[dict[str, Any]] = Field(default_factory=list)


def nested(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "where", "said"),
    [
        ("a\x00b", "", "NUL"),
        ({"a": ["ok", "\ud800"]}, "'a'[1]", "surrogate"),
        ({"a\x00": 1}, "(a key)", "NUL"),
        ({"a": {"b": float("nan")}}, "'a'.'b'", "not a number"),
        ([1, float("inf")], "[1]", "not a number"),
        (nested(MAX_DEPTH + 1), "[0]" * (MAX_DEPTH + 1), "levels deep"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_place(value: Any, where: str, said: str) -> None:
    [problem] = unstorable(value)
    assert (problem.where, said in problem.message) == (where, True)


@pytest.mark.parametrize("value", ["ä €  🎈", {"a": [1, 2.5, None, True, "x"]}, nested(MAX_DEPTH), 10**30])
def test_ordinary_values_can_be_stored(value: Any) -> None:
    assert list(unstorable(value)) == []


def test_a_payload_refuses_unknown_fields_and_unstorable_ones() -> None:
    assert Order.model_validate({"name": " a b "}).name == "a b"
    for body in ({"name": "a", "colour": "red"}, {"name": "a", "parts": [{"b": "\x00"}]}, {"name": "   "}):
        with pytest.raises(ValidationError):
            Order.model_validate(body)
