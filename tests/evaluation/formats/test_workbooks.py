"""XLSX: the table in it, and the archives that are refused before anything of them is unpacked."""

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from evaluation.formats.incoming import Unreadable
from tests.evaluation.formats.reading import NONE, UNLABELLED, read


def book(*sheets: tuple[str, list[list[Any]]]) -> bytes:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets:
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def test_a_workbook_is_a_table_and_its_other_sheets_are_named(tmp_path: Path) -> None:
    rows = [
        ["Text", "Category"],
        ["where is it", "late_parcel"],
        [None, None],
        ["a\nb", None],
        [5, "(none)"],
        [2.5, "x"],
    ]
    content = book(("Notes", [["for us"]]), ("Chats", rows), ("Empty", []))
    for packed in (content, gzip.compress(content)):
        found = read(tmp_path, packed)
        assert found.said == [("where is it", "late_parcel"), ("a\nb", UNLABELLED), ("5", NONE)]
        assert found.rejects == [(6, "category 'x' is not in the schema; it has late_parcel, refund, café")]
        assert found.lost == ["sheet `Notes` is not read (1)"]
        assert "XLSX" in found.reader.form and "Chats" in found.reader.form


def zipped(**parts: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def changed(content: bytes, part: str, new: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for entry in old.namelist():
            made.writestr(entry, new if entry == part else old.read(entry))
    return out.getvalue()


GOOD_BOOK = book(("Chats", [["text"], ["a"]]))
SHEET = "xl/worksheets/sheet1.xml"
BAD_BOOKS = {
    "another archive": (zipped(a__b=b"x"), "unknown_form"),
    "an OpenDocument file": (zipped(**{"content.xml": b"x"}), "unknown_form"),
    "a bomb": (changed(GOOD_BOOK, SHEET, b" " * (64 << 20)), "unpacks_too_large"),
    "entities": (changed(GOOD_BOOK, SHEET, b'<!DOCTYPE a [<!ENTITY b "c">]><a/>'), "unknown_form"),
    "no sheet in it": (changed(GOOD_BOOK, SHEET, b"<a/>"), "no_conversation"),
    "torn XML": (changed(GOOD_BOOK, SHEET, b"<worksheet><sheetData><row>"), "not_whole_workbook"),
    "half of it": (GOOD_BOOK[: len(GOOD_BOOK) // 2], "not_whole_workbook"),
    "nothing": (book(("Empty", [])), "no_conversation"),
}


@pytest.mark.parametrize("case", BAD_BOOKS)
def test_a_workbook_that_cannot_be_trusted_is_refused(case: str, tmp_path: Path) -> None:
    content, code = BAD_BOOKS[case]
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, content)
    assert caught.value.code == code


def test_a_damaged_workbook_is_read_or_refused_wherever_it_is_damaged(tmp_path: Path) -> None:
    whole = book(("Chats", [["text"], *([f"where is parcel {number}"] for number in range(50))]))
    refused = 0
    for at in range(0, len(whole), len(whole) // 60):
        damaged = whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :]
        try:
            read(tmp_path, damaged)
        except Unreadable:
            refused += 1
    assert refused > 10
