"""Bodies that are made to cost: as much as an operation takes, of whatever its model does not expect."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

_JUNK: tuple[Any, ...] = ({}, 1, {"a": 1})
_STRINGS = (
    "é",
    "\x00",
    "\u200b",  # of which nothing is seen
    "\u0301\u0316",  # marks upon marks, which a normal form sorts
    "</think>",  # which is broken up wherever it stands
)


class Hostile(NamedTuple):
    name: str
    body: bytes


def bodies(usual: Any, max_bytes: int) -> Iterator[Hostile]:
    """usual: a body that the operation takes. Each is as long as may be."""
    yield Hostile("empty lists", b"[" + b",".join([b"[]"] * ((max_bytes - 3) // 3)) + b"]")
    yield Hostile("depth", b"[" * (max_bytes // 2) + b"]" * (max_bytes // 2))
    yield Hostile("digits", b"[" + b"9" * (max_bytes - 2) + b"]")
    yield Hostile("numbers", b"[" + b",".join([b"1e99"] * ((max_bytes - 3) // 5)) + b"]")
    yield Hostile("objects", b"[" + b",".join([b'{"a":1}'] * ((max_bytes - 3) // 8)) + b"]")
    yield Hostile("no JSON", b"x" * max_bytes)
    for path, value in places(usual):
        if isinstance(value, dict):
            yield _filled(
                usual, path, max_bytes, "unknown fields", lambda n: {f"f{i}": 1 for i in range(n)}, value
            )
        if isinstance(value, list):
            for junk in (*_JUNK, *value[:1]):
                yield _filled(usual, path, max_bytes, f"items {junk!r:.20}", lambda n, j=junk: [j] * n)
        if isinstance(value, str):
            for character in _STRINGS:
                name = f"text of {character!r}"
                yield _filled(usual, path, max_bytes, name, lambda n, c=character: c * n)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    if isinstance(value, list):
        for number, inner in enumerate(value[:1]):
            yield from places(inner, (*path, number))


def _filled(
    usual: Any,
    path: tuple[Any, ...],
    max_bytes: int,
    name: str,
    fill: Any,
    beside: dict[str, Any] | None = None,
) -> Hostile:
    """As many as there is room for."""
    some = 256
    least = max(1, int(max_bytes * 0.9 * some / len(json.dumps(fill(some), separators=(",", ":")))))
    content = fill(least) | (beside or {}) if beside is not None else fill(least)
    body = json.dumps(_put(usual, path, content), separators=(",", ":")).encode()
    return Hostile(f"{name} in {'.'.join(map(str, path)) or 'the body'}", body[:max_bytes])


def _put(usual: Any, path: tuple[Any, ...], content: Any) -> Any:
    if not path:
        return content
    changed = deepcopy(usual)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = content
    return changed
