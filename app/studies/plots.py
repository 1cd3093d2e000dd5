"""What a study found, as pictures: how far arms pay for accuracy with something else, and how they learned."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from app.studies.comparison import TITLES, of_arm
from app.studies.matrix import Study
from app.studies.study import BASE_ARM, RETENTION, SeedResult

PAIRS = (("accuracy", "steerability"), ("accuracy", RETENTION))
_PERTURBED = ", perturbed"  # as Study.rows names that variant of an arm


def write(study: Study, results: Sequence[SeedResult], out: Path) -> list[Path]:
    """SVG files; those of measures that were not taken, and curves that no stage left, are left out."""
    made = [_scatter(study, results, x, y, out / f"{x}-{y}.svg") for x, y in PAIRS]
    made += [_curves(study, results, out / "learning.svg"), _pass_at_k(study, results, out / "pass-at-k.svg")]
    return [path for path in made if path is not None]


def _scatter(study: Study, results: Sequence[SeedResult], x: str, y: str, path: Path) -> Path | None:
    """An arm and its perturbed variant have one colour; the variant is hollow. Bars: 95 % over seeds."""
    figure, axes = _figure(study, TITLES[x], TITLES[y])
    shown = 0
    for arm in results[0].arms:
        across, up = of_arm(results, arm, x), of_arm(results, arm, y)
        if across is None or up is None:
            continue
        colour = _colour(study, arm)
        axes.errorbar(
            across.value,
            up.value,
            xerr=across.reach,
            yerr=up.reach,
            fmt="s" if arm == BASE_ARM else "o",
            color=colour,
            markerfacecolor="none" if arm.endswith(_PERTURBED) else colour,
            elinewidth=0.6,
            label=arm,
        )
        shown += 1
    return _saved(figure, path) if shown else None


def _curves(study: Study, results: Sequence[SeedResult], path: Path) -> Path | None:
    """Of the last stage of each arm that is RL: the share of right rollouts at each step, a mean over seeds."""
    figure, axes = _figure(study, "step of RL", "share of right rollouts")
    shown = 0
    for arm in results[0].arms:
        of_seeds = [r.arms[arm].curve for r in results if r.arms[arm].curve]
        if not of_seeds:
            continue
        length = min(map(len, of_seeds))
        means = [sum(curve[step] for curve in of_seeds) / len(of_seeds) for step in range(length)]
        style = "--" if arm.endswith(_PERTURBED) else "-"
        axes.plot(range(1, length + 1), means, style, color=_colour(study, arm), label=arm)
        shown += 1
    return _saved(figure, path) if shown else None


def _pass_at_k(study: Study, results: Sequence[SeedResult], path: Path) -> Path | None:
    figure, axes = _figure(study, "k", "pass@k")
    shown = 0
    for arm in results[0].arms:
        of_seeds = [r.arms[arm].pass_at_k for r in results if r.arms[arm].pass_at_k]
        if not of_seeds:
            continue
        means = [sum(column) / len(column) for column in zip(*of_seeds, strict=True)]
        style = "--" if arm.endswith(_PERTURBED) else "-"
        axes.plot(range(1, len(means) + 1), means, style, color=_colour(study, arm), label=arm)
        shown += 1
    return _saved(figure, path) if shown else None


def _figure(study: Study, x: str, y: str) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(study.title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _colour(study: Study, arm: str) -> str:
    plain = [BASE_ARM, *dict.fromkeys(row.name.removesuffix(_PERTURBED) for row in study.rows)]
    colours = mpl.color_sequences["tab20"]
    return mpl.colors.to_hex(colours[plain.index(arm.removesuffix(_PERTURBED)) % len(colours)])


def _saved(figure: Figure, path: Path) -> Path:
    figure.legend(loc="outside right center", fontsize="small", frameon=False)
    with mpl.rc_context({"svg.hashsalt": path.name}):  # the same picture has the same bytes
        figure.savefig(path, metadata={"Date": None})
    return path
