"""XLSX: the one archive that is read, and only as far as its size, its entries and their ratio allow."""

import datetime
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NamedTuple

import openpyxl
from openpyxl.utils.escape import unescape

from evaluation.contract.record import Reject
from evaluation.contract.text import folded
from evaluation.formats.cells import Record
from evaluation.formats.incoming import Unreadable
from evaluation.formats.unread import Unread, shortened

MAGIC: Final = b"PK\x03\x04"
MAX_ENTRIES: Final = 2_000
MAX_UNPACKED_BYTES: Final = 256 << 20
MAX_RATIO: Final = 200  # XML packs better than what people write
_BLOCK_BYTES: Final = 1 << 20
_MAX_EMPTY_ROWS: Final = 10_000  # one behind another: a cell at the far end must not take an hour
_FOREIGN: Final = {
    "content.xml": "is an OpenDocument file; save it as .xlsx or as CSV UTF-8",
    "word/document.xml": "is a Word document",
    "ppt/presentation.xml": "is a PowerPoint presentation",
}


class Sheet(NamedTuple):
    """header: its first row in which something stands."""

    name: str
    header: list[str]
    records: Iterator[Record | Reject]


def sheet_of(file: BinaryIO, unread: Unread) -> Sheet:
    """The first sheet that has a column `text`, or the first. The others are named. file: open as long as it is read.

    Raises: Unreadable.
    """
    _check(file)
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # noqa: BLE001 (whatever the XML of strangers makes the library stumble over)
        raise _broken(error) from None
    found = [(sheet, _rows(sheet)) for sheet in book.worksheets]
    begun = [(sheet.title, next(rows, None), rows) for sheet, rows in found]
    filled = [Sheet(title, first.cells, rows) for title, first, rows in begun if isinstance(first, Record)]
    if not filled:
        raise Unreadable("no_conversation", "is a workbook in which no cell has anything in it")
    chosen = next((s for s in filled if any(folded(cell) == "text" for cell in s.header)), filled[0])
    for sheet in filled:
        if sheet is not chosen:
            unread.other[f"sheet `{shortened(sheet.name)}` is not read"] += 1
    return chosen


def _check(file: BinaryIO) -> None:
    """Before anything is unpacked, and then by unpacking it once: what an archive says of itself may be untrue."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = {entry.filename for entry in entries}
            for name, reason in _FOREIGN.items():
                if name in names:
                    raise Unreadable("unknown_form", reason)
            if "[Content_Types].xml" not in names or not any(name.startswith("xl/") for name in names):
                raise Unreadable(
                    "unknown_form", "is a zip archive; hand in the file itself, or packed with gzip"
                )
            if len(entries) > MAX_ENTRIES:
                raise Unreadable("unpacks_too_large", f"is a workbook of more than {MAX_ENTRIES} parts")
            _check_sizes(file.seek(0, os.SEEK_END), archive)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
    ) as error:
        if isinstance(error, Unreadable):
            raise
        raise _broken(error) from None


def _check_sizes(packed_bytes: int, archive: zipfile.ZipFile) -> None:
    passed, most = 0, min(MAX_UNPACKED_BYTES, packed_bytes * MAX_RATIO)
    for entry in archive.infolist():
        with archive.open(entry) as part:
            tail = b""
            while block := part.read(_BLOCK_BYTES):
                passed += len(block)
                if passed > most:
                    raise Unreadable("unpacks_too_large", f"unpacks to more than {most} bytes")
                if entry.filename.endswith((".xml", ".rels")):
                    _check_xml(tail + block)
                    tail = block[-16:]


def _check_xml(part: bytes) -> None:
    """No spreadsheet declares entities, with which a few lines unfold to more than memory holds."""
    if b"<!DOCTYPE" in part or b"<!ENTITY" in part or b"\0" in part:
        raise Unreadable("unknown_form", "is a workbook with XML that no spreadsheet writes")


def _rows(sheet: Any) -> Iterator[Record | Reject]:
    """Rows in which something stands."""
    empty = 0
    try:
        sheet.reset_dimensions()  # what a sheet says of its own size may be untrue, and would cut it
        for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
            cells = [_text(value) for value in row]
            while cells and not cells[-1]:
                cells.pop()
            empty = 0 if cells else empty + 1
            if empty > _MAX_EMPTY_ROWS:
                raise Unreadable(
                    "unknown_form", f"has more than {_MAX_EMPTY_ROWS} empty rows one behind another"
                )
            if any(cell.startswith("#") and cell in _ERRORS for cell in cells):
                yield Reject(number, "a cell holds an error of the spreadsheet, such as #N/A")
            elif cells:
                yield Record(number, cells, number)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 (whatever the XML of strangers makes the library stumble over)
        raise _broken(error) from None


_ERRORS: Final = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"})


def _text(value: Any) -> str:
    """As the cell shows it: a number that is whole has no point."""
    match value:
        case None:
            return ""
        case str():
            return unescape(value) if "_x" in value else value
        case bool():
            return "TRUE" if value else "FALSE"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value)


def _broken(error: Exception) -> Unreadable:
    return Unreadable(
        "not_whole_workbook", f"is torn, or is no workbook ({type(error).__name__}); save it as CSV"
    )
