"""Texts of strangers: when one says nothing, when two are one to a reader, and how one is shown harmlessly."""

import re
import unicodedata
from functools import lru_cache
from typing import Final, Literal, TypeAlias

UnicodeForm: TypeAlias = Literal["NFC", "NFKC"]
_MARKS_OF_ONE: Final = (
    30  # characters that are set upon another, as in Unicode's stream-safe format (UAX #15)
)
_WITH_MARKS: Final = re.compile(f"[^\\x00-\\x7f]{{{_MARKS_OF_ONE + 1},}}")
# Nothing is seen of these, although Unicode counts them as letters, marks or symbols.
_FILLERS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180f]")
_BIDI: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def blank(text: str) -> bool:
    """Whether nothing of it is seen: white space, control and format characters, fillers."""
    return not text.strip() or all(_unseen(character) or character.isspace() for character in set(text))


def normalized(form: UnicodeForm, text: str) -> str:
    """In that form; of marks that are heaped upon one character the first ones alone: sorting them takes a time that
    grows with the square of their number.

    [measured: 16,000 of them take 0.26 s, in which no other thread of the process runs]
    """
    return unicodedata.normalize(form, _WITH_MARKS.sub(_without_heaps, text))


def _without_heaps(run: re.Match[str]) -> str:
    kept, heaped = [], 0
    for character in run[0]:
        heaped = heaped + 1 if _is_mark(character) else 0
        if heaped <= _MARKS_OF_ONE:
            kept.append(character)
    return "".join(kept)


@lru_cache(maxsize=4096)
def _is_mark(character: str) -> bool:
    """What it is taken apart into begins with what is sorted."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0


def folded(text: str) -> str:
    """Equal for texts that a reader takes for the same: in NFC, without case and without what is not seen."""
    if not (text.isascii() and text.isprintable()):
        text = normalized("NFC", text)
        text = "".join(c for c in text if c.isspace() or not _unseen(c))
    return normalized("NFC", " ".join(text.split()).casefold())


def revealed(text: str) -> str:
    """With every character that is not plain ASCII as its code point, for reasons about texts that look alike."""
    return "".join(c if c.isascii() and c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def unmistakable(text: str) -> str:
    """As it is, unless it looks like what it is not: then with its code points."""
    plain = normalized("NFC", text) == text and not any(map(_unseen, text))
    return text if plain else revealed(text)


def harmless(text: str) -> str:
    """For a terminal or a page: nothing in it moves the cursor, turns the line round, or breaks it where it should not.

    Tabs and line feeds stay. Control characters become their pictures, the others that act become code points.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    number = ord(character)
    if character in "\t\n" or (number >= 0x20 and character.isprintable() and not _acts(character)):
        return character
    if number < 0x20:
        return chr(0x2400 + number)
    if number == 0x7F:
        return "\u2421"
    return f"<U+{number:04X}>" if _acts(character) else character


def _acts(character: str) -> bool:
    """Isolated surrogates cannot be written at all; tags hide text from a reader that a model still reads."""
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return character in _BIDI or 0xE0000 <= ord(character) <= 0xE007F


def _unseen(character: str) -> bool:
    if character in _FILLERS or unicodedata.category(character) in ("Cf", "Cc"):
        return True
    return _SELECTORS.match(character) is not None
