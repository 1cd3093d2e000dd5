"""Personal data that can be told by its form, taken out of what people wrote: `[email]` `[phone]` `[card]` `[iban]`.

The rules are clear rather than clever: cards pass Luhn's check and IBANs theirs, so that order numbers stay. A
telephone number begins with +, or with 0 and has separators, or has the North American form. Names go where that is
wanted, as far as their place tells them (`evaluation.formats.names`). Addresses stay.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from evaluation.formats import names

_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_CARD: Final = re.compile(r"(?<![\d+])\d(?:[ -]?\d){12,18}(?!\d)")
_DATE = r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"
_PHONE: Final = re.compile(
    r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}\d){6,13}(?!\d)"
    r"|(?<![\w+])(?<!\d[ -])00[1-9]\d{0,2}[ ()./-]{1,2}\d(?:[ ()./-]{0,2}\d){5,11}(?!\d)"
    rf"|(?<![\w.,+-])(?<!\d[ -])(?!{_DATE})\(?0[1-9]\d{{0,3}}[ )./-]{{1,2}}\d(?:[ ./-]?\d){{4,9}}(?!\d)"
    r"|(?<![\w-])(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4}(?![\d-])"
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
        if not isinstance(value, str):
            return value
        if self._redaction is Redaction.names_too and value and names.is_of_a_name(name):
            self._count["name"] += 1
            return names.MARK
        return self.text(value)


def redacted(text: str, count: Counter[str]) -> str:
    """What its form tells. count: gets how many of each kind were taken out."""
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
    """Of letters that go on behind it, as in `… 3000 thanks`, only as many are taken as make it right."""
    for found in _IBAN.finditer(text):
        ends = [
            end for end in range(found.end(), found.start() + 14, -1) if not text[end : end + 1].isalnum()
        ]
        for end in ends:
            if _is_iban(re.sub(r"[ -]", "", text[found.start() : end]).upper()):
                yield found.start(), end
                break


def _is_iban(compact: str) -> bool:
    """ISO 13616: the country and its check digits behind the rest, letters as numbers, leave 1 when divided by 97."""
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in _CARD.finditer(text) if _passes_luhn(re.sub(r"\D", "", found[0])))


def _passes_luhn(digits: str) -> bool:
    doubled = (int(d) * (2 if place % 2 else 1) for place, d in enumerate(reversed(digits)))
    return len(set(digits)) > 1 and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


_KINDS: Final = (
    ("email", _spans(_EMAIL)),
    ("iban", _ibans),
    ("card", _cards),
    ("phone", _spans(_PHONE)),
)
