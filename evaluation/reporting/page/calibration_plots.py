"""Inline SVG of a calibration, with the CSS classes of the report page, in its frame and its size."""

import math
from collections.abc import Sequence
from html import escape

from evaluation.metrics.calibration import Bin, Calibration, Threshold
from evaluation.reporting.page.plots import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, tell

RIGHT = 12  # room for half of the last number under the axis
TICKS = 4


def reliability(calibration: Calibration) -> str:
    """A dot a bin, with the interval of its accuracy; on the dashed line, confidences are as high as accuracies."""
    diagonal = f'<line class="border" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    known = [(b.confidence, b.accuracy.value) for b in calibration.bins if b.accuracy.value is not None]
    path = " ".join(f"{_x(confidence)},{_y(accuracy)}" for confidence, accuracy in known)
    drawn = [_frame(1, "confidence"), diagonal, _line("one", path), *map(_bin, calibration.bins)]
    return _svg("accuracy by confidence", drawn)


def risk_coverage(calibration: Calibration) -> str:
    """Share of wrong answers among the surest. Dots: where thresholds chosen beforehand ended up."""
    precisions = [t.precision for t in calibration.thresholds]
    risks = [p.risk for p in calibration.curve] + [1 - p.value for p in precisions if p.value is not None]
    top = max(1, math.ceil(25 * max(risks, default=0))) / 25  # so that the ticks are whole percents
    path = " ".join(f"{_x(p.coverage)},{_y(p.risk, top)}" for p in calibration.curve)
    dots = [_chosen(threshold, top) for threshold in calibration.thresholds]
    return _svg("risk by coverage", [_frame(top, "coverage"), _line("one", path), *dots])


def _bin(one: Bin) -> str:
    if one.accuracy.value is None:
        return ""
    x, interval = _x(one.confidence), ""
    if one.accuracy.ci95 is not None:
        bottom, top = (_y(end) for end in one.accuracy.ci95)
        interval = f'<line class="line one" x1="{x}" x2="{x}" y1="{bottom}" y2="{top}"/>'
    told = f"confidence {one.confidence:.3f}: accuracy {tell(one.accuracy)}"
    return interval + _dot("one", x, _y(one.accuracy.value), told)


def _chosen(one: Threshold, top: float) -> str:
    if one.coverage.value is None or one.precision.value is None:
        return ""
    told = f"at least {one.threshold:.3f}, chosen for {one.wanted:g}: precision {tell(one.precision)}"
    return _dot("two", _x(one.coverage.value), _y(1 - one.precision.value, top), told)


def _x(value: float) -> str:
    return f"{LEFT + (WIDTH - LEFT - RIGHT) * value:.1f}"


def _y(value: float, top: float = 1) -> str:
    return f"{TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top):.1f}"


def _frame(top: float, below: str) -> str:
    shares = [tick / TICKS for tick in range(TICKS + 1)]
    lines = (
        f'<line class="{"grid" if share else "zero"}" x1="{LEFT}" x2="{WIDTH}" y1="{_y(share)}" y2="{_y(share)}"/>'
        f'<text class="end" x="{LEFT - 6}" y="{_y(share)}" dy="4">{share * top:.4g}</text>'
        f'<text class="middle" x="{_x(share)}" y="{HEIGHT - 17}">{share:g}</text>'
        for share in shares
    )
    return f'{"".join(lines)}<text class="middle" x="{_x(0.5)}" y="{HEIGHT - 3}">{escape(below)}</text>'


def _line(css: str, path: str) -> str:
    return f'<polyline class="line {css}" points="{path}"/>' if path else ""


def _dot(css: str, x: str, y: str, told: str) -> str:
    return f'<circle class="dot {css}" cx="{x}" cy="{y}" r="4"><title>{escape(told)}</title></circle>'


def _svg(title: str, drawn: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"<title>{escape(title)}</title>{''.join(drawn)}</svg>"
    )
