"""Gzip from strangers is unpacked no further than it may be."""

import gzip
import io
import os
import tracemalloc

import pytest

from evaluation.formats.gunzip import NotWhole, UnpackLimits, UnpacksTooLarge, unpacked


def joined(packed: bytes, max_bytes: int = 1 << 30) -> bytes:
    return b"".join(unpacked(io.BytesIO(packed), UnpackLimits(len(packed), max_bytes)))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 7])
def test_what_was_packed_comes_out_whole(size: int) -> None:
    content = os.urandom(size)
    assert joined(gzip.compress(content)) == content


def test_several_packed_parts_are_one_file() -> None:
    assert joined(gzip.compress(b"one\n") + gzip.compress(b"two\n")) == b"one\ntwo\n"


@pytest.mark.parametrize("cut", [1, 4, 8, 20])
def test_a_torn_file_is_not_taken_for_a_short_one(cut: int) -> None:
    with pytest.raises(NotWhole):
        joined(gzip.compress(os.urandom(1000))[:-cut])


def test_damage_in_the_middle_is_found() -> None:
    packed = bytearray(gzip.compress(os.urandom(100_000)))
    packed[50_000] ^= 0xFF
    with pytest.raises(NotWhole):
        joined(bytes(packed))


def test_a_bomb_is_stopped_at_the_ratio_and_takes_no_memory() -> None:
    bomb = gzip.compress(bytes(48 << 20))
    tracemalloc.start()
    with pytest.raises(UnpacksTooLarge, match="100 times"):
        for _block in unpacked(io.BytesIO(bomb), UnpackLimits(len(bomb), 1 << 40)):
            pass
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_the_callers_own_limit_holds_too() -> None:
    with pytest.raises(UnpacksTooLarge, match="1 MiB"):
        joined(gzip.compress(os.urandom(2 << 20)), max_bytes=1 << 20)
