"""Groups of conversations that say the same or nearly so. A split takes whole groups, never a part of one.

Near means an estimated similarity of NEAR. Nearness is handed on (a group is whatever hangs together), so the threshold
must be so high that templates do not chain a tenant into one group. Measured on ten real tenants, 656 to 4,238
conversations each: at 0.7 the largest group has 181 members, at 0.8 it has 26. Of 20 pairs between 0.80 and 0.87, drawn
from four of them and read, each was one sentence or template with a word, a name or a courtesy changed; 0.9 would miss
these, because one word of a short message is a fifth of its 5-grams.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets.fingerprint import Fingerprint, Signature, bands
from evaluation.contract.overlap import most_held_out
from evaluation.contract.record import Split
from evaluation.contract.splits import split_of

NEAR = 0.8
MAX_PIVOTS = 256  # of one bucket: a file made to fill one must not take time that grows with its square


class Assigned(NamedTuple):
    """splits: of each. moved: how many are in another split than was asked for."""

    splits: list[Split]
    moved: int


def similarity(one: Signature, many: NDArray[np.uint32]) -> NDArray[np.float64]:
    """many: shape (n, places). Returns shape (n,), each in [0, 1]."""
    return np.asarray((many == one).mean(axis=1))


def group(prints: Sequence[Fingerprint]) -> list[str]:
    """The group of each, named after the smallest text_sha256 in it: the order of a file does not matter."""
    first: dict[str, int] = {}
    for index, one in enumerate(prints):
        first.setdefault(one.text_sha256, index)
    texts = sorted(first)
    joined = _joined(np.stack([prints[first[t]].signature for t in texts])) if texts else []
    name = dict(zip(texts, (texts[root] for root in joined), strict=True))
    return [name[one.text_sha256] for one in prints]


def assign(groups: Sequence[str], asked: Sequence[Split | None]) -> Assigned:
    """Whatever says the same stands on one side of every border.

    groups, asked: of each conversation its group, and the split that the file names, if it does.
    """
    wanted: dict[str, set[Split]] = {}
    for group, split in zip(groups, asked, strict=True):
        if split is not None:
            wanted.setdefault(group, set()).add(split)
    of_group = {
        group: most_held_out(wanted[group]) if group in wanted else split_of(group) for group in set(groups)
    }
    splits = [of_group[group] for group in groups]
    moved = sum(want is not None and want != got for want, got in zip(asked, splits, strict=True))
    return Assigned(splits, moved)


def _joined(signatures: NDArray[np.uint32]) -> list[int]:
    """Of each row the smallest row that it hangs together with."""
    from scipy.cluster.hierarchy import DisjointSet  # takes longer to import than most commands take to run

    every = range(len(signatures))
    sets = DisjointSet(every)
    for members in _buckets(signatures):
        rows = signatures[members]
        for position, pivot in enumerate(members[:MAX_PIVOTS]):
            near = similarity(rows[position], rows[position + 1 :]) >= NEAR
            for other in members[position + 1 :][near]:
                sets.merge(int(pivot), int(other))
    smallest: dict[int, int] = {}
    return [smallest.setdefault(sets[index], index) for index in every]


def _buckets(signatures: NDArray[np.uint32]) -> Iterator[NDArray[np.intp]]:
    """Rows that share a band, sorted. One band at a time, because all of them together would not fit in memory."""
    for band in bands(signatures).T:
        order = np.argsort(band, kind="stable")
        borders = np.flatnonzero(np.diff(band[order])) + 1
        yield from (rows for rows in np.split(order, borders) if len(rows) > 1)
