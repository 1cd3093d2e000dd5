"""Inline SVG for the report page: no script, no file beside it; colours come from the page's CSS classes."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from evaluation.measures import Measure
from evaluation.report import Confusion

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 440, 230, 36, 14, 32


class Series(NamedTuple):
    name: str
    css: str
    points: Sequence[Measure]


def lines(labels: Sequence[str], series: Sequence[Series], title: str) -> str:
    """One point a label with its interval, joined; a value that was not measured is left out."""
    drawn = [_axis(min([0.0, *(m.value for s in series for m in s.points if m.value is not None)]))]
    low = min([0.0, *(m.value for s in series for m in s.points if m.value is not None)])
    step = (WIDTH - LEFT - 20) / max(1, len(labels))
    for number, one in enumerate(series):
        xs = [LEFT + step * (i + 0.5) + 8 * (number - (len(series) - 1) / 2) for i in range(len(labels))]
        known = [(x, m) for x, m in zip(xs, one.points, strict=True) if m.value is not None]
        path = " ".join(f"{x:.1f},{_y(m.value, low):.1f}" for x, m in known if m.value is not None)
        drawn.append(f'<polyline class="line {one.css}" points="{path}"/>')
        for x, measure in known:
            drawn.append(_interval(x, measure, low, one.css))
            drawn.append(
                f'<circle class="dot {one.css}" cx="{x:.1f}" cy="{_y(measure.value, low):.1f}" r="4">'
                f"<title>{escape(one.name)}: {tell(measure)}</title></circle>"
            )
    drawn += [_label(LEFT + step * (i + 0.5), label) for i, label in enumerate(labels)]
    return _svg(title, drawn)


def bars(labels: Sequence[str], series: Sequence[Series], title: str) -> str:
    drawn = [_axis(0.0)]
    step = (WIDTH - LEFT - 10) / max(1, len(labels))
    width = min(22.0, 0.8 * step / max(1, len(series)))
    for number, one in enumerate(series):
        for i, measure in enumerate(one.points):
            x = LEFT + step * (i + 0.5) + width * (number - len(series) / 2)
            if measure.value is None:
                continue
            top = _y(max(0.0, measure.value), 0.0)
            drawn.append(
                f'<rect class="bar {one.css}" x="{x:.1f}" y="{top:.1f}" width="{width - 2:.1f}" '
                f'height="{_y(0.0, 0.0) - top:.1f}"><title>{escape(one.name)}, {escape(labels[i])}: {tell(measure)}'
                "</title></rect>"
            )
            drawn.append(_interval(x + width / 2 - 1, measure, 0.0, "whisker"))
    drawn += [_label(LEFT + step * (i + 0.5), label) for i, label in enumerate(labels)]
    return _svg(title, drawn)


def confusion(matrix: Confusion, names: Sequence[str]) -> str:
    """Rows: what was right. Columns: what was answered, the unparsable last. Shade: share of the row."""
    columns = [*names, "unparsable"]
    cell, left, top = 26, 150, 130
    drawn = []
    for i, (name, counts) in enumerate(zip(names, matrix.counts, strict=True)):
        y, total = top + i * cell, sum(counts)
        drawn.append(f'<text class="end" x="{left - 6}" y="{y + 17}">{escape(_short(name))}</text>')
        for j, count in enumerate(counts):
            x, shade = left + j * cell, count / total if total else 0.0
            css = "right" if i == j else "wrong"
            drawn.append(
                f'<g><rect class="cell" x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}"/>'
                f'<rect class="{css}" x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" opacity="{shade:.2f}"/>'
                f"<title>{escape(name)} answered {escape(columns[j])}: {count} of {total}</title>"
                + (
                    f'<text class="count" x="{x + cell / 2 - 0.5}" y="{y + 17}">{count}</text>'
                    if count
                    else ""
                )
                + "</g>"
            )
    for j, name in enumerate(columns):
        middle = left + j * cell + cell / 2
        drawn.append(
            f'<text transform="translate({middle + 4} {top - 6}) rotate(-60)">{escape(_short(name))}</text>'
        )
    width, height = left + len(columns) * cell + 60, top + len(names) * cell + 8
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


def _y(value: float | None, low: float) -> float:
    assert value is not None
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (1 - low))


def _axis(low: float) -> str:
    ticks = [t / 4 for t in range(-4, 5) if t / 4 >= low]
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{_y(t, low):.1f}" y2="{_y(t, low):.1f}"/>'
        f'<text class="end" x="{LEFT - 6}" y="{_y(t, low) + 4:.1f}">{t:g}</text>'
        for t in ticks
    )


def _interval(x: float, measure: Measure, low: float, css: str) -> str:
    if measure.ci95 is None:
        return ""
    bottom, top = (_y(max(low, end), low) for end in measure.ci95)
    return f'<line class="line {css}" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>'


def _label(x: float, text: str) -> str:
    return f'<text class="middle" x="{x:.1f}" y="{HEIGHT - 12}">{escape(_short(text))}</text>'


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:21] + "…"


def _svg(title: str, drawn: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"<title>{escape(title)}</title>{''.join(drawn)}</svg>"
    )
