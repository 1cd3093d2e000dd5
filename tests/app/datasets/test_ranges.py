"""Which part of a file a request brings, and every header that says so in a way that cannot be."""

import pytest

from app.datasets.media import Media, UnsupportedMedia, media_of
from app.datasets.ranges import Piece, piece_of
from app.errors import InvalidRequest


@pytest.mark.parametrize(
    ("header", "length", "piece", "end", "whole"),
    [
        (None, 10, Piece(0, 10, 10), 10, True),
        (None, None, Piece(0, None, None), None, True),
        ("bytes 0-9/10", 10, Piece(0, 10, 10), 10, True),
        ("bytes 0-4/10", 5, Piece(0, 5, 10), 5, False),
        ("bytes 5-9/10", None, Piece(5, 5, 10), 10, False),
        ("bytes 0-4/*", 5, Piece(0, 5, None), 5, False),
        (" bytes 5-5/6 ", 1, Piece(5, 1, 6), 6, False),
        ("bytes */10", 0, Piece(None, 0, 10), None, False),
        ("bytes */10", None, Piece(None, 0, 10), None, False),
    ],
)
def test_a_header_names_a_part(
    header: str | None, length: int | None, piece: Piece, end: int | None, whole: bool
) -> None:
    found = piece_of(header, length)
    assert (found, found.end, found.is_whole_file) == (piece, end, whole)


BAD = [
    ("bytes 5-4/10", None),
    ("bytes 0-10/10", None),
    ("bytes 0-4/10", 6),
    ("bytes 0-4/10", 4),
    ("bytes */10", 1),
    ("bytes */0", 0),
    ("bytes */*", 0),
    ("bytes -5/10", None),
    ("bytes 0-/10", None),
    ("bytes=0-4/10", 5),
    ("items 0-4/10", 5),
    ("bytes 0-4", 5),
    ("", 5),
    ("bytes 0-" + "9" * 30 + "/*", None),
    ("bytes \u0660-\u0664/10", 5),
    (None, 0),
]


@pytest.mark.parametrize(("header", "length"), BAD)
def test_an_impossible_header_is_refused(header: str | None, length: int | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        piece_of(header, length)
    assert caught.value.problems


@pytest.mark.parametrize(
    ("content_type", "encoding", "media"),
    [
        ("application/jsonl", None, Media("application/jsonl", None)),
        ("Application/X-NDJSON; charset=UTF-8", "gzip", Media("application/x-ndjson", "gzip")),
        ('text/csv; header=present; charset="utf-8"', "identity", Media("text/csv", None)),
        ("text/csv", "X-GZIP", Media("text/csv", "gzip")),
        ("text/csv; charset=latin-1", None, Media("text/csv", None)),
        ("application/zip", "", Media("application/zip", None)),
        (None, None, Media("application/octet-stream", None)),
    ],
)
def test_what_is_said_of_a_file_is_a_hint(
    content_type: str | None, encoding: str | None, media: Media
) -> None:
    assert media_of(content_type, encoding) == media


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("multipart/form-data; boundary=x", None),
        ("application/jsonl", "br"),
        ("application/jsonl", "gzip, gzip"),
    ],
)
def test_what_is_not_the_file_itself_is_refused(content_type: str | None, encoding: str | None) -> None:
    with pytest.raises(UnsupportedMedia, match=r"send the file itself|only Content-Encoding"):
        media_of(content_type, encoding)
