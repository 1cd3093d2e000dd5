"""Server-sent events: their lines, and how one is written.

Only CR, LF and CRLF end a line there. What Python's `splitlines`, and with it httpx, takes for an end as well (U+2028,
U+0085 and others) may stand inside of JSON as it is, and an event that is cut there cannot be read by anybody.
"""

import codecs
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator


class _Lines:
    """One after another from blocks that end anywhere, also inside of a character or between CR and LF."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._after_cr = False

    def cut(self, block: bytes) -> Iterator[str]:
        text = self._decoder.decode(block)
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr = self._after_cr or text.endswith("\r")
        *whole, self._held = (self._held + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        yield from whole

    def rest(self) -> Iterator[str]:
        if self._held:
            yield self._held


def lines(blocks: Iterable[bytes]) -> Iterator[str]:
    found = _Lines()
    for block in blocks:
        yield from found.cut(block)
    yield from found.rest()


async def async_lines(blocks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    found = _Lines()
    async for block in blocks:
        for line in found.cut(block):
            yield line
    for line in found.rest():
        yield line


def written(data: str, event: str = "message", identity: str | None = None) -> bytes:
    """data: JSON, in which what careless readers cut at is escaped. Raises: ValueError where it has several lines."""
    if "\n" in data or "\r" in data:
        raise ValueError("the data of an event is one line here; write it as JSON without indentation")
    head = "" if identity is None else f"id: {identity}\n"
    return f"{head}event: {event}\ndata: {data.translate(_ENDS)}\n\n".encode()


def comment(text: str) -> bytes:
    return f": {text}\n\n".encode()


_ENDS = {number: f"\\u{number:04x}" for number in (0x85, 0x2028, 0x2029)}
