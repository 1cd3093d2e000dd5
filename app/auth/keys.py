"""What an API key looks like: `sw_<prefix>_<random>_<checksum>`.

The prefix finds the row, 43 characters of base 62 carry 256 bits, and the checksum lets us, and scanners of leaked
secrets, tell a key from a typing error without asking the database. With that much randomness one SHA-256 is a
sufficient hash: there is no dictionary to try.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from typing import NamedTuple

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX_CHARS, _RANDOM_CHARS, _CHECKSUM_CHARS = 10, 43, 6
_SHAPE = re.compile(
    rf"sw_([0-9A-Za-z]{{{_PREFIX_CHARS}}})_([0-9A-Za-z]{{{_RANDOM_CHARS}}})_([0-9A-Za-z]{{{_CHECKSUM_CHARS}}})"
)


class NewKey(NamedTuple):
    """text is shown once and never stored."""

    text: str
    prefix: str
    digest: str


def generate() -> NewKey:
    prefix, random = _draw(_PREFIX_CHARS), _draw(_RANDOM_CHARS)
    text = f"sw_{prefix}_{random}_{_checksum(f'sw_{prefix}_{random}')}"
    return NewKey(text, prefix, digest(text))


def prefix_of(text: str) -> str | None:
    """None where the text cannot be one of our keys."""
    shape = _SHAPE.fullmatch(text)
    if shape is None or not hmac.compare_digest(_checksum(text.rpartition("_")[0]), shape[3]):
        return None
    return shape[1]


def digest(text: str) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(text: str, stored_digest: str) -> bool:
    return hmac.compare_digest(digest(text), stored_digest)


def _draw(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _checksum(text: str) -> str:
    number, written = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM_CHARS):  # 62 ** 6 is more than 2 ** 32
        number, digit = divmod(number, len(_ALPHABET))
        written = _ALPHABET[digit] + written
    return written
