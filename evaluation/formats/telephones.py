r"""Telephone numbers, told by their form or by the word that stands before them.

By its form: one that begins with + or 00, or with 0 and has separators; five pairs, as in France; three, three and four
digits, as in North America; and, without separators, a German or British mobile. Other digits without separators are
one only behind a word for telephones, for order numbers look the same.
"""

import re
from collections.abc import Iterator
from typing import Final

# Within the brackets of a pattern. What is pasted has no-break and thin spaces and typographic hyphens.
SPACES: Final = r" \u00a0\u2000-\u200a\u202f"
DASHES: Final = r"\-\u2010-\u2015\u2212"

_S: Final = rf"[{SPACES}]"
_D: Final = rf"[{DASHES}]"
_ANY: Final = rf"[{SPACES}{DASHES}()./]"
_SPACED: Final = rf"{_S}[{DASHES}/]{_S}"
# With spaces around it a hyphen joins only what goes on with three digits: `- 2 days` is no part of the number.
_JOIN: Final = rf"(?:{_ANY}{{0,2}}|{_SPACED}(?=(?:\d{_S}?){{3}}))"
# Of neither a word nor a longer row of numbers.
_ALONE: Final = rf"(?<![\w+{DASHES}])(?<!\d[.,/{SPACES}])"
_DATE: Final = rf"\d{{1,2}}[./{DASHES}]\d{{1,2}}[./{DASHES}](?:\d\d|\d{{4}})(?!\d)"  # or hours: 09.30-18.00

_INTERNATIONAL: Final = (
    rf"(?<![\w+])(?:\+[1-9](?:{_JOIN}\d){{6,14}}"
    rf"|(?<!\d[{SPACES}{DASHES}])00[1-9]\d{{0,6}}(?:{_ANY}{{1,2}}|{_SPACED})\d(?:{_JOIN}\d){{5,11}})(?!\d)"
)
# Not where pairs go on: neither a row of dates nor the address of a network card.
_PAIRS: Final = (
    rf"{_ALONE}0[1-9](?P<between>[./{DASHES}])\d\d(?:(?P=between)\d\d){{3}}(?!(?P=between)?\d|{_D}?\w)"
)
_NATIONAL: Final = (
    rf"{_ALONE}(?!{_DATE})(?:\(?0|\(0\){_S}?)[1-9]"
    rf"(?:\d{{0,3}}[{SPACES}{DASHES})./]{{1,2}}|\d{{1,3}}\)?{_SPACED})\d(?:(?:{_S}{{0,2}}|[{DASHES}./])\d){{4,9}}(?!\d)"
)
_AMERICAN: Final = (
    rf"(?<![\w{DASHES}])(?<!\d[.,])(?:1[{SPACES}{DASHES}.])?(?:\(\d{{3}}\)[{SPACES}{DASHES}]{{0,2}}|\d{{3}}[{DASHES}.])"
    rf"\d{{3}}[{SPACES}{DASHES}.]\d{{4}}(?![\d{DASHES}])"
)
# Not within a longer row of groups, nor where thousands end in 000.
_AMERICAN_SPACED: Final = (
    rf"(?<![\w{DASHES}])(?<!\d[.,])(?<!\d{{3}}{_S})(?:1{_S})?\d{{3}}{_S}{{1,2}}(?!000)\d{{3}}[{SPACES}{DASHES}]{{1,2}}"
    rf"\d{{4}}(?![\d{DASHES}]|{_S}\d{{3}})"
)
_MOBILE: Final = rf"(?<!#){_ALONE}0(?:1[5-7]\d{{8,9}}|7[1-57-9]\d{{8}})(?!\w|[{DASHES}.,]\d)"
_BY_FORM: Final = re.compile(
    "|".join((_INTERNATIONAL, _PAIRS, _NATIONAL, _AMERICAN, _AMERICAN_SPACED, _MOBILE))
)

_WORD: Final = (
    r"(?:t[eé]l(?:[eé](?:ph|f)[oóô]{1,2}n[eo]?(?:nummer)?)?|phone|fon|mobil(?:e|nummer|telefon)?|m[oó]vil"
    r"|handy(?:nummer)?|cell(?:phone)?|gsm|whatsapp|fax)"
)
_BY_WORD: Final = re.compile(
    rf"(?<![^\W_])(?:{_WORD}|call|reach|anruf\w{{0,3}}|ruf\w{{0,6}}|erreich\w{{0,5}}|(?:my|meine) num(?:b|m)er)"
    r"(?:[^\w#]{1,3}(?:number|nummer|no|nr|me|us|back|sie|mich|uns|is|ist|lautet|at|on|under|unter|auf)){0,4}"
    rf"[^\w#]{{1,3}}(0\d{{6,13}}|\d{{10,13}})(?!\w|[{DASHES}.,]\d)",
    re.IGNORECASE,
)
# What people call a field that holds one, and what stands in it.
_FIELD: Final = re.compile(
    r"(?:(?:customer|client|contact|user|account|caller|home|work|business|billing|delivery)[ ._-]?)*"
    rf"(?:{_WORD}[ ._-]?)+(?:number|nummer|no|nr)?[ ._-]?\d?",
    re.IGNORECASE,
)
_DIALLED: Final = re.compile(rf"\s*[+(]{{0,2}}\d(?:[{SPACES}{DASHES}()./]{{0,3}}\d){{6,14}}\s*")


def by_form(text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in _BY_FORM.finditer(text))


def by_word(text: str) -> Iterator[tuple[int, int]]:
    return (found.span(1) for found in _BY_WORD.finditer(text))


def is_one(field: str, value: str) -> bool:
    """field: what metadata calls the value, which may lack its 0 or + there, being a number."""
    return _FIELD.fullmatch(field.strip()) is not None and _DIALLED.fullmatch(value) is not None
