"""Gzip from strangers: unpacked a block at a time, and only as far as a ratio and a size allow."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAGIC = b"\x1f\x8b"
MAX_RATIO = 100  # of what people write; a file of one repeated byte reaches 1000
BLOCK_BYTES = 1 << 20


class NotWhole(ValueError):
    """Torn, damaged, or not gzip at all."""


class UnpacksTooLarge(ValueError):
    """Beyond MAX_RATIO times its packed size, or beyond the caller's limit; the message says which."""


class UnpackLimits(NamedTuple):
    packed_bytes: int
    max_bytes: int

    @property
    def unpacked_bytes(self) -> int:
        return min(self.max_bytes, self.packed_bytes * MAX_RATIO)


def unpacked(packed: BinaryIO, limits: UnpackLimits) -> Iterator[bytes]:
    """Raises: NotWhole, UnpacksTooLarge."""
    passed = 0
    with gzip.GzipFile(fileobj=packed) as source:
        while block := _read(source):
            passed += len(block)
            if passed > limits.unpacked_bytes:
                raise UnpacksTooLarge(_too_large(limits))
            yield block


def _read(source: gzip.GzipFile) -> bytes:
    try:
        return source.read(BLOCK_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise NotWhole(str(error)) from None


def _too_large(limits: UnpackLimits) -> str:
    if limits.unpacked_bytes < limits.max_bytes:
        return f"unpacks to more than {MAX_RATIO} times its size; hand it in unpacked"
    return f"unpacks to more than {limits.max_bytes >> 20} MiB"
