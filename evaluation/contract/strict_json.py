"""JSON of strangers. Python's own reader takes more than JSON is, and of a key that stands twice the last."""

import json
import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 32
BYTE_ORDER_MARK: Final = "\ufeff"
# Other names are text of the file, which a reason must not repeat.
_OURS: Final = frozenset(
    [
        "id",
        "messages",
        "role",
        "text",
        "category",
        "criterion",
        "split",
        "categories",
        "key",
        "name",
        "definition",
        "includes",
        "excludes",
        "none_of_these",
    ]
)


class NotJson(ValueError):
    """`str(error)` says why, for people. line: of the text, from 1, where it is known."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason)
        self.line = line


class KeyTwice(NotJson):
    """JSON, but of an object's key that stands twice nobody knows which is meant."""


class Unusable(NamedTuple):
    """where: as in `messages[2].text`; empty for the value as a whole."""

    where: str
    message: str


def parse(text: str, first_line: int = 1) -> Any:
    """first_line: where in its file it begins.

    Raises: NotJson, also for keys that stand twice and for numbers and depths beyond any use.
    """
    try:
        return json.loads(
            text.removeprefix(BYTE_ORDER_MARK), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        place = f"column {error.colno}" if "\n" not in text else f"line {line}, column {error.colno}"
        raise NotJson(f"not JSON: {error.msg} at {place}", line) from None
    except RecursionError:
        raise NotJson("JSON is nested too deeply") from None
    except NotJson:
        raise
    except ValueError:  # Python's own limit on the digits of a number
        raise NotJson("a number has too many digits") from None


def decoded(content: bytes) -> str:
    """UTF-8 or UTF-16, with a byte order mark or without. Raises: NotJson."""
    try:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16")
        if content[1:2] == b"\0" and content[:1] != b"\0":
            return content.decode("utf-16-le")
        if content[:1] == b"\0" and content[1:2] != b"\0":
            return content.decode("utf-16-be")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 (byte {error.start}); save it as UTF-8") from None


def unusable(value: Any) -> Iterator[Unusable]:
    """Parts of a parsed value that a database's JSON or text refuses, or that would exhaust the stack."""
    if not _is_usable(
        value
    ):  # where is written down for those that are not: it takes far longer than to look
        yield from _unusable(value, "", 0)


def _is_usable(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str):
                if "\x00" in one or not _is_unicode(one):
                    return False
            elif isinstance(one, dict):
                inner += one
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, float) and not math.isfinite(one):
                return False
        if not inner:
            return True
        level = inner
    return False


def _unusable(value: Any, where: str, depth: int) -> Iterator[Unusable]:
    match value:
        case _ if depth > MAX_DEPTH:
            yield Unusable(where, f"is nested more than {MAX_DEPTH} levels deep")
        case str():
            if "\x00" in value:
                yield Unusable(where, "contains a NUL character")
            elif not _is_unicode(value):
                yield Unusable(where, "contains half of a surrogate pair, which is not a character")
        case float() if not math.isfinite(value):
            yield Unusable(where, "is not a number that JSON knows")
        case dict():
            for key, inner in value.items():
                yield from _unusable(key, f"{where} (a key)".strip(), depth + 1)
                yield from _unusable(inner, f"{where}.{_named(key)}".lstrip("."), depth + 1)
        case list():
            for number, inner in enumerate(value):
                yield from _unusable(inner, f"{where}[{number}]", depth + 1)


def _named(key: str) -> str:
    """As other problems name a field, unless it could be taken for more than one."""
    return key if key.isidentifier() and key.isascii() and len(key) <= 100 else f"{key[:100]!a}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        named = f"the key {twice!r}" if twice in _OURS else "a key"
        raise KeyTwice(f"{named} stands twice in one object, and which of them is meant cannot be known")
    return made


def _no_constant(name: str) -> Any:
    raise NotJson(f"{name} is not a number that JSON knows")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
