"""What people see of the API's answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from app.cli.client.api import Json
from app.cli.console import duration
from evaluation.contract.text import harmless

Cell: TypeAlias = str | Callable[[Json], Any]
Columns: TypeAlias = Mapping[str, Cell]  # heading to a field, or to what makes the cell of a row
_BOUNDLESS = 10_000  # columns
_COLOURS = {
    "ready": "green", "succeeded": "green", "passed": "green", "live": "green", "confirmed": "green",
    "failed": "red", "reverted": "red", "cancelled": "yellow", "incomplete": "yellow",
}  # fmt: skip


class Fitting:
    """Rows as a table; where the terminal is too narrow for it, each as a block of lines. Nothing is ever cut."""

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[Text]]):
        self._headings, self._rows = headings, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = self._table()
        if Measurement.get(console, options.update_width(_BOUNDLESS), wide).minimum <= options.max_width:
            yield wide
            return
        for number, row in enumerate(self._rows):
            if number:
                yield ""
            yield _details(zip(self._headings, row, strict=True))

    def _table(self) -> Table:
        made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for target, heading in enumerate(self._headings):
            whole = heading in ("id", "state", "verdict", "version", "created") or heading.endswith(" id")
            least = max((row[target].cell_len for row in self._rows), default=0) if whole else None
            made.add_column(heading, no_wrap=whole, overflow="fold", min_width=least)
        for row in self._rows:
            made.add_row(*row)
        return made


def table(rows: Iterable[Json], columns: Columns) -> Fitting:
    cells = [
        [text(cell(row) if callable(cell) else row.get(cell)) for cell in columns.values()] for row in rows
    ]
    return Fitting(list(columns), cells)


def details(pairs: Mapping[str, Any]) -> Table:
    return _details((name, text(value)) for name, value in pairs.items())


def _details(pairs: Iterable[tuple[str, Text]]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, value)
    return made


def text(value: Any) -> Text:
    """What is not there is a dash, never 0 or an empty field."""
    if value is None or value == "" or value == []:
        return Text("–")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, float):
        return Text(f"{value:.3g}")
    if isinstance(value, list):
        return Text(harmless("\n".join(str(item) for item in value)))
    return Text(harmless(str(value)), style=_COLOURS.get(str(value), ""))


def at(moment: str | None) -> str | None:
    """In UTC, to the second."""
    if moment is None:
        return None
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%SZ")


def when(field: str) -> Callable[[Json], str | None]:
    return lambda row: at(row.get(field))


def steps(progress: Mapping[str, Any]) -> str:
    """`24/60 training, 0:41 left`, as far as it is known."""
    done, total = progress.get("done"), progress.get("total")
    parts = ["" if done is None else f"{done}/{total}" if total else str(done), progress.get("message") or ""]
    told = " ".join(filter(None, parts))
    eta_s = progress.get("eta_s")
    return told if eta_s is None else f"{told}, {duration(eta_s)} left"


def measures(metrics: Mapping[str, Any] | None) -> str:
    shown: Sequence[str] = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return ", ".join(shown)
