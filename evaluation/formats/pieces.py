"""A JSON document cut into the values that are rows while it comes in: a list, lists under a key of objects, or objects
one behind another.

Only as much is understood as is needed to cut: strings, and how deep brackets are. What a piece says is read by
`strict_json`, one piece at a time, so that a mistake costs one row, and memory is bounded by the longest of them.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import NamedTuple

from evaluation.contract.record import MAX_LINE_BYTES, Reject

_OUTSIDE = re.compile(r'["\[\]{},]')
_INSIDE = re.compile(r'["\\]')
_STRUCTURE = re.compile(r'["\[\]{}:,]')
_VISIBLE = re.compile(r"\S")
_KEY_CHARS = 100  # no key that is looked for is as long


class TextPiece(NamedTuple):
    line: int
    text: str


def listed(blocks: Iterable[str], begin: int, line_end: str = "\n") -> Iterator[TextPiece | Reject]:
    """The values of a list, behind which nothing stands. begin: characters to pass over, among them its bracket."""
    cutter = _Cutter(line_end, in_list=True)
    left = begin
    for block in blocks:
        cutter.line += block[:left].count(line_end)
        rest, left = block[left:], max(0, left - len(block))
        yield from cutter.block(rest)
    if not cutter.done:
        yield from cutter.end()
        yield Reject(cutter.line, _CUT_OFF)
    elif cutter.behind is not None:
        yield Reject(cutter.behind, _BEHIND)


def under_key(blocks: Iterable[str], key: str, line_end: str = "\n") -> Iterator[TextPiece | Reject]:
    """The values of the list under that key of an object, or of each of several: pages, one behind another."""
    outer, cutter = _OuterObject(key), _Cutter(line_end, in_list=True)
    cutter.done, cutter.behind = True, 0
    for block in blocks:
        at = 0
        while at < len(block):
            if not cutter.done:
                yield from cutter.block(block, at)
                at = cutter.stopped
                continue
            began = at
            at, met = outer.pass_over(block, at)
            cutter.line += block[began:at].count(line_end)
            if met is _Met.list:
                cutter.done = False
            elif met is _Met.end_without_list:
                yield Reject(cutter.line, f"the object that ends here has no list `{key}`")
            elif met is _Met.stranger:
                yield Reject(cutter.line, _BEHIND)
                return
    if not cutter.done:
        yield from cutter.end()
        yield Reject(cutter.line, _CUT_OFF)
    elif outer.depth and not outer.listed:
        yield Reject(cutter.line, f"the file ends before the list `{key}` begins: it is cut off")


def objects(blocks: Iterable[str], line_end: str = "\n") -> Iterator[TextPiece | Reject]:
    """Objects one behind another, each over as many lines as it likes."""
    cutter = _Cutter(line_end, in_list=False)
    for block in blocks:
        yield from cutter.block(block)
    yield from cutter.end()


_CUT_OFF = "the file ends inside of its list: it is cut off"
_BEHIND = "something stands behind the end of the list"


class _Met(Enum):
    list = auto()
    end_without_list = auto()
    stranger = auto()  # what is no object


class _OuterObject:
    """Passes over everything that stands around the lists. depth: 0 between objects."""

    def __init__(self, key: str):
        self._key, self.depth, self.listed = key, 0, False
        self._in_string, self._escaped = False, False
        self._said, self._named = "", ""  # the last string of the object itself, and its last key

    def pass_over(self, text: str, at: int) -> tuple[int, _Met | None]:
        """As far as something is met, or to the end of the text."""
        if self._escaped:
            self._escaped, at = False, at + 1
        while at < len(text):
            pattern = _INSIDE if self._in_string else _STRUCTURE if self.depth else _VISIBLE
            found = pattern.search(text, at)
            if self._in_string and len(self._said) < _KEY_CHARS:
                self._said += text[at : found.start() if found else len(text)]
            if found is None:
                break
            at = found.end()
            if self._in_string:
                self._in_string = found[0] == "\\"
                self._escaped = self._in_string and at == len(text)
                at += self._in_string and not self._escaped
            elif (met := self._meet(found[0])) is not None:
                return at, met
        return len(text), None

    def _meet(self, mark: str) -> _Met | None:
        if mark == '"' and self.depth:
            self._in_string, self._said = True, ""
        elif mark == "[" and self.depth == 1 and self._named == self._key:
            self.listed = True
            return _Met.list
        elif mark == "{" or (mark == "[" and self.depth):
            self.listed, self._named = self.listed and self.depth > 0, self._named if self.depth else ""
            self.depth += 1
        elif self.depth == 0:
            return None if mark == "," else _Met.stranger
        elif mark in "]}":
            self.depth -= 1
            return None if self.depth or self.listed else _Met.end_without_list
        elif self.depth == 1:
            self._named = self._said if mark == ":" else ""
        return None


class _Cutter:
    """behind: the line of what stands after the list, if anything does. stopped: how much of the last text was read."""

    def __init__(self, line_end: str, *, in_list: bool):
        self.line, self.done, self.behind = 1, False, None if in_list else 0
        self._line_end, self._in_list = line_end, in_list
        self._depth, self._in_string, self._escaped = 0, False, False
        self._began, self._length, self._held = 1, 0, list[str]()
        self.stopped = 0

    def block(self, text: str, at: int = 0) -> Iterator[TextPiece | Reject]:
        self.stopped = len(text)
        if self._escaped and at < len(text):
            self._escaped = False
            self._keep(text[at])
            at += 1
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
        if self.done:
            self.stopped = at
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
