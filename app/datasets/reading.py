"""An upload, read a line at a time: good conversations and, with line numbers, why other lines are none.

Everything here comes from strangers. Memory is bounded by one line for JSONL and by MAX_CSV_BYTES for CSV, where the
messages of a conversation may lie apart; time is bounded because reading stops at MAX_REJECTS.
"""

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from app.errors import Problem
from evaluation.formats.gunzip import BLOCK_BYTES, MAGIC, Limits, NotWhole, UnpacksTooLarge, unpacked
from app.payload import unstorable
from app.pipeline.files import MAX_FILE_BYTES
from evaluation.contract.record import (
    MAX_LINE_BYTES,
    Conversation,
    Reject,
    Row,
    conversations,
    csv_rows,
    jsonl_rows,
)
from evaluation.contract.schema import CategorySchema

MAX_CONVERSATIONS = 250_000
MAX_REJECTS = 100_000
MAX_CSV_BYTES = 128 << 20
MAX_CSV_LINES = 1_000_000
MAX_KEY_CHARS = 128  # of a category, as in a schema
_STRANGE = {
    b"PK\x03\x04": "is a zip archive; hand in the file itself, or packed with gzip",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
_KNOWN_PLACE = re.compile(r"'(id|messages|category|criterion|split)'(\[\d+\])?")


class Form(StrEnum):
    jsonl = "jsonl"
    csv = "csv"


class Unreadable(ValueError):
    """The file as a whole; no line of it is used. `str(error)` completes "the file …"."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Upload(NamedTuple):
    path: Path
    form: Form


class Progress(NamedTuple):
    """Of the file as it came, packed or not."""

    read_bytes: int
    total_bytes: int


class Reader:
    """`for one in reader:` gives a Conversation or a Reject each. Raises: Unreadable, while it is read."""

    def __init__(self, upload: Upload, schema: CategorySchema | None):
        self._upload, self._schema = upload, schema
        self._file: BinaryIO | None = None
        self._total_bytes = upload.path.stat().st_size

    @property
    def progress(self) -> Progress:
        return Progress(0 if self._file is None else self._file.tell(), self._total_bytes)

    def __iter__(self) -> Iterator[Conversation | Reject]:
        with self._upload.path.open("rb") as file:
            self._file = file
            lines = _lines(_blocks(file, self._total_bytes))
            csv = self._upload.form is Form.csv
            rows = csv_rows(_texts(lines)) if csv else jsonl_rows(lines)
            yield from _bounded(conversations(map(_storable, rows), self._schema))


def _blocks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    start = file.read(4)
    file.seek(0)
    if start.startswith(MAGIC):
        try:
            yield from unpacked(file, Limits(size_bytes, MAX_FILE_BYTES))
        except NotWhole:
            raise Unreadable("not_whole_gzip", "is torn or is not gzip; upload it again") from None
        except UnpacksTooLarge as error:
            raise Unreadable("unpacks_too_large", str(error)) from None
        return
    for mark, reason in _STRANGE.items():
        if start.startswith(mark):
            raise Unreadable("unknown_form", reason)
    while block := file.read(BLOCK_BYTES):
        yield block


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Without their ends. Of a line that is too long only its beginning, which is too long as well."""
    held = b""
    for block in blocks:
        first, *rest = block.split(b"\n")
        held = (held + first)[: MAX_LINE_BYTES + 1]
        for piece in rest:
            yield held
            held = piece[: MAX_LINE_BYTES + 1]
    if held:
        yield held


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    """Bytes that are not UTF-8 become surrogates, which `_storable` finds in the very row that they stand in."""
    passed_bytes = 0
    for number, line in enumerate(lines, start=1):
        passed_bytes += len(line)
        if number > MAX_CSV_LINES or passed_bytes > MAX_CSV_BYTES or len(line) > MAX_LINE_BYTES:
            limits = f"{MAX_CSV_LINES} lines, {MAX_CSV_BYTES >> 20} MiB, or a line of {MAX_LINE_BYTES} bytes"
            reason = f"is CSV of more than {limits}; hand it in as JSONL, one conversation a line"
            raise Unreadable("csv_too_large", reason)
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        yield line.decode("utf-8", "surrogateescape") + "\n"


def _storable(row: Row | Reject) -> Row | Reject:
    if isinstance(row, Reject):
        return row
    problem = next(unstorable(row.raw), None)
    if problem is not None:
        return Reject(row.line, _reason(problem))
    if not _category_fits(row.raw):
        return Reject(row.line, f"category has over {MAX_KEY_CHARS} characters")
    return row


def _reason(problem: Problem) -> str:
    """Names of fields that are not ours are text of the file, which a reason must not repeat."""
    if "surrogate" in problem.message:
        return "not UTF-8, or half of a surrogate pair; save the file as UTF-8"
    place = _KNOWN_PLACE.match(problem.where)
    return f"{place[1]}{place[2] or ''} {problem.message}" if place else problem.message


def _category_fits(raw: Any) -> bool:
    """Where there is no schema yet, nothing else bounds it."""
    category = raw.get("category") if isinstance(raw, dict) else None
    return not isinstance(category, str) or len(category) <= MAX_KEY_CHARS


def _bounded(read: Iterable[Conversation | Reject]) -> Iterator[Conversation | Reject]:
    good = rejects = 0
    for one in read:
        if isinstance(one, Reject):
            rejects += 1
        else:
            good += 1
        if good > MAX_CONVERSATIONS:
            reason = f"has more than {MAX_CONVERSATIONS} conversations; make several datasets of it"
            raise Unreadable("too_many_conversations", reason)
        yield one
        if rejects >= MAX_REJECTS:
            reason = f"has {MAX_REJECTS} lines that cannot be used; the reject file says why"
            raise Unreadable("too_many_rejects", reason)
