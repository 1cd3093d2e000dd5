"""Which part of a file the body of an upload request is."""

import re
from typing import NamedTuple

from app.errors import InvalidRequest, Problem

# 15 digits: more than anybody may send, and far below what a database column holds.
_PIECE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
_NOTHING = re.compile(r"bytes \*/([0-9]{1,15})")


class Piece(NamedTuple):
    """start: None where the request brings nothing and only asks how far the file is, or to finish it.

    length_bytes: None where the body says itself where it ends. total_bytes: of the file; None while it is not known.
    """

    start: int | None
    length_bytes: int | None
    total_bytes: int | None

    @property
    def is_whole_file(self) -> bool:
        """Then the end of the body is the end of the file."""
        return self.start == 0 and self.length_bytes == self.total_bytes

    @property
    def end(self) -> int | None:
        return None if self.start is None or self.length_bytes is None else self.start + self.length_bytes


def piece_of(content_range: str | None, content_length: int | None) -> Piece:
    """As RFC 9110 (section 14.4) writes it, for a PUT. Raises: InvalidRequest."""
    if content_range is None:
        return _checked(Piece(0, content_length, content_length))
    if nothing := _NOTHING.fullmatch(content_range.strip()):
        if content_length:
            raise _invalid("bytes */… goes with an empty body")
        return _checked(Piece(None, 0, int(nothing[1])))
    found = _PIECE.fullmatch(content_range.strip())
    if found is None:
        raise _invalid(
            "must be of the form `bytes 0-1048575/5000000`, or `bytes */5000000` with an empty body"
        )
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if last < first or (total is not None and last >= total):
        raise _invalid(
            "names an impossible range: it is `first-last/total`, counted from 0, the last included"
        )
    length = last - first + 1
    if content_length not in (None, length):
        raise _invalid(f"names {length} bytes, and the body has {content_length}")
    return Piece(first, length, total)


def _checked(piece: Piece) -> Piece:
    if piece.total_bytes == 0:
        problem = Problem("body", "is empty; send the file")
        raise InvalidRequest(f"{problem.where} {problem.message}", problems=[problem])
    return piece


def _invalid(message: str) -> InvalidRequest:
    problem = Problem("header.content-range", message)
    return InvalidRequest(f"{problem.where}: {message}", problems=[problem])
