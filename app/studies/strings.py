"""Whether a free answer says what was asked for: by its words, since no judge is at hand. Pure.

An answer is right where it has one of the accepted wordings of each part, and none of what is refused. Words count
whole and in their order, whatever their case, accents and punctuation; numbers that are written out count as digits.
A right word in a denial, or in a list of guesses, counts as right: keep answers short.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

_NUMBERS: Final = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_DIGITS: Final = {word: str(number) for number, word in enumerate(_NUMBERS)} | {
    word: str(10 * number) for number, word in enumerate(_TENS, start=2)
}
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORD = re.compile(r"\d+(?:[.:,]\d+)*|\w+")
_TWO_WORDS = re.compile(rf"\b({'|'.join(_TENS)})[- ]({'|'.join(_NUMBERS[1:10])})\b")


class WantedWords(BaseModel):
    """accepted: of each part of the answer, its wordings. refused: what no right answer says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: tuple[tuple[str, ...], ...] = Field(min_length=1)
    refused: tuple[str, ...] = ()


def is_said(answer: str, wanted: WantedWords) -> bool:
    words = normal(answer)
    if any(_within(words, normal(text)) for text in wanted.refused):
        return False
    return all(any(_within(words, normal(text)) for text in wordings) for wordings in wanted.accepted)


def normal(text: str) -> list[str]:
    """Words, without case, accents and punctuation; numbers as digits."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = _TWO_WORDS.sub(lambda pair: str(int(_DIGITS[pair[1]]) + int(_DIGITS[pair[2]])), plain)
    return [_DIGITS.get(word, word) for word in _WORD.findall(_THOUSANDS.sub("", plain))]


def _within(words: Sequence[str], wanted: Sequence[str]) -> bool:
    width = len(wanted)
    return width > 0 and any(
        list(words[start : start + width]) == list(wanted) for start in range(len(words) - width + 1)
    )
