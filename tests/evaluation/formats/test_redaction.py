"""What is taken out of what people wrote, and what looks like it and stays."""

import time
from collections import Counter

import pytest

from evaluation.formats.redaction import Redaction, Redactor, redacted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to Ann.Lee+shop@mail.example.org, please", "write to [email], please"),
        ("jürgen@müller.de?", "[email]?"),
        ("my card is 4111 1111 1111 1111 and 5500-0000-0000-0004.", "my card is [card] and [card]."),
        ("3782 8224 6310 005, 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[card], [card]"),
        ("DE89 3704 0044 0532 0130 00 thanks", "[iban] thanks"),
        ("gb29nwbk60161331926819, or NL91ABNA0417164300", "[iban], or [iban]"),
        ("a@b.cc +1 202 555 0143", "[email] [phone]"),
    ],
)
def test_personal_data_is_taken_out(text: str, left: str) -> None:
    assert redacted(text, Counter()) == left


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567890123456 has not come",  # no card: Luhn's check fails
        "parcel 00340434292135100186 since 01.02.2026 12:30",
        "me @ home, 5@6",
        "DE89 3704 0044 0532 0130 01",  # its check digits are wrong
        "at 1767350400001, in ms",  # no card begins so, though Luhn's check passes
        "SW57 and all of this is only words really",  # passes the check of IBANs, and is a sentence
        "ISBN 978-1-87-721939-0",  # Luhn's check passes, and no card begins so
        "on 2026-04-26 and 13 days ago",  # passes the check of IBANs
        "0000 0000 0000 0000",
        "",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert redacted(text, Counter()) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("4111 1111 1111 1111 12/27, cvc 123", "[card] 12/27, cvc 123"),
        ("5500-0000-0000-0004 08/26", "[card] 08/26"),
        ("4111 1111 1111 1111 123", "[card] 123"),
        ("378282246310005 12/27, 3782 822463 10005 123", "[card] 12/27, [card] 123"),
        ("Order 77 4111 1111 1111 1111", "Order 77 [card]"),
        ("77 4111111111111111 1227", "77 [card] 1227"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[card] [card]"),
        ("Tarif XL20 DE89370400440532013000", "Tarif XL20 [iban]"),
        ("Ref AB12 IBAN DE89 3704 0044 0532 0130 00", "Ref AB12 IBAN [iban]"),
        ("DE89 3704 0044 0532 0130 00 and FR76 3000 6000 0112 3456 7890 189", "[iban] and [iban]"),
        ("IBAN DE 89 3704 0044 0532 0130 00 12", "IBAN [iban] 12"),
    ],
)
def test_other_digits_beside_a_card_or_an_iban_do_not_hide_it(text: str, left: str) -> None:
    assert redacted(text, Counter()) == left


def test_all_goes_that_may_be_a_card_where_two_lie_within_each_other() -> None:
    assert redacted("4242 4242 4242 4242 4242 stays", Counter()) == "[card] stays"


@pytest.mark.parametrize(
    "separator", ["\u00a0", "\u202f", "\u2009", "\u2010", "\u2011", "\u2013", "\u2212", "  "]
)
def test_typographic_and_double_separators_are_separators(separator: str) -> None:
    for written, mark in (
        ("4111 1111 1111 1111", "[card]"),
        ("DE89 3704 0044 0532 0130 00", "[iban]"),
        ("+49 170 1234567", "[phone]"),
        ("0170 1234567", "[phone]"),
        ("555 123 4567", "[phone]"),
    ):
        assert redacted(written.replace(" ", separator), Counter()) == mark


def test_a_letter_in_two_parts_is_one_letter() -> None:
    assert redacted("max@mu\u0308ller.de, Gru\u0308ße", Counter()) == "[email], Grüße"


def test_numbers_in_metadata_are_read_as_they_would_be_written() -> None:
    count: Counter[str] = Counter()
    kept = {
        "total": 49.9,
        "gift": True,
        "order": 1234567890,
        "at": 1767350400001,
        "latitude": 52.4111111111111111,
    }
    found = Redactor([], Redaction.by_form, count).metadata(
        {"card": 4111111111111111, "paid with": 4111111111111111.0, "phone": 491701234567} | kept
    )
    assert found == {"card": "[card]", "paid with": "[card]", "phone": "[phone]"} | kept
    assert all(type(found[name]) is type(value) for name, value in kept.items())
    assert count == {"card": 2, "phone": 1}


def test_what_was_taken_out_is_counted() -> None:
    count: Counter[str] = Counter()
    redacted("a@b.cc c@d.ee 4111111111111111", count)
    assert count == {"email": 2, "card": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000 + "@",
        "1 " * 50_000,
        "9" * 100_000,
        "4111 " * 20_000,
        "DE12" * 25_000,
        "DE12 3456 " * 10_000,
        "a.@" * 33_000,
        "+1-" * 33_000,
        "06.12.34." * 11_000,
        "call me on " * 9_000 + "1",
        "a" + "\u0315\u0300" * 50_000,
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    began = time.process_time()
    redacted(text, Counter())
    assert time.process_time() - began < 5
