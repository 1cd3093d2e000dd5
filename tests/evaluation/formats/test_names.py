"""Names go where their place tells what they are, and what else stands in such places stays."""

import time
from collections import Counter

import pytest

from evaluation.formats.names import is_of_a_name
from evaluation.formats.redaction import Redaction, Redactor


def clean(*texts: str) -> list[str]:
    redactor = Redactor(texts, Redaction.names_too)
    return [redactor.text(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Hello, my name is Anna Lee and I wait", "Hello, my name is [name] and I wait"),
        ("my name is john smith, order 12", "my name is [name], order 12"),
        ("MY NAME IS JOHN AND I AM ANGRY", "MY NAME IS [name] AND I AM ANGRY"),
        ("my name is J. R. Okafor-Lind.", "my name is [name]."),
        ("Dear Ms O'Brien,\nwhere is it?", "Dear Ms [name],\nwhere is it?"),
        ("Sehr geehrte Frau Müller-Weiß,\nich heiße Karl.", "Sehr geehrte Frau [name],\nich heiße [name]."),
        ("ask mr. jones", "ask mr. [name]"),
        ("Hi Anna, where is it", "Hi [name], where is it"),
        ("This is Anna from Berlin.", "This is [name] from Berlin."),
        ("Late again.\nBest regards,\nJohn van der Berg\nSales", "Late again.\nBest regards,\n[name]\nSales"),
        ("It is late. Thanks, Bob!", "It is late. Thanks, [name]!"),
        ("Es fehlt.\nMit freundlichen Grüßen\nkarl weiß", "Es fehlt.\nMit freundlichen Grüßen\n[name]"),
        ("It is late\n- Anna", "It is late\n- [name]"),
        ("Name: Jo Lind\norder 12", "Name: [name]\norder 12"),
        ("where is Anna's bag? thanks Anna", "where is [name]'s bag? thanks [name]"),
        ("my name is Ann, ann@shop.example", "my name is [name], [email]"),
    ],
)
def test_names_are_taken_out(text: str, left: str) -> None:
    assert clean(text) == [left]


@pytest.mark.parametrize(
    "text",
    [
        "My name is wrong on the invoice",
        "my name is not on the list",
        "Hi Support, where is it",
        "Dear Sir or Madam,",
        "Thanks in advance",
        "Hi Where is my parcel",
        "MS Teams is broken, and the Berlin shop is closed on Monday",
        "product name: Zelvo",
        "I met Anna",  # a name that nothing around it tells stays
        "I am waiting\nBest regards",
        "",
    ],
)
def test_what_stands_like_a_name_and_is_none_stays(text: str) -> None:
    assert clean(text) == [text]


def test_what_one_message_tells_goes_from_all_of_the_conversation() -> None:
    texts = clean("I met Anna Lee, a rose", "Hi Rose, my name is Anna Lee", "And Anna?")
    assert texts == ["I met [name], a rose", "Hi [name], my name is [name]", "And [name]?"]
    assert clean("MY NAME IS ANNA", "Anna is here") == ["MY NAME IS [name]", "[name] is here"]


def test_a_name_whose_letters_come_in_two_parts_is_the_same_name() -> None:
    assert clean("my name is Mu\u0308ller", "Müller, Mu\u0308ller") == ["my name is [name]", "[name], [name]"]


def test_names_stay_where_only_forms_are_wanted() -> None:
    text = "my name is Anna, ann@shop.example"
    assert Redactor([text], Redaction.by_form).text(text) == "my name is Anna, [email]"
    assert Redactor([text], Redaction.nothing).text(text) == text


def test_a_field_that_holds_a_name_is_taken_whole() -> None:
    count: Counter[str] = Counter()
    redactor = Redactor([], Redaction.names_too, count)
    kept = {"product name": "Zelvo", "total": 3, "filename": "a.txt"}
    assert redactor.metadata({"customer_name": "ann", "First Name": "Lee", **kept}) == {
        "customer_name": "[name]",
        "First Name": "[name]",
        **kept,
    }
    assert count == {"name": 2}
    assert is_of_a_name("contact-name") and not is_of_a_name("brand_name")


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 100_000,
        "Hi " * 33_000,
        "thanks, " * 12_000,
        "\nregards\n" * 10_000,
        "my name is a" * 9_000,
        "Mr. " * 25_000,
        "A" * 100_000,
        "de " * 33_000,
        "\n- A" * 25_000,
        "my name is " + "Aa " * 33_000,
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    began = time.process_time()
    clean(text)
    assert time.process_time() - began < 5
