"""CSV in the dialects that spreadsheets write, read strictly: what cannot be known is refused, never guessed.

Python's own reader is not used: it takes a quotation mark that is never closed for a cell that holds the rest of the
file, has one limit for the length of a cell in the whole process, and gives up the file where one cell is beyond it.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from evaluation.contract.record import MAX_LINE_BYTES, Reject
from evaluation.formats.incoming import Line, not_text

QUOTE = '"'


class Delimiter(StrEnum):
    comma = ","
    semicolon = ";"
    tab = "\t"
    bar = "|"
    none = "\0"  # of one column: nothing has to stand between its cells


class Dialect(NamedTuple):
    """skip_blanks: blanks behind a delimiter belong to nothing, as in `text, category`.

    line_end: what joins the lines of a cell that goes over several.
    """

    delimiter: Delimiter
    skip_blanks: bool = False
    line_end: str = "\n"


class Record(NamedTuple):
    """line: where it begins. last: where it ends, elsewhere for cells of several lines."""

    line: int
    cells: list[str]
    last: int


class OpenQuote(ValueError):
    """A quotation mark that is not closed as it must be: from `line` on nothing is certain."""

    def __init__(self, line: int, reason: str):
        super().__init__(reason)
        self.line = line


def records(lines: Iterable[Line], dialect: Dialect) -> Iterator[Record | Reject]:
    """Blank lines are none. Raises: OpenQuote."""
    source = iter(lines)
    for line in source:
        if not line.text.strip(" \t\r") or not line.text.strip(f" \r{dialect.delimiter}"):
            continue
        yield _record(line, source, dialect)


def _record(line: Line, more: Iterator[Line], dialect: Dialect) -> Record | Reject:
    scanner = _Scanner(line, more, dialect)
    if line.whole and QUOTE not in line.text:  # nearly all of them
        found = Record(line.number, _bare(line.text, dialect), line.number)
        stray = any("\r" in cell for cell in found.cells)
    else:
        found = scanner.record()
        stray = scanner.stray
    if not scanner.whole:
        return Reject(line.number, f"the row is longer than {MAX_LINE_BYTES} characters")
    if stray:
        return Reject(line.number, "a carriage return stands alone inside a row; end lines with LF or CRLF")
    problem = not_text("".join(found.cells))
    return found if problem is None else Reject(line.number, problem)


def _bare(text: str, dialect: Dialect) -> list[str]:
    cells = text.removesuffix("\r").split(dialect.delimiter)
    return [cell.lstrip(" ") for cell in cells] if dialect.skip_blanks else cells


class _Scanner:
    """One record that has quotation marks. whole: False where it is too long; then no more is kept than shows it.

    stray: a carriage return stands outside of quotation marks.
    """

    def __init__(self, line: Line, more: Iterator[Line], dialect: Dialect):
        self._line, self._more, self._dialect = line, more, dialect
        self._begun, self._at, self._kept = line.number, 0, 0
        self.whole, self.stray = line.whole, False

    def record(self) -> Record:
        cells, ended = [], False
        while not ended:
            cell, ended = self._cell()
            cells.append(cell)
        return Record(self._begun, cells, self._line.number)

    def _cell(self) -> tuple[str, bool]:
        """With whether it is the last."""
        text = self._line.text
        if self._dialect.skip_blanks:
            while text[self._at : self._at + 1] == " ":
                self._at += 1
        if text[self._at : self._at + 1] == QUOTE:
            return self._quoted()
        end = text.find(self._dialect.delimiter, self._at)
        cell = text[self._at :].removesuffix("\r") if end < 0 else text[self._at : end]
        self._at = len(text) if end < 0 else end + 1
        self.stray = self.stray or "\r" in cell
        return cell, end < 0

    def _quoted(self) -> tuple[str, bool]:
        opened, pieces = self._line.number, list[str]()
        self._at += 1
        while True:
            end = self._line.text.find(QUOTE, self._at)
            if end < 0:
                self._keep(pieces, self._line.text[self._at :])
                self._next(opened)
                self._keep(pieces, self._dialect.line_end)
            elif self._line.text[end + 1 : end + 2] == QUOTE:
                self._keep(pieces, self._line.text[self._at : end + 1])
                self._at = end + 2
            else:
                self._keep(pieces, self._line.text[self._at : end])
                self._at = end + 1
                return "".join(pieces), self._after(opened)

    def _keep(self, pieces: list[str], piece: str) -> None:
        self._kept += len(piece)
        self.whole = self.whole and self._kept <= MAX_LINE_BYTES
        if self.whole:
            pieces.append(piece)

    def _next(self, opened: int) -> None:
        following = next(self._more, None)
        if following is None:
            raise OpenQuote(opened, "a quotation mark opens here and is never closed")
        self._line, self._at = following, 0
        self.whole = self.whole and following.whole

    def _after(self, opened: int) -> bool:
        """Behind the closing mark stands a delimiter or the end of the line, or it was none."""
        rest = self._line.text[self._at :]
        bare = rest.lstrip(" ") if self._dialect.skip_blanks else rest
        if bare in ("", "\r"):
            return True
        if bare.startswith(self._dialect.delimiter):
            self._at += len(rest) - len(bare) + 1
            return False
        where = "" if self._line.number == opened else f", on line {self._line.number},"
        raise OpenQuote(
            opened, f"a quotation mark opens here, and behind the one that closes it{where} the cell goes on"
        )
