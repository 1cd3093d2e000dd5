"""The bytes of a file as text: packed or not, in UTF-8 or UTF-16, in lines of whichever kind it has.

Everything here comes from strangers: memory is bounded by a block and a line, whatever the file holds.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from evaluation.contract.record import MAX_FILE_BYTES, MAX_LINE_BYTES
from evaluation.formats.gunzip import (
    BLOCK_BYTES,
    MAGIC,
    NotWhole,
    UnpackLimits,
    UnpacksTooLarge,
    unpacked,
)

T = TypeVar("T", str, bytes)

HEAD_CHARS = 64 << 10  # what a file is decided by
_STRANGE = {
    b"PK\x05\x06": "is an empty zip archive",
    b"\xd0\xcf\x11\xe0": "is a workbook of an old Excel (.xls); save it as .xlsx or as CSV UTF-8",
    b"%PDF": "is a PDF",
    b"BZh": "is packed with bzip2; hand it in as it is, or packed with gzip",
    b"\xfd7zXZ": "is packed with xz; hand it in as it is, or packed with gzip",
    b"\x28\xb5\x2f\xfd": "is packed with zstd; hand it in as it is, or packed with gzip",
    b"7z\xbc\xaf": "is a 7z archive; hand in the file itself, or packed with gzip",
    b"PAR1": "is a Parquet file; write it as CSV or JSONL",
    b"SQLite format 3": "is an SQLite database; write the table as CSV or JSONL",
    b"\xff\xfe\0\0": "is UTF-32; save it as UTF-8",
    b"\0\0\xfe\xff": "is UTF-32; save it as UTF-8",
}
_UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_RAW = re.compile("[\ud800-\udfff]")


class Unreadable(ValueError):
    """The file as a whole; no line of it is used. `str(error)` completes "the file …"."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Line(NamedTuple):
    """Without its end. whole: False where it was longer than can be used, and text is only its beginning."""

    number: int
    text: str
    whole: bool = True


class Incoming:
    """A file, opened once. progress: bytes read of the file as it came."""

    def __init__(self, path: Path):
        self.path = path
        self.total_bytes = path.stat().st_size
        self._file: BinaryIO | None = None
        self.packed = False

    @property
    def read_bytes(self) -> int:
        if self._file is None:
            return 0
        return self.total_bytes if self._file.closed else self._file.tell()

    def blocks(self) -> Iterator[bytes]:
        """Unpacked. Raises: Unreadable."""
        with self.path.open("rb") as file:
            self._file = file
            self.packed = file.read(2) == MAGIC
            file.seek(0)
            if not self.packed:
                while block := file.read(BLOCK_BYTES):
                    yield block
                return
            try:
                yield from unpacked(file, UnpackLimits(self.total_bytes, MAX_FILE_BYTES))
            except NotWhole:
                raise Unreadable("not_whole_gzip", "is torn or is not gzip; send it again") from None
            except UnpacksTooLarge as error:
                raise Unreadable("unpacks_too_large", str(error)) from None


class DecodedText(NamedTuple):
    """head: the beginning, to decide by. blocks: all of it, the head included. encoding: for people."""

    head: str
    blocks: Iterator[str]
    encoding: str


def text_of(blocks: Iterator[bytes]) -> DecodedText:
    """Bytes that are not UTF-8 become lone surrogates, which `not_text` finds in the very line that they stand in.

    Raises: Unreadable.
    """
    first = next(blocks, b"")
    for mark, reason in _STRANGE.items():
        if first.startswith(mark):
            raise Unreadable("unknown_form", reason)
    if first.startswith(MAGIC):
        raise Unreadable("unknown_form", "is gzip inside gzip; pack it once")
    encoding = _UTF_16.get(first[:2]) or _without_mark(first)
    texts = _decoded(_and(first, blocks), encoding)
    head = next(texts, "")
    return DecodedText(head[:HEAD_CHARS], _and(head, texts), "UTF-8" if encoding == "utf-8" else "UTF-16")


def lines_of(blocks: Iterable[str], end: str = "\n") -> Iterator[Line]:
    """Of a line that is too long only its beginning, which is too long as well."""
    number, held, passed = 1, "", 0
    for block in blocks:
        first, *rest = block.split(end)
        passed += len(first)
        held += first[: MAX_LINE_BYTES + 1 - len(held)]
        for piece in rest:
            yield Line(number, held, passed <= MAX_LINE_BYTES)
            number, held, passed = number + 1, piece[: MAX_LINE_BYTES + 1], len(piece)
    if held:
        yield Line(number, held, passed <= MAX_LINE_BYTES)


def line_end_of(head: str) -> str:
    """CR alone, as old spreadsheets wrote it, only where there is no LF at all."""
    return "\r" if "\r" in head and "\n" not in head else "\n"


def not_text(text: str) -> str | None:
    """Why it cannot be used, if so: bytes of it that were no UTF-8, or NUL."""
    if text.isascii():
        return "contains a NUL character" if "\0" in text else None
    if found := _RAW.search(text):
        at = len(text[: found.start()].encode("utf-8", "surrogateescape"))
        return f"not UTF-8 (byte {at} of the line); save the file as UTF-8 (in Excel: CSV UTF-8)"
    return "contains a NUL character" if "\0" in text else None


def _without_mark(first: bytes) -> str:
    """UTF-16 of mostly Latin letters has a NUL in every second place, and UTF-8 has none."""
    sample = first[:512]
    if len(sample) >= 4 and b"\0" in sample:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if odd > len(sample) // 4 and even == 0:
            return "utf-16-le"
        if even > len(sample) // 4 and odd == 0:
            return "utf-16-be"
    return "utf-8"


def _decoded(blocks: Iterator[bytes], encoding: str) -> Iterator[str]:
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    first = True
    try:
        for block in blocks:
            text = decoder.decode(block)
            yield text.removeprefix("\ufeff") if first else text
            first = first and not text
        if rest := decoder.decode(b"", final=True):
            yield rest
    except UnicodeDecodeError as error:
        raise Unreadable("not_text", f"is not whole UTF-16 ({error.reason}); save it as UTF-8") from None


def _and(first: T, rest: Iterator[T]) -> Iterator[T]:
    if first:
        yield first
    yield from rest
