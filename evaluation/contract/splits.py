"""Which split a conversation belongs to where nobody says, and how many a split must have."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from evaluation.contract.record import Split

# Each with the end of its part of [0, 1). A temperature wants 50 conversations of `calibration`.
SHARES: Final = ((0.70, Split.train), (0.80, Split.validation), (0.90, Split.calibration), (1.0, Split.test))
MIN_LABELLED: Final = {Split.train: 20, Split.test: 20}


def split_of(identity: str) -> Split:
    """By the identity alone, so that a conversation stays in its split when others come."""
    share = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
    return next(split for end, split in SHARES if share < end)


def too_few(counts: Mapping[Split, Mapping[str | None, int]]) -> Iterator[str]:
    """counts: labelled conversations by split and category. Yields what is missing to train and judge, if anything."""
    for split, least in MIN_LABELLED.items():
        have = {category: count for category, count in counts.get(split, {}).items() if count}
        if sum(have.values()) < least:
            yield f"the split {split} has {sum(have.values())} labelled conversations and needs {least}"
        elif len(have) < 2:
            yield f"the split {split} has conversations of one category only ({next(iter(have))!r})"
