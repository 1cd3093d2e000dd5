"""Texts of strangers: when one says nothing, when two are one, and how one is shown."""

import time
import unicodedata

import pytest

from evaluation.contract.overlap import normalised
from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import SchemaError, parse_schema
from evaluation.contract.strict_json import KeyTwice, NotJson, decoded, parse
from evaluation.contract.text import blank, folded, harmless, normalized, revealed, unmistakable


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\u200b",
        "\ufeff\u200e",
        "\u00a0\u2003",
        "\x00\x1b",
        "\u3164\u2800",
        "\ufe0f",
        "\u00ad",
        "\u2028",
    ],
)
def test_what_nobody_sees_is_blank(text: str) -> None:
    assert blank(text)


@pytest.mark.parametrize("text", ["a", ".", "\u200ba", "🎈", "٣", "\u0301a", "\ufffc"])
def test_what_somebody_sees_is_not(text: str) -> None:
    assert not blank(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Refund", "refund"),
        ("refund", "refund\u200b"),
        ("caf\u00e9", "cafe\u0301"),
        ("Late parcel", " late\u00a0 parcel "),
        ("STRASSE", "straße"),
        ("a\u200db", "ab"),
    ],
)
def test_texts_that_a_reader_takes_for_one_are_folded_alike(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("refund", "refunds"), ("é", "e"), ("a1", "a2")])
def test_others_are_not(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_look_alikes_are_told_apart_by_code_points_and_other_words_are_left_alone() -> None:
    assert revealed("cafe\u0301") == "cafe<U+0301>" and revealed("caf\u00e9") == "caf<U+00E9>"
    assert unmistakable("caf\u00e9 возврат") == "caf\u00e9 возврат"
    assert unmistakable("refund\u200b") == "refund<U+200B>"


def test_a_text_that_is_shown_does_nothing() -> None:
    evil = "\x1b[2J\x1b]0;x\x07\x9b1m\u202egnp.exe\u2066\u2028\x7f\ttab\nline é 🎈 :key: [bold]"
    shown = harmless(evil)
    assert shown == ("␛[2J␛]0;x␇<U+009B>1m<U+202E>gnp.exe<U+2066><U+2028>␡\ttab\nline é 🎈 :key: [bold]")
    assert harmless("👩‍👩‍👧 می‌خواهم") == "👩‍👩‍👧 می‌خواهم"


def category(key: str, name: str, definition: str = "Asks.") -> dict[str, str]:
    return {"key": key, "name": name, "definition": definition}


TWINS = {
    "case": ([category("refund", "A"), category("Refund", "B")], "'Refund' and 'refund' are one to a reader"),
    "invisible": ([category("refund", "A"), category("refund\u200b", "B")], "'refund<U+200B>' and 'refund'"),
    "Unicode form": (
        [category("caf\u00e9", "A"), category("cafe\u0301", "B")],
        "'cafe<U+0301>' and 'caf<U+00E9>' are one",
    ),
    "names": ([category("a", "Late parcel"), category("b", "Late  parcel")], "name: 'Late  parcel' and"),
    "nothing to see": ([category("a", "A", "\u200b"), category("b", "B")], "'a', definition: is empty"),
    "the word for none": ([category("(none)", "A"), category("b", "B")], "is the word for none of these"),
    "the same": ([category("a", "A"), category("a", "B")], "'a' is used twice"),
}


@pytest.mark.parametrize("case", TWINS)
def test_a_schema_has_no_twins_and_nothing_empty(case: str) -> None:
    categories, reason = TWINS[case]
    with pytest.raises(SchemaError) as caught:
        parse_schema({"categories": categories})
    assert any(reason in problem for problem in caught.value.problems), caught.value.problems


def test_a_key_is_found_however_it_is_written() -> None:
    schema = parse_schema({"categories": [category("caf\u00e9", "A"), category("none", "B")]})
    assert schema.key_of("CAFE\u0301 ") == "caf\u00e9"
    assert (schema.key_of("none"), schema.key_of("other")) == ("none", None)


def test_a_schema_may_be_utf_16_or_begin_with_a_mark() -> None:
    text = '{"categories": [{"key": "a", "name": "A", "definition": "Asks."}]}'
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert parse_schema(text.encode(encoding)).keys == ("a",)


BAD_JSON = {
    "deep": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "digits": ('{"a": ' + "9" * 5000 + "}", "too many digits"),
    "not a number": ('{"a": NaN}', "NaN is not a number"),
    "cut off": ('{"a": 1,\n', "line 2"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_a_schema_that_is_no_json_is_said_to_be_so(case: str) -> None:
    text, reason = BAD_JSON[case]
    with pytest.raises(NotJson, match=reason):
        parse(text)
    with pytest.raises(SchemaError, match=reason):
        parse_schema(text)


def test_a_key_that_stands_twice_is_no_last_word() -> None:
    with pytest.raises(KeyTwice, match="'categories' stands twice"):
        parse('{"categories": [], "categories": [1]}')
    with pytest.raises(KeyTwice, match="a key stands twice"):
        parse('{"x": {"secret": 1, "secret": 2}}')


def test_bytes_that_are_no_text_are_named_by_their_place() -> None:
    with pytest.raises(NotJson, match="byte 2"):
        decoded(b'{"\xff')


@pytest.mark.parametrize(
    "heap", ["\u0301\u0316", "\u0f73", "\uff9e\u093c", "\u0301\u0316" * 15 + "\u034f"], ids=ascii
)
def test_marks_upon_marks_take_no_time(heap: str) -> None:
    """In any of the forms: sorting them takes a time that grows with the square of their number."""
    text = "a" + heap * (40_000 // len(heap))
    began = time.thread_time()
    folded(text)
    normalised(conversation_from_text(text))
    assert time.thread_time() - began < 0.5


def test_what_people_write_is_normalised_as_it_always_was() -> None:
    for text in (
        "Vie\u0323\u0302t Nam",
        "שָׁלוֹם עֲלֵיכֶם",
        "हिन्दी " * 20,
        "한국어",
        "배송" * 50,
        "ｶﾞｷﾞ" * 20,
        "😀" * 80,
    ):
        assert normalized("NFC", text) == unicodedata.normalize("NFC", text)
        assert normalized("NFKC", text) == unicodedata.normalize("NFKC", text)
