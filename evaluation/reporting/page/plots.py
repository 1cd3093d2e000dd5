"""Inline SVG for the report page: no script, no file beside it; colours come from the page's CSS classes."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from evaluation.metrics.measures import Measure
from evaluation.reporting.report import Confusion

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 440, 250, 44, 14, 32
_OFFSET = 9  # between the series of one label, so that their intervals do not hide each other
_LETTER = 7  # width of a letter, with some room


class Series(NamedTuple):
    name: str
    css: str
    points: Sequence[Measure | None]


class PlotPoint(NamedTuple):
    x: float
    value: float
    measure: Measure


class SeparateSeries(NamedTuple):
    """before: how many labels, from the left, stand before a border. joined: whether they are steps of one thing."""

    before: int
    joined: bool = False


def points(labels: Sequence[str], series: Sequence[Series], title: str, apart: SeparateSeries) -> str:
    """A point a label and series, with its interval; what was not measured is left out."""
    low = _lowest(series)
    step = (WIDTH - LEFT) / max(1, len(labels))
    border = LEFT + step * apart.before
    drawn = [_axis(low)]
    if 0 < apart.before < len(labels):
        drawn.append(
            f'<line class="border" x1="{border:.1f}" x2="{border:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    for number, one in enumerate(series):
        shift = _OFFSET * (number - (len(series) - 1) / 2)
        known = [
            PlotPoint(LEFT + step * (i + 0.5) + shift, m.value, m)
            for i, m in enumerate(one.points)
            if m is not None and m.value is not None
        ]
        path = " ".join(f"{p.x:.1f},{_y(p.value, low):.1f}" for p in known if apart.joined and p.x < border)
        drawn.append(f'<polyline class="line {one.css}" points="{path}"/>' if path else "")
        drawn += [_dot(point, one, low) for point in known]
    return _svg(title, [*drawn, *_labels(labels, step)])


def confusion(matrix: Confusion, names: Sequence[str]) -> str:
    """Rows: what was right. Columns: what was answered, the unparsable last. Shade: share of the row."""
    columns = [*names, "unparsable"]
    cell, left, top = 28, 146, 120
    width, height = left + len(columns) * cell + 48, top + len(names) * cell + 8
    drawn = []
    for i, (name, counts) in enumerate(zip(names, matrix.counts, strict=True)):
        y, total = top + i * cell, sum(counts)
        drawn.append(f'<text class="end" x="{left - 6}" y="{y + 18}">{escape(_cut(name, 22))}</text>')
        drawn.append(
            f'<rect class="row" x="{left}" y="{y}" width="{len(columns) * cell - 1}" height="{cell - 1}"/>'
        )
        for j, count in enumerate(counts):
            place = f'x="{left + j * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}"'
            if count:
                css, shade = "right" if i == j else "wrong", 0.08 + 0.5 * count / total
                drawn.append(
                    f'<rect class="{css}" {place} opacity="{shade:.2f}"/>'
                    f'<text class="middle" x="{left + (j + 0.5) * cell}" y="{y + 18}">{count}'
                    f"<title>{escape(name)} answered {escape(columns[j])}: {count} of {total}</title></text>"
                )
            if i == j:
                drawn.append(f'<rect class="diagonal" {place}/>')
    for j, name in enumerate(columns):
        x = left + (j + 0.5) * cell + 4
        drawn.append(
            f'<text transform="translate({x} {top - 6}) rotate(-60)">{escape(_cut(name, 20))}</text>'
        )
    # A matrix of many categories scrolls in its box; scaled to a phone its numbers could not be read.
    return (
        f'<svg class="matrix" role="img" aria-label="confusion matrix" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(drawn)}</svg>'
    )


def tell(measure: Measure) -> str:
    if measure.value is None:
        return "not measured"
    interval = "" if measure.ci95 is None else f" [{measure.ci95[0]:.3f}, {measure.ci95[1]:.3f}]"
    return f"{measure.value:.3f}{interval}, n={measure.n}"


def _lowest(series: Sequence[Series]) -> float:
    """The quarter at or below everything drawn, intervals included, and at most 0."""
    measured = [m for one in series for m in one.points if m is not None and m.value is not None]
    ends = [m.ci95[0] if m.ci95 else m.value for m in measured]
    return math.floor(4 * min([0.0, *(end for end in ends if end is not None)])) / 4


def _dot(point: PlotPoint, one: Series, low: float) -> str:
    x, y = f"{point.x:.1f}", f"{_y(point.value, low):.1f}"
    told = f"<title>{escape(one.name)}: {tell(point.measure)}</title>"
    dot = f'<circle class="dot {one.css}" cx="{x}" cy="{y}" r="4">{told}</circle>'
    if point.measure.ci95 is None:
        return dot
    bottom, top = (f"{_y(end, low):.1f}" for end in point.measure.ci95)
    return f'<line class="line {one.css}" x1="{x}" x2="{x}" y1="{bottom}" y2="{top}"/>{dot}'


def _y(value: float, low: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (1 - low))


def _axis(low: float) -> str:
    ticks = [t / 4 for t in range(round(4 * low), 5)]
    heights = [f"{_y(t, low):.1f}" for t in ticks]
    return "".join(
        f'<line class="{"grid" if t else "zero"}" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        f'<text class="end" x="{LEFT - 6}" y="{y}" dy="4">{t:g}</text>'
        for t, y in zip(ticks, heights, strict=True)
    )


def _labels(labels: Sequence[str], step: float) -> list[str]:
    """In two rows by turns, where they would not fit into one."""
    rows = 2 if any((len(label) + 1) * _LETTER > step for label in labels) else 1
    letters = max(3, int(rows * step / _LETTER))
    return [
        f'<text class="middle" x="{LEFT + step * (i + 0.5):.1f}" y="{HEIGHT - (17, 3)[i % rows]}">'
        f"{escape(_cut(label, letters))}<title>{escape(label)}</title></text>"
        for i, label in enumerate(labels)
    ]


def _svg(title: str, drawn: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"<title>{escape(title)}</title>{''.join(drawn)}</svg>"
    )


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
