"""How many conversations a dataset has, by split and category: kept beside it, changed with it, never guessed."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from evaluation.contract.record import Split


class Cell(NamedTuple):
    """category: of the newest label; None stands for none of these where `labelled`, and for nothing where not."""

    split: Split
    labelled: bool
    category: str | None


class Arrivals(NamedTuple):
    """What came in, whatever became of it later.

    exact, near: conversations that repeat an earlier one. moved: those that are in another split than was asked for,
    because a duplicate is held out. rejected: lines that hold no usable conversation. contradicting: conversations
    whose like has another label.
    """

    rejected: int = 0
    exact: int = 0
    near: int = 0
    moved: int = 0
    contradicting: int = 0

    def and_also(self, more: "Arrivals") -> "Arrivals":
        return Arrivals(*(a + b for a, b in zip(self, more, strict=True)))


class Counts(NamedTuple):
    cells: Mapping[Cell, int]
    arrivals: Arrivals

    @property
    def conversations(self) -> int:
        return sum(self.cells.values())

    @property
    def labelled(self) -> int:
        return sum(count for cell, count in self.cells.items() if cell.labelled)

    def labels(self, answers: Container[str | None]) -> dict[Split, Counter[str | None]]:
        """Of each split, the conversations of each category that is one of `answers`."""
        found: dict[Split, Counter[str | None]] = {split: Counter() for split in Split}
        for cell, count in self.cells.items():
            if cell.labelled and cell.category in answers:
                found[cell.split][cell.category] += count
        return found

    def changed(
        self, *, gone: Iterable[Cell] = (), come: Iterable[Cell] = (), arrivals: Arrivals | None = None
    ) -> "Counts":
        cells = Counter(dict(self.cells))
        cells.update(come)
        cells.subtract(gone)
        return Counts(+cells, self.arrivals.and_also(arrivals or Arrivals()))

    @property
    def stored(self) -> dict[str, Any]:
        cells = [[*cell, count] for cell, count in self.cells.items() if count]
        return {"cells": sorted(cells, key=repr), **self.arrivals._asdict()}


NOTHING = Counts({}, Arrivals())


def from_stored(stored: Mapping[str, Any]) -> Counts:
    """stored: empty for a dataset that nothing has come into."""
    cells = {
        Cell(Split(split), labelled, category): n for split, labelled, category, n in stored.get("cells", ())
    }
    return Counts(cells, Arrivals(**{name: stored.get(name, 0) for name in Arrivals._fields}))
