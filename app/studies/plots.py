"""What a study found, as pictures: how far arms pay for accuracy with something else, and how they learned."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.figure import Figure

from app.studies import sequence
from app.studies.comparison import TITLES, of_arm
from app.studies.matrix import BaseRecipe, Study, on_base
from app.studies.results import BASE_ARM, EVERYDAY, KL_TO_BASE, RETENTION, SeedResult, course
from app.studies.tables import Mean

PAIRS = (
    ("accuracy", "steerability"),
    ("accuracy", RETENTION),
    (KL_TO_BASE, RETENTION),
    (KL_TO_BASE, EVERYDAY),
    ("paraphrased", RETENTION),
)
_PERTURBED = ", perturbed"  # as Study.rows names that variant of an arm


def write(study: Study, results: Sequence[SeedResult], out: Path) -> list[Path]:
    """SVG files; those of measures that were not taken, and curves that no stage left, are left out."""
    made = [_scatter(study, results, x, y, out / f"{x}-{y}.svg") for x, y in PAIRS]
    made += [_followed(study, results, out / "followed.svg")]
    made += [_curves(study, results, out / "learning.svg"), _pass_at_k(study, results, out / "pass-at-k.svg")]
    if len(study.tenants) > 1:
        made.append(_sequence(study, results, out / "sequence.svg"))
    if study.bases:
        made.append(_bases(study, results, out / "bases.svg"))
    return [path for path in made if path is not None]


def _scatter(study: Study, results: Sequence[SeedResult], x: str, y: str, path: Path) -> Path | None:
    """An arm and its perturbed variant have one colour; the variant is hollow. Bars: 95 % over seeds."""
    figure, axes = _figure(study, TITLES[x], TITLES[y])
    shown = 0
    for arm in results[0].arms:
        across, up = of_arm(results, arm, x), of_arm(results, arm, y)
        if across is None or up is None:
            continue
        colour = _colour(results, arm)
        axes.errorbar(
            across.value,
            up.value,
            xerr=across.reach,
            yerr=up.reach,
            fmt="s" if arm == study.on_same_base(arm, BASE_ARM) else "o",
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
        axes.plot(range(1, length + 1), means, style, color=_colour(results, arm), label=arm)
        shown += 1
    return _saved(figure, path) if shown else None


def _followed(study: Study, results: Sequence[SeedResult], path: Path) -> Path | None:
    """Of the last stage of each arm that was validated on the way: right answers under edits, a mean over seeds, as
    far as all of them came."""
    figure, axes = _figure(study, "step", "right answers under edits")
    shown = 0
    for arm in results[0].arms:
        courses = [course(result.arms[arm].validated) for result in results]
        if not all(courses):
            continue
        last = max(moment.stage for moment in courses[0])
        common = set.intersection(*(set(one) for one in courses))
        moments = sorted(moment for moment in common if moment.stage == last)
        if not moments:
            continue
        points = [(moment.step, fmean(one[moment].perturbed for one in courses)) for moment in moments]
        style = "--" if arm.endswith(_PERTURBED) else "-"
        axes.plot(*zip(*points, strict=True), style, color=_colour(results, arm), label=arm)
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
        axes.plot(range(1, len(means) + 1), means, style, color=_colour(results, arm), label=arm)
        shown += 1
    return _saved(figure, path) if shown else None


def _sequence(study: Study, results: Sequence[SeedResult], path: Path) -> Path:
    """A panel for each tenant and one for retention: every arm after each step. Bars: 95 % over seeds."""
    names = sequence.names(study)
    figure = Figure(figsize=(3 * len(names) + 6, 4), layout="constrained")
    figure.suptitle(study.title)
    panels = figure.subplots(1, len(names) + 1, sharey=True)
    for task, axes in enumerate(panels):
        axes.set_title(f"on {[*names, sequence.KEPT][task]}")
        axes.set_xticks(range(len(names) + 1), ["base", *(f"+ {name}" for name in names)])
        axes.grid(alpha=0.3)
        for number, way in enumerate(sequence.ways(study, results)):
            found = way.kept if task == len(names) else way.accuracies(task)
            _points(axes, found, f"C{number}", "o-", way.arm if task == 0 else None)
    panels[0].set_ylabel("accuracy")
    return _saved(figure, path)


def _bases(study: Study, results: Sequence[SeedResult], path: Path) -> Path:
    """Accuracy of every arm over the bases, in the order of the study's file. Bars: 95 % over seeds.

    Only those that the study trained are joined: the others were made in other ways.
    """
    figure, axes = _figure(study, "base", TITLES["accuracy"])
    axes.set_xticks(range(len(study.bases)), list(study.bases))
    for number, arm in enumerate([BASE_ARM, *(row.name for row in study.rows)]):
        found = {base: of_arm(results, on_base(base, arm), "accuracy") for base in study.bases}
        trained = [one if isinstance(study.bases[base], BaseRecipe) else None for base, one in found.items()]
        _points(axes, list(found.values()), f"C{number}", "o", arm)
        _points(axes, trained, f"C{number}", "-", None)
    return _saved(figure, path)


def _points(
    axes: mpl.axes.Axes, found: Sequence[Mean | None], colour: str, style: str, label: str | None
) -> None:
    """At 0, 1, …; what was not measured is a gap."""
    known = [(x, one.value, one.reach or 0.0) for x, one in enumerate(found) if one is not None]
    if known:
        x, y, reach = zip(*known, strict=True)
        axes.errorbar(x, y, yerr=reach, fmt=style, color=colour, elinewidth=0.6, label=label)


def _figure(study: Study, x: str, y: str) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(study.title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _colour(results: Sequence[SeedResult], arm: str) -> str:
    plain = list(dict.fromkeys(name.removesuffix(_PERTURBED) for name in results[0].arms))
    colours = mpl.color_sequences["tab20"]
    return mpl.colors.to_hex(colours[plain.index(arm.removesuffix(_PERTURBED)) % len(colours)])


def _saved(figure: Figure, path: Path) -> Path:
    figure.legend(loc="outside right center", fontsize="small", frameon=False)
    with mpl.rc_context({"svg.hashsalt": path.name}):  # the same picture has the same bytes
        figure.savefig(path, metadata={"Date": None})
    return path
