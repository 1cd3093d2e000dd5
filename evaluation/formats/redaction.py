"""Personal data that can be told by its form, taken out of what people wrote: `[email]` `[phone]` `[card]` `[iban]`.

The rules are clear rather than clever: cards pass Luhn's check and IBANs theirs, so that order numbers stay; what a
telephone number is stands in `evaluation.formats.telephones`. Names go where that is wanted, as far as their
place tells them (`evaluation.formats.names`). Addresses stay.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from string import ascii_uppercase
from typing import Any, Final

from evaluation.formats import names, telephones
from evaluation.formats.telephones import DASHES, SPACES

# A letter and its marks. Not a whole text at once: a long row of marks takes Unicode's composition quadratic time.
_IN_PARTS: Final = re.compile(r"[^\W\d_][\u0300-\u036f]{1,8}")
_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_SEPARATOR: Final = rf"[{SPACES}{DASHES}]?"
_GAP: Final = rf"[{SPACES}{DASHES}]{{0,3}}"
# From every place where one may begin, for others look so too. `on 2026` does not begin one, `DE 89` does.
_IBAN: Final = re.compile(
    rf"(?<![A-Za-z0-9])(?=((?:[A-Za-z]{{2}}|[A-Z]{{2}}{_GAP})\d\d(?:{_GAP}[A-Za-z0-9]){{11,30}}))"
)
_GROUP: Final = re.compile(r"[^\W_]+")
_AS_NUMBERS: Final = str.maketrans({letter: str(int(letter, 36)) for letter in ascii_uppercase})

# What cards of 13 and more digits begin with, but those of 14 and 15 below: no year, time in milliseconds or ISBN.
_ISSUER: Final = rf"(?:[4-6]{_SEPARATOR}\d|2{_SEPARATOR}[2-7]|3{_SEPARATOR}5|8{_SEPARATOR}[12])"
_CARD_GAP: Final = rf"[{SPACES}{DASHES}.]{{0,3}}"
_FOURS: Final = rf"(?:{_ISSUER}\d\d|9792)(?:{_CARD_GAP}\d{{4}}){{3}}"
# In any groups; and as cards are printed, from every group on, for other digits may stand before and behind.
_CARDS: Final = tuple(
    re.compile(rf"(?<![\d+]){form}")
    for form in (
        rf"({_ISSUER}(?:{_SEPARATOR}\d){{11,17}})(?!\d)",
        rf"(?=({_FOURS})(?!\d))",
        rf"(?=({_FOURS}{_CARD_GAP}\d{{1,3}})(?!\d))",
        rf"(?=(3\d{{3}}(?:{_CARD_GAP}\d){{10,11}})(?!\d))",
    )
)


class Redaction(StrEnum):
    """What is taken out."""

    nothing = "nothing"
    by_form = "by_form"
    names_too = "names_too"


class Redactor:
    """Of one conversation: a name that one of its messages tells is taken out of all that is said of it.

    count: gets how many of each kind were taken out.
    """

    def __init__(self, messages: Iterable[str], redaction: Redaction, count: Counter[str] | None = None):
        self._redaction = redaction
        self._count = Counter[str]() if count is None else count
        wanted = redaction is Redaction.names_too
        self._names = names.told_in(redacted(text, Counter()) for text in messages) if wanted else frozenset()

    def text(self, text: str) -> str:
        if self._redaction is Redaction.nothing:
            return text
        text = redacted(text, self._count)
        wanted = self._redaction is Redaction.names_too
        return names.without_names(text, self._names, self._count) if wanted else text

    def metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._value(name, value) for name, value in metadata.items()}

    def _value(self, name: str, value: Any) -> Any:
        if self._redaction is Redaction.nothing:
            return value
        written = _written(value)
        named = self._redaction is Redaction.names_too and isinstance(value, str) and value
        if named and names.is_of_a_name(name):
            self._count["name"] += 1
            return names.MARK
        if telephones.is_one(name, written):
            self._count["phone"] += 1
            return "[phone]"
        clean = self.text(written)
        return value if clean == written else clean


def _written(value: Any) -> str:
    """Of a number its digits: cards and telephone numbers come as numbers too, though never with a fraction."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else ""
    return str(value)


def redacted(text: str, count: Counter[str]) -> str:
    """What its form tells. count: gets how many of each kind were taken out. Letters and their marks become one."""
    text = _IN_PARTS.sub(lambda found: unicodedata.normalize("NFC", found[0]), text)
    if "@" not in text and not any(map(str.isdigit, text)):
        return text
    for kind, found in _KINDS:
        text = _without(text, f"[{kind}]", found, count)
    return text


def _without(
    text: str, mark: str, found: Callable[[str], Iterator[tuple[int, int]]], count: Counter[str]
) -> str:
    pieces, passed = [], 0
    for begin, end in found(text):
        pieces += [text[passed:begin], mark]
        passed = end
        count[mark[1:-1]] += 1
    return "".join([*pieces, text[passed:]]) if pieces else text


def _spans(pattern: re.Pattern[str]) -> Callable[[str], Iterator[tuple[int, int]]]:
    return lambda text: (found.span() for found in pattern.finditer(text))


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """Of what goes on behind it, as in `… 3000 thanks`, only as much is taken as makes it right."""
    passed = 0
    for found in _IBAN.finditer(text):
        begin = found.start()
        if begin < passed:
            continue
        compact, end = "", begin
        for group in _GROUP.finditer(text, begin, found.end(1)):
            compact += group[0].upper()
            if not text[group.end() : group.end() + 1].isalnum() and _is_iban(compact):
                end = group.end()
        if end > begin:
            yield begin, end
            passed = end


def _is_iban(compact: str) -> bool:
    """ISO 13616: the country and its check digits behind the rest, letters as numbers, leave 1 when divided by 97.

    Most of the rest is digits, in every country; in a sentence, which may pass the check too, it is not.
    """
    rest = compact[4:]
    if not 15 <= len(compact) <= 34 or sum(map(str.isdigit, rest)) * 2 <= len(rest):
        return False
    return int((rest + compact[:4]).translate(_AS_NUMBERS)) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Where several begin or end within each other all of it goes, for any of them may be the card."""
    spans = sorted(
        found.span(1)
        for form in _CARDS
        for found in form.finditer(text)
        if _passes_luhn("".join(filter(str.isdigit, found[1])))
    )
    joined = list[tuple[int, int]]()
    for begin, end in spans:
        if joined and begin < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return iter(joined)


def _passes_luhn(digits: str) -> bool:
    doubled = (int(d) * (2 if place % 2 else 1) for place, d in enumerate(reversed(digits)))
    return len(set(digits)) > 1 and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


_KINDS: Final = (
    ("email", _spans(_EMAIL)),
    ("iban", _ibans),
    ("card", _cards),
    ("phone", telephones.by_form),
    ("phone", telephones.by_word),
)
