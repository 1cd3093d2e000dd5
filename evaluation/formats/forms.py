"""What kind of file it is, by its first characters; its name and its Content-Type are not asked."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, assert_never

from evaluation.contract.strict_json import KeyTwice, NotJson, parse
from evaluation.contract.text import folded
from evaluation.formats import rasa
from evaluation.formats.cells import Delimiter, Dialect, OpenQuote, Record, records
from evaluation.formats.exports import LISTS
from evaluation.formats.incoming import HEAD_CHARS, Line, Unreadable, line_end_of, lines_of
from evaluation.formats.tables import COLUMNS

_SEP = re.compile(r"\s*\"?sep=(.)\"?\s*", re.IGNORECASE)
_MARKUP = re.compile(r"\s*<(?:\?xml|!doctype|html|[A-Za-z][\w:.-]*[\s/>])", re.IGNORECASE)
_NAMES: Final = {
    Delimiter.comma: "commas",
    Delimiter.semicolon: "semicolons",
    Delimiter.tab: "tabs",
    Delimiter.bar: "bars",
    Delimiter.none: "nothing",
}


class Lines(NamedTuple):
    """JSON, one object a line."""

    line_end: str


class Objects(NamedTuple):
    """JSON, objects over several lines, one behind another."""

    line_end: str


class Listed(NamedTuple):
    """JSON, one list. begin: characters as far as behind its bracket."""

    line_end: str
    begin: int


class ListedUnder(NamedTuple):
    """JSON, a list under this key of an object, or of each of several."""

    line_end: str
    key: str


class Table(NamedTuple):
    """skip: lines before the header."""

    line_end: str
    dialect: Dialect
    skip: int


class Rasa(NamedTuple):
    pass


Form = Lines | Objects | Listed | ListedUnder | Table | Rasa


def form_of(head: str) -> Form:
    """head: as much as HEAD_CHARS of it. Raises: Unreadable."""
    end = line_end_of(head)
    if _MARKUP.match(head):
        raise Unreadable("unknown_form", "is XML or HTML; hand in JSONL, CSV or XLSX")
    start = head.lstrip()[:1]
    by_lines = _has_json_lines(head, end)
    if start == "[":
        lone = by_lines and _is_whole(head.lstrip().split(end)[0])
        return Lines(end) if lone else Listed(end, head.index("[") + 1)
    if start == "{":
        return _document(head, end, by_lines=by_lines)
    if rasa.HEAD.search(head) and not by_lines:
        return Rasa()
    table = _table(head, end)
    return Lines(end) if by_lines and not _has_text(head, table) else table


def described(form: Form, encoding: str) -> str:
    match form:
        case Lines():
            named = "JSON, one object a line (JSONL)"
        case Objects():
            named = "JSON, objects over several lines"
        case Listed():
            named = "one JSON list"
        case ListedUnder(key=key):
            named = f"one JSON list, under `{key}`"
        case Table(dialect=dialect):
            named = f"a table with {_NAMES[dialect.delimiter]} between the cells (CSV)"
        case Rasa():
            named = "Rasa NLU data (YAML)"
        case _:
            assert_never(form)
    ends = ", lines ended by CR" if getattr(form, "line_end", "\n") == "\r" else ""
    return f"{named}, in {encoding}{ends}"


def _has_json_lines(head: str, end: str) -> bool:
    """Whether a line that is not indented is a whole JSON object."""
    lines = head.split(end)
    if len(head) == HEAD_CHARS:
        lines.pop()  # cut off, unless it is the only one
    return any(line.startswith("{") and _is_object(line) for line in lines)


def _is_object(text: str) -> bool:
    try:
        return isinstance(parse(text), dict)
    except KeyTwice:
        return True
    except NotJson:
        return False


def _is_whole(text: str) -> bool:
    try:
        parse(text)
    except NotJson:
        return False
    return True


def _document(head: str, end: str, *, by_lines: bool) -> Form:
    for key in _outer_lists(head):
        if key in LISTS:
            return ListedUnder(end, key)
    one_line = len(head) == HEAD_CHARS and end not in head.strip()  # longer than it may be, or nearly
    return Lines(end) if by_lines or one_line else Objects(end)


def _outer_lists(head: str) -> Iterator[str]:
    """Keys of the first object whose values are lists."""
    depth, key = 0, ""
    for found in re.finditer(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[\[\]{}]', head, re.DOTALL):
        mark = found[0]
        if mark.startswith('"'):
            key = found[1] if found[2] is not None and depth == 1 else ""
            continue
        if mark == "[" and depth == 1 and key:
            yield key
        depth += 1 if mark in "[{" else -1
        key = ""
        if depth == 0:
            return


def _table(head: str, end: str) -> Table:
    """By the header: the delimiter under which most of our columns are there; of those that are alike, more cells."""
    lines = head.split(end)
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        raise Unreadable("no_conversation", "is empty")
    skip, given = filled[0], None
    if said := _SEP.fullmatch(lines[skip].rstrip("\r")):
        skip, given = skip + 1, said[1]
    if given is not None and given not in list(Delimiter)[:-1]:
        raise Unreadable("unknown_form", f"says that {given!r} stands between its cells; use , ; | or a tab")
    chosen = [d for d in Delimiter if given in (None, d) and d is not Delimiter.none]
    best = max(
        (Table(end, Dialect(d, line_end=end), skip) for d in chosen), key=lambda table: _fits(head, table)
    )
    cells = header_cells(head, best)
    if len(cells) == 1 and given is None:
        return best._replace(dialect=best.dialect._replace(delimiter=Delimiter.none))
    blanks = len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])
    return best._replace(dialect=best.dialect._replace(skip_blanks=blanks))


def _fits(head: str, table: Table) -> tuple[int, int]:
    cells = header_cells(head, table)
    return len({folded(cell) for cell in cells} & set(COLUMNS)), len(cells)


def _has_text(head: str, table: Table) -> bool:
    return any(folded(cell) == "text" for cell in header_cells(head, table))


def header_cells(head: str, table: Table) -> list[str]:
    """Empty where the first row is none."""
    lines = (line for line in lines_of([head], table.line_end) if line.number > table.skip)
    try:
        first = next(records(lines, table.dialect), None)
    except OpenQuote:
        return []
    return first.cells if isinstance(first, Record) else []


def behind(lines: Iterator[Line], skip: int) -> Iterator[Line]:
    return (line for line in lines if line.number > skip)
