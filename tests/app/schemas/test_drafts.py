"""What is said about a draft that cannot be published yet."""

from typing import Any

import pytest

from app.schemas.drafts import MAX_CONDITION_CHARS, MAX_CONDITIONS, check


def category(key: str = "refund", **changes: Any) -> dict[str, Any]:
    return {"key": key, "name": key.title(), "definition": f"About {key}."} | changes


def problems(*categories: Any, **fields: Any) -> list[tuple[str, str]]:
    return [tuple(problem) for problem in check({"categories": list(categories)} | fields, "orders").problems]  # type: ignore[misc]


def test_a_complete_draft_takes_the_schemas_name_unless_it_has_its_own() -> None:
    schema, found = check({"categories": [category()]}, "orders")
    assert schema is not None and not found
    assert schema.name == "orders"
    renamed = check({"name": "returns", "categories": [category()]}, "orders").schema
    assert renamed is not None and renamed.name == "returns"


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        ({}, ("categories", "is missing")),
        ({"categories": []}, ("categories", "there are 0, and a schema has 1 to 100")),
        ({"categories": "x"}, ("categories", "must be a list")),
        ({"categories": [7]}, ("category 'number 1', entry", "must be an object in braces")),
        ({"categories": [category(definition="")]}, ("category 'refund', definition", "is empty; write one sentence")),
        ({"categories": [category(definition=None)]}, ("category 'refund', definition", "must be a text in quotes")),
        ({"categories": [{"key": "a"}]}, ("category 'a', name", "is missing")),
        ({"categories": [category("a b")]}, ("category 'a b', key", "must be 1 to 128 characters")),
        ({"categories": [category() | {'key': None}]}, ("category 'number 1', key", "must be a text in quotes")),
        ({"categories": [category(), category(name="B")]}, ("category 'refund', key", "'refund' is used twice")),
        ({"categories": [category(includes=["ok", " "])]}, ("category 'refund', includes", "a condition is empty")),
        ({"categories": [category(includes=["ok", 7])]}, ("category 'refund', includes.1", "must be a text in quotes")),
        ({"categories": [category(colour="red")]}, ("category 'refund', colour", "is not known; there are key, name,")),
        ({"categories": [category()], "colour": "red"}, ("colour", "is not known; there are name, question,")),
        ({"categories": [category()], "none_of_these": "perhaps"}, ("none_of_these", "must be true or false")),
    ],
)  # fmt: skip
def test_a_problem_names_category_and_field(draft: dict[str, Any], expected: tuple[str, str]) -> None:
    schema, found = check(draft, "orders")
    assert schema is None
    assert found[0].where == expected[0]
    assert found[0].message.startswith(expected[1])


def test_every_problem_is_named_and_not_only_the_first() -> None:
    found = problems(category("a", definition=""), category("b", name=""), {"key": "c"})
    assert [where for where, _ in found] == [
        "category 'a', definition",
        "category 'b', name",
        "category 'c', name",
        "category 'c', definition",
    ]
    twice = problems(category("a", name="Same"), category("b", name="Same", excludes=[""]))
    assert twice == [
        ("category 'b', name", "'Same' is used twice"),
        ("category 'b', excludes", "a condition is empty"),
    ]


def test_names_with_commas_and_colons_do_not_confuse_the_message() -> None:
    assert problems(category("a", name="One; two: three"), category("b", name="One; two: three")) == [
        ("category 'b', name", "'One; two: three' is used twice")
    ]


def test_a_schema_has_its_limits() -> None:
    long, many = "x" * (MAX_CONDITION_CHARS + 1), [f"c{number}" for number in range(MAX_CONDITIONS + 1)]
    assert problems(category("a", includes=["ok", long]), category("b", excludes=many)) == [
        ("category 'b', excludes", f"has {len(many)} conditions, and {MAX_CONDITIONS} are the most"),
        ("category 'a', includes.1", f"has {len(long)} characters, and {MAX_CONDITION_CHARS} are the most"),
    ]
    assert problems(*[category(f"k{number}") for number in range(101)]) == [
        ("categories", "there are 101, and a schema has 1 to 100")
    ]
    huge = ["x" * 499 for _ in range(50)]
    [(where, said)] = problems(*[category(f"k{number}", includes=huge) for number in range(10)])
    assert where == "draft" and "are the most" in said


def test_a_hostile_draft_is_not_answered_at_length() -> None:
    key = "a" * 100_000 + " "
    of_key_name_and_definition = 3
    for much, told in (([7] * 50_000, 51), ([7] * MAX_CONDITIONS, 50)):
        found = problems(category(key, includes=much))
        assert len(found) == told + of_key_name_and_definition
        assert sum(len(where) + len(said) for where, said in found) < 200_000
    assert len(problems(*[category(f"k{number}", includes=[7] * 50) for number in range(100)])) == 200
    assert len(problems(category() | {f"f{number}": 1 for number in range(50_000)})) == 1
    assert len(problems(category(), **{f"f{number}": 1 for number in range(50_000)})) == 1
