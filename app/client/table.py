"""What people see of the API's answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from rich import box
from rich.table import Table
from rich.text import Text

from app.client.api import Json
from app.pipeline.console import duration

Cell: TypeAlias = str | Callable[[Json], Any]
Columns: TypeAlias = Mapping[str, Cell]  # heading to a field, or to what makes the cell of a row
_COLOURS = {
    "ready": "green", "succeeded": "green", "passed": "green", "live": "green", "confirmed": "green",
    "failed": "red", "reverted": "red", "cancelled": "yellow", "incomplete": "yellow",
}  # fmt: skip


def table(rows: Iterable[Json], columns: Columns) -> Table:
    """Ids are never cut."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in columns:
        made.add_column(heading, no_wrap=heading in ("id", "state", "created") or heading.endswith(" id"))
    for row in rows:
        made.add_row(*(text(cell(row) if callable(cell) else row.get(cell)) for cell in columns.values()))
    return made


def details(pairs: Mapping[str, Any]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column()
    for name, value in pairs.items():
        made.add_row(name, text(value))
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
        return Text("\n".join(str(item) for item in value))
    return Text(str(value), style=_COLOURS.get(str(value), ""))


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
