"""Models and baselines side by side in a terminal: a line each, with 95 % intervals."""

from collections.abc import Mapping
from typing import Final

from evaluation.metrics.measures import Measure
from evaluation.reporting.report import BASELINES, Report, StageReport

_SHOWN: Final = ("accuracy", "steerability", "flip_accuracy", "invariance")


def of_report(made: Report) -> list[str]:
    asked = {stage.stage: _measures(stage) for stage in made.stages}
    return [*_lines(asked | made.by_baseline), *made.not_measured]


def of_stages(stages: Mapping[str, StageReport]) -> list[str]:
    return _lines({BASELINES.get(name, name): _measures(stage) for name, stage in stages.items()})


def _measures(stage: StageReport) -> dict[str, Measure]:
    return {name: getattr(stage, name) for name in _SHOWN}


def _lines(rows: Mapping[str, Mapping[str, Measure]]) -> list[str]:
    cells = [["", *(name.replace("_", " ") for name in _SHOWN)]]
    cells += [[name, *(_cell(found.get(shown)) for shown in _SHOWN)] for name, found in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _cell(one: Measure | None) -> str:
    if one is None or one.value is None:
        return "–"
    interval = "" if one.ci95 is None else f" ({one.ci95[0]:.2f} to {one.ci95[1]:.2f})"
    return f"{one.value:.2f}{interval}, n = {one.n}"
