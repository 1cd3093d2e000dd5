"""Bodies that a database could not hold are refused before they reach it."""

from typing import Any

import pytest
from pydantic import Field, ValidationError

from app.errors import InvalidRequest
from app.http.bodies import MAX_VALUES, check_values, parsed
from app.http.payload import MAX_UNKNOWN, Name, RequestBody
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
        ("a\x00b", "body", "NUL"),
        ({"a": ["ok", "\ud800"]}, "body.a[1]", "surrogate"),
        ({"a.b": ["\ud800"]}, "body.'a.b'[0]", "surrogate"),
        ({"a\x00": 1}, "body.(a key)", "NUL"),
        ({"a": {"b": float("nan")}}, "body.a.b", "not a number"),
        ([1, float("inf")], "body.[1]", "not a number"),
        (nested(MAX_DEPTH + 1), "body." + "[0]" * (MAX_DEPTH + 1), "levels deep"),
        ([[]] * (MAX_VALUES + 1), "body", "in parts"),
        ({str(number): [1, 2, 3] for number in range(MAX_VALUES // 4)}, "body", "in parts"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_place(value: Any, where: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_values(value)
    [problem] = refused.value.problems
    assert (problem.where, said in problem.message) == (where, True)


@pytest.mark.parametrize("number", [b"1", b"1e99"])
def test_more_numbers_than_may_be_are_not_read_to_their_end(number: bytes) -> None:
    """What follows is no JSON, and nobody comes to see it."""
    assert parsed(b"[" + b",".join([number] * MAX_VALUES) + b"]") == [float(number)] * MAX_VALUES
    with pytest.raises(InvalidRequest, match="in parts"):
        parsed(b"[" + b",".join([number] * (MAX_VALUES + 1)) + b",,")


def test_a_key_that_stands_twice_is_refused_wherever_it_stands() -> None:
    for body in (b'{"a": 1, "a": 1}', b'{"b": [{"a": {}, "c": 2, "a": {}}]}', b'{"a": 1, "\\u0061": 2}'):
        with pytest.raises(InvalidRequest, match="the key 'a' stands twice in one object"):
            parsed(body)
    assert parsed(b'{"a": {"a": [{"a": 1}, {"a": 2}]}}') == {"a": {"a": [{"a": 1}, {"a": 2}]}}


@pytest.mark.parametrize("value", ["ä €  🎈", {"a": [1, 2.5, None, True, "x"]}, nested(MAX_DEPTH), 10**30])
def test_ordinary_values_can_be_stored(value: Any) -> None:
    check_values(value)


def test_a_payload_refuses_unknown_fields_and_tells_of_some_of_them() -> None:
    assert Order.model_validate({"name": " a b "}).name == "a b"
    for body in ({"name": "a", "colour": "red"}, {"name": "   "}):
        with pytest.raises(ValidationError):
            Order.model_validate(body)
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({f"f{number}": 1 for number in range(10_000)} | {"name": "a"})
    assert refused.value.error_count() == MAX_UNKNOWN
