"""How far something is, on standard error: a bar on a terminal, a line now and then elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.cli.console import ConsoleReporter
from app.cli.terminal import Terminal


class Bar:
    """show: may be called as often as one likes."""

    def __init__(self, progress: Progress | None, reporter: ConsoleReporter | None):
        self._progress, self._reporter = progress, reporter
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, done: int | None, total: int | None, message: str | None = None) -> None:
        if self._progress is not None:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total, message="")
            self._progress.update(
                self._tasks[name], completed=done or 0, total=total, message=(message or "")[:60]
            )
        elif self._reporter is not None:
            self._reporter.update(name, done or 0, total, message or "")

    def note(self, line: str) -> None:
        """A line that stays."""
        if self._progress is not None:
            self._progress.console.print(line, markup=False)
        elif self._reporter is not None:
            self._reporter.note(line)


@contextmanager
def bar(*, quiet: bool = False) -> Iterator[Bar]:
    """quiet: shows nothing, as for programs."""
    console = Terminal(stderr=True)
    if quiet:
        yield Bar(None, None)
    elif not console.is_terminal:
        yield Bar(None, ConsoleReporter())
    else:
        columns = (TextColumn("{task.description:<20}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        times = (
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}", markup=False),
        )
        with Progress(*columns, *times, console=console) as progress:
            yield Bar(progress, None)
