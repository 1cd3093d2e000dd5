"""A JSON document cut into the values that are rows while it comes in: a list, or objects one behind another.

Only as much is understood as is needed to cut: strings, and how deep brackets are. What a piece says is read by
`strict_json`, one piece at a time, so that a mistake costs one row, and memory is bounded by the longest of them.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from evaluation.contract.record import MAX_LINE_BYTES, Reject

_OUTSIDE = re.compile(r'["\[\]{},]')
_INSIDE = re.compile(r'["\\]')


class TextPiece(NamedTuple):
    line: int
    text: str


class Begin(NamedTuple):
    """at: characters to pass over, among them the bracket of the list. whole: nothing may stand behind the list."""

    at: int
    whole: bool


def listed(blocks: Iterable[str], begin: Begin, line_end: str = "\n") -> Iterator[TextPiece | Reject]:
    """The values of a list."""
    cutter = _Cutter(line_end, in_list=True)
    left = begin.at
    for block in blocks:
        cutter.line += block[:left].count(line_end)
        rest, left = block[left:], max(0, left - len(block))
        yield from cutter.block(rest)
    if not cutter.done:
        yield from cutter.end()
        yield Reject(cutter.line, "the file ends inside of its list: it is cut off")
    elif begin.whole and cutter.behind is not None:
        yield Reject(cutter.behind, "something stands behind the end of the list")


def objects(blocks: Iterable[str], line_end: str = "\n") -> Iterator[TextPiece | Reject]:
    """Objects one behind another, each over as many lines as it likes."""
    cutter = _Cutter(line_end, in_list=False)
    for block in blocks:
        yield from cutter.block(block)
    yield from cutter.end()


class _Cutter:
    """behind: the line of what stands after the list, if anything does."""

    def __init__(self, line_end: str, *, in_list: bool):
        self.line, self.done, self.behind = 1, False, None if in_list else 0
        self._line_end, self._in_list = line_end, in_list
        self._depth, self._in_string, self._escaped = 0, False, False
        self._began, self._length, self._held = 1, 0, list[str]()

    def block(self, text: str) -> Iterator[TextPiece | Reject]:
        at = 0
        if self._escaped and text:
            self._escaped = False
            self._keep(text[0])
            at = 1
        while at < len(text) and not self.done:
            found = (_INSIDE if self._in_string else _OUTSIDE).search(text, at)
            if found is None:
                self._keep(text[at:])
                return
            self._keep(text[at : found.start()])
            at = found.end()
            if found[0] == "\\":
                self._escaped = at == len(text)
                self._keep(text[found.start() : at + 1])
                at += 1
            elif self._ends(found[0]):
                yield from self.end()
        if self.done and self.behind is None and (rest := text[at:].lstrip()):
            self.behind = self.line + text[at : len(text) - len(rest)].count(self._line_end)

    def end(self) -> Iterator[TextPiece | Reject]:
        """Of one value."""
        text = "".join(self._held).rstrip()
        if self._length > MAX_LINE_BYTES:
            yield Reject(self._began, f"is longer than {MAX_LINE_BYTES} characters")
        elif text:
            yield TextPiece(self._began, text)
        self._held, self._length = [], 0

    def _ends(self, mark: str) -> bool:
        """Whether a value ends at this mark, which is kept where it is one of the value's own."""
        if mark == '"':
            self._in_string = not self._in_string
        elif mark in "[{":
            self._depth += 1
        elif mark == ",":
            if self._depth == 0:
                return True
        elif self._depth == 0 and self._in_list and mark == "]":
            self.done = True
            return True
        elif self._depth == 0:
            self._keep(mark)
            return not self._in_list
        else:
            self._depth -= 1
            self._keep(mark)
            return self._depth == 0 and not self._in_list
        self._keep(mark)
        return False

    def _keep(self, text: str) -> None:
        lines = text.count(self._line_end)
        if not self._length:
            bare = text.lstrip()
            self._began = self.line + text[: len(text) - len(bare)].count(self._line_end)
            text = bare
        self.line += lines
        self._length += len(text)
        if text and self._length <= MAX_LINE_BYTES:
            self._held.append(text)
