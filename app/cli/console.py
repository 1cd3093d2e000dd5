"""What the person sees while a job runs and when it ends: a moving line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from rich import box
from rich.markup import escape
from rich.table import Table

from app.cli.terminal import Terminal
from app.runs.time_left import TimeLeft
from evaluation.metrics.measures import Measure
from evaluation.reporting.report import Report

_PLAIN_EVERY_S = 10.0
_STAGE_NAMES = {"sft": "SFT", "distill": "+ distilled", "rl": "+ RL"}
_COLUMNS = (
    ("accuracy", "accuracy"),
    ("macro_f1", "macro-F1"),
    ("steerability", "steer-\nability"),
    ("flip_accuracy", "flip\naccuracy"),
    ("invariance", "in-\nvariance"),
    ("majority_over_selection", "majority\nover-sel"),
)


class Progress(Protocol):
    def note(self, text: str) -> None: ...
    def update(
        self, stage: str, done: int, total: int | None, message: str = "", most_s: float | None = None
    ) -> None:
        """most_s: after which the stage ends by itself."""

    def end(self, stage: str, message: str = "") -> None: ...


def evaluating(progress: Progress) -> Callable[[str, int, int], None]:
    """What an evaluation tells: of what, answers so far, and of how many."""

    def show(what: str, done: int, total: int) -> None:
        progress.update(f"evaluate {what}", done, total)
        if done == total:
            progress.end(f"evaluate {what}")

    return show


class ConsoleReporter:
    """`update` starts a stage's clock at its first call; `end` writes the line that stays."""

    def __init__(self, stream: TextIO | None = None):
        self.console = Terminal(stream or sys.stderr)
        self._status = self.console.status("") if self.console.is_terminal else None
        self._watched: dict[str, TimeLeft] = {}
        self._shown_at = 0.0

    def note(self, text: str) -> None:
        self.console.print(escape(text))

    def update(
        self, stage: str, done: int, total: int | None, message: str = "", most_s: float | None = None
    ) -> None:
        now = time.monotonic()
        first = stage not in self._watched
        watched = self._watched.setdefault(stage, TimeLeft())
        line = progress_line(
            stage, done, total, watched.passed_s, watched.left_s(done, total, most_s), message
        )
        if self._status is not None:
            self._status.update(escape(line))
            self._status.start()
        elif first or now - self._shown_at >= _PLAIN_EVERY_S:
            self._shown_at = now
            self.note(line)

    def end(self, stage: str, message: str = "") -> None:
        self.close()
        watched = self._watched.pop(stage, None) or TimeLeft()
        self.note(f"{stage:<20} done in {duration(watched.passed_s)}{f'  {message}' if message else ''}")

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()


def progress_line(
    stage: str, done: int, total: int | None, elapsed_s: float, left_s: float | None, message: str = ""
) -> str:
    steps = f"{done}/{total}" if total else str(done) if done else "…"
    left = "" if left_s is None else f", {duration(left_s)} left"
    return f"{stage:<20} {steps:>9}  {duration(elapsed_s)}{left}{f'  {message}' if message else ''}"


def duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def stage_table(report: Report) -> Table:
    title = "every stage on the same questions, with 95 % intervals"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("stage", no_wrap=True)
    for _, heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in report.stages:
        measures = [getattr(stage, name) for name, _ in _COLUMNS]
        table.add_row(_STAGE_NAMES.get(stage.stage, stage.stage), *map(_cell, measures))
    for baseline, found in report.by_baseline.items():
        table.add_row(baseline, *(_cell(found.get(name)) for name, _ in _COLUMNS), style="dim")
    if report.not_measured:
        table.caption, table.caption_justify = escape("\n".join(report.not_measured)), "left"
    return table


def _cell(measure: Measure | None) -> str:
    """What was not measured is a dash, never 0."""
    if measure is None or measure.value is None:
        return "–"
    interval = f"\n{measure.ci95[0]:.2f}–{measure.ci95[1]:.2f}" if measure.ci95 else ""
    return escape(f"{measure.value:.3f}{interval}")


def verdict_lines(report: Report) -> list[str]:
    assert report.gate is not None
    return [f"gate: {report.gate.verdict.value}", *(f"  - {reason}" for reason in report.gate.reasons)]
