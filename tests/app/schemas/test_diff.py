"""A diff says what an editor did, in the editor's words."""

from typing import Any

from app.schemas.diff import compare, to_text
from evaluation.contract.schema import Category, CategorySchema


def schema(*categories: Category, **fields: Any) -> CategorySchema:
    return CategorySchema(categories=categories, **({"name": "orders"} | fields))


def category(key: str, **changes: Any) -> Category:
    return Category(**({"key": key, "name": key.title(), "definition": f"About {key}."} | changes))


REFUND = category("refund", includes=("a double charge",), excludes=("a late refund",))
RETURN = category("return")
PARCEL = category("parcel")


def test_equal_schemas_do_not_differ() -> None:
    found = compare(schema(REFUND, RETURN), schema(REFUND, RETURN))
    assert not any(found)
    assert to_text(found) == "no difference"


def test_added_and_removed_categories_are_shown_whole() -> None:
    found = compare(schema(REFUND, RETURN), schema(RETURN, PARCEL))
    assert (found.added, found.removed) == ([PARCEL], [REFUND])
    assert not found.renamed and not found.changed and not found.reordered
    assert to_text(found).splitlines() == [
        "- category refund (Refund)",
        "    definition: About refund.",
        "    include: a double charge",
        "    exclude: a late refund",
        "+ category parcel (Parcel)",
        "    definition: About parcel.",
    ]


def test_a_changed_definition_shows_old_and_new() -> None:
    found = compare(schema(REFUND), schema(REFUND.model_copy(update={"definition": "Money back."})))
    [change] = found.changed
    assert change.key == "refund" and change.definition == ("About refund.", "Money back.")
    assert to_text(found).splitlines() == [
        "~ category refund",
        "    - definition: About refund.",
        "    + definition: Money back.",
    ]


def test_conditions_that_came_and_went_are_listed_apart() -> None:
    edited = REFUND.model_copy(update={"includes": ("a double charge", "a price drop"), "excludes": ()})
    found = compare(schema(REFUND), schema(edited))
    [change] = found.changed
    assert change.definition is None
    assert (change.includes_added, change.includes_removed) == (("a price drop",), ())
    assert (change.excludes_added, change.excludes_removed) == ((), ("a late refund",))
    assert to_text(found).splitlines() == [
        "~ category refund",
        "    + include: a price drop",
        "    - exclude: a late refund",
    ]


def test_another_name_under_the_same_key_is_a_rename() -> None:
    found = compare(schema(REFUND), schema(REFUND.model_copy(update={"name": "Money back"})))
    [renamed] = found.renamed
    assert renamed == (("refund", "refund"), ("Refund", "Money back"))
    assert not found.changed
    assert to_text(found) == "~ category refund renamed: name Refund → Money back"


def test_another_key_with_the_same_meaning_is_a_rename_and_not_a_replacement() -> None:
    found = compare(schema(REFUND, RETURN), schema(RETURN, REFUND.model_copy(update={"key": "money_back"})))
    assert not found.added and not found.removed and found.reordered
    assert to_text(found).splitlines() == [
        "~ category money_back renamed: key refund → money_back",
        "the order of the categories changed",
    ]


def test_two_categories_that_exchange_their_names_are_two_renames() -> None:
    one = REFUND.model_copy(update={"name": "Return"})
    two = RETURN.model_copy(update={"name": "Refund"})
    found = compare(schema(REFUND, RETURN), schema(one, two))
    assert [renamed.name for renamed in found.renamed] == [("Refund", "Return"), ("Return", "Refund")]


def test_name_order_and_none_of_these_are_told() -> None:
    found = compare(schema(REFUND, RETURN), schema(RETURN, REFUND, name="returns", none_of_these=True))
    assert found.name == ("orders", "returns") and found.none_of_these is True and found.reordered
    assert to_text(found).splitlines() == [
        "schema renamed: orders → returns",
        "none of these: now an answer",
        "the order of the categories changed",
    ]


def test_conditions_in_another_order_are_no_change_of_meaning() -> None:
    old = category("refund", includes=("a", "b"))
    assert not any(compare(schema(old), schema(old.model_copy(update={"includes": ("b", "a")}))))
