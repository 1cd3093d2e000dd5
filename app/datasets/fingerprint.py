"""Conversations as numbers that are equal, or mostly equal, where their customers say the same.

What is compared is the normalised text, by which training data is kept apart from the gate's as well.
MinHash (Broder 1997): of two texts, the share of equal places in their signatures estimates the Jaccard similarity of
their sets of character 5-grams. Characters rather than words, because most of these texts are shorter than ten words.
"""

import hashlib
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluation.contract.overlap import normalised
from evaluation.contract.record import Conversation

Signature: TypeAlias = NDArray[np.uint32]  # shape (BANDS * ROWS,)

SHINGLE_CHARS = 5
# A pair of similarity s shares a band with probability 1 - (1 - s^5)^12: 0.3 at 0.5, 0.99 at 0.8, 0.9999 at 0.9.
BANDS = 12
ROWS = 5
_CHUNK = 8192  # shingles at a time: a text of a million characters must not need a gigabyte
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Fingerprint(NamedTuple):
    """text_sha256: of the normalised text, equal for exact duplicates."""

    text_sha256: str
    signature: Signature


def stored_signature(signature: Signature) -> bytes:
    """As a database keeps it, the same on every machine."""
    return signature.astype("<u4").tobytes()


def read_signature(stored: bytes) -> Signature:
    return np.frombuffer(stored, "<u4").astype(np.uint32)


def fingerprint(conversation: Conversation) -> Fingerprint:
    text = normalised(conversation)
    return Fingerprint(hashlib.sha256(text.encode()).hexdigest(), _signature(text))


def bands(signatures: NDArray[np.uint32]) -> NDArray[np.int64]:
    """signatures: shape (n, places). Returns shape (n, BANDS): near duplicates have at least one number in common.

    Signed, as databases store them; numbers of different bands differ.
    """
    slices = signatures.astype(np.uint64).reshape(-1, BANDS, ROWS)
    folded = np.arange(BANDS, dtype=np.uint64) + np.zeros((len(slices), 1), np.uint64)
    for row in range(ROWS):
        folded = _mixed(folded * _BASE + slices[:, :, row])
    return folded.view(np.int64)


def _signature(text: str) -> Signature:
    shingles = _shingles(text)
    least = np.full(BANDS * ROWS, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(shingles), _CHUNK):
        hashed = shingles[start : start + _CHUNK, None] * _MULTIPLIERS + _OFFSETS
        np.minimum(least, hashed.min(axis=0), out=least)
    return (least >> np.uint64(32)).astype(np.uint32)


def _shingles(text: str) -> NDArray[np.uint64]:
    """The set of hashed 5-grams, as a sorted array; a shorter text is one shingle."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    width = min(SHINGLE_CHARS, len(codes))
    hashed = np.zeros(len(codes) - width + 1, np.uint64)
    for offset in range(width):
        hashed = hashed * _BASE + codes[offset : offset + len(hashed)]
    return np.unique(_mixed(hashed))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of the result depends on every bit given. Source: the finalizer of SplitMix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _constants(purpose: str) -> NDArray[np.uint64]:
    """Not from numpy's generators, whose numbers may change with its version: bands are stored and compared later."""
    digests = [hashlib.sha256(f"{purpose} {i}".encode()).digest() for i in range(BANDS * ROWS)]
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


_MULTIPLIERS = _constants("multiplier") | np.uint64(1)
_OFFSETS = _constants("offset")
