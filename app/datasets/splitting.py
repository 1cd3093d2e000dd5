"""Which split a conversation belongs to. Whatever says the same stands on one side of every border."""

from collections.abc import Sequence
from typing import NamedTuple

from evaluation.contract.overlap import most_held_out
from evaluation.contract.record import Split
from evaluation.contract.splits import split_of


class Assigned(NamedTuple):
    """splits: of each. moved: how many are in another split than was asked for."""

    splits: list[Split]
    moved: int


def assign(groups: Sequence[str], asked: Sequence[Split | None]) -> Assigned:
    """groups, asked: of each conversation its group, and the split that the file names, if it does."""
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
