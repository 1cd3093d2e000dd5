"""Telephone numbers are told by their form or by the word before them, and dates, hours and amounts stay."""

from collections import Counter

import pytest

from evaluation.formats.redaction import redacted
from evaluation.formats.telephones import is_one


@pytest.mark.parametrize(
    "text",
    [
        "+49 (0)30 123456-78",
        "+49 (0)170 - 12 34 567",
        "0044 20 7946 0958",
        "0049170 1234567",
        "030/1234567",
        "(030) 123 45 67",
        "0170 / 123 45 67",
        "0170 - 1234567",
        "(0)170 1234567",
        "044.668.18.00",
        "06.12.34.56.78",
        "06-12-34-56-78",
        "06 12 34 56 78",
        "(555) 123-4567",
        "(555)-123-4567",
        "555-123-4567",
        "1-555-123-4567",
        "555 123 4567",
        "555.123.4567",
        "01701234567",
        "07700900123",
    ],
)
def test_a_telephone_number_is_told_by_its_form(text: str) -> None:
    assert redacted(f"{text}, or Tel.{text}", Counter()) == "[phone], or Tel.[phone]"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("call me on 5551234567", "call me on [phone]"),
        ("my mobile number is 0612345678.", "my mobile number is [phone]."),
        ("Telefonnummer: 0301234567", "Telefonnummer: [phone]"),
        ("rufen Sie mich unter 00493012345678 an", "rufen Sie mich unter [phone] an"),
    ],
)
def test_one_without_separators_is_told_by_the_word_before_it(text: str, left: str) -> None:
    assert redacted(text, Counter()) == left


@pytest.mark.parametrize(
    "text",
    [
        "order 0012345678, order 0612345678",
        "I call about order 1234567890, call #1234567890",
        "on 01.02.2026, on 01/02/2026 10:30, on 01-02-26",
        "from 01.02.26-03.02.26, from 01-02-26-03-02-26",
        "open 09.30-18.00, 09.30\u201318.00 or 08.00 - 16.00",
        "it costs 1.234.567,00 EUR, or 100-200-300, or 1 050 000 000",
        "555 123 456 in 2025, 250 000 2026",
        "parcel 7712 345 678 9012, 555 123 4567 8901",
        "version 10.0.0.1, 01.02.03.0405, 2026-01-02T10:30:00, 2026\u201001\u201002T10:30:00",
        "network card 01-23-45-67-89-ab",
    ],
)
def test_dates_hours_amounts_and_other_numbers_stay(text: str) -> None:
    assert redacted(text, Counter()) == text


def test_what_goes_on_behind_a_number_is_no_part_of_it() -> None:
    assert redacted("+49 30 1234567 - 2 days ago", Counter()) == "[phone] - 2 days ago"


def test_a_field_that_is_called_so_may_hold_one_without_its_zero() -> None:
    assert all(is_one(field, "1701234567") for field in ("phone", "customer_phone", "phoneNumber", "Tel. 2"))
    assert not any(is_one(field, "1701234567") for field in ("order", "phone_price", "hotel", "headphones"))
    assert not is_one("phone", "unknown") and not is_one("phone", "123456")
