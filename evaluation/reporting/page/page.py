"""A report as one HTML page that needs nothing else: verdict and reasons first, then why.

What it looks like is in page.html.jinja, section by section in parts, where everything that comes from a tenant
is escaped.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.contract.text import harmless
from evaluation.gating.explain import to_change
from evaluation.reporting.page import calibration_plots, plots, tables
from evaluation.reporting.page.flips import flips
from evaluation.reporting.page.plots import SeparateSeries, Series
from evaluation.reporting.page.tables import EDITS, ROWS, Columns
from evaluation.reporting.report import Report, Verdict

SAID = {
    Verdict.passed: "Passed: this model follows the definitions and may answer users.",
    Verdict.failed: "Failed: this model must not answer users.",
    Verdict.incomplete: "Incomplete: what was measured does not decide.",
}


def render(report: Report) -> str:
    last, gate = report.stages[-1], report.gate
    columns, attacked = tables.columns(report), tables.attacked(report)
    return _TEMPLATE.render(
        report=report,
        last=last,
        said=SAID[gate.verdict] if gate else "No policy has judged this report.",
        reasons=_reasons(report),
        to_change=to_change(report),
        by_stage=_by_stage(columns),
        by_family=_by_family(report),
        columns=columns,
        rows=ROWS,
        differences=tables.differences(last),
        edits=EDITS,
        matrix=plots.confusion(last.confusion, [_name(a) for a in last.confusion.answers]),
        flips=flips(report),
        calibration=last.auxiliary and last.auxiliary.calibration,
        auto=last.auxiliary and last.auxiliary.auto,
        attacked=attacked,
        attack_groups=list(tables.groups(list(attacked.values()))) if attacked else [],
        turns=last.auxiliary and last.auxiliary.turns,
    )


def _reasons(report: Report) -> dict[str, list[str]]:
    """By verdict. A report that nobody has judged has none."""
    checks = report.gate.checks if report.gate else []
    return {verdict.value: [c.reason for c in checks if c.verdict is verdict] for verdict in Verdict}


def _by_stage(columns: Columns) -> str:
    series = [
        Series(name, css, [c.measures.get(name) for c in columns.each])
        for name, css in (("accuracy", "one"), ("steerability", "two"))
    ]
    labels = [c.title for c in columns.each]
    return plots.points(
        labels, series, "accuracy and steerability", SeparateSeries(len(columns.steps), joined=True)
    )


def _by_family(report: Report) -> str:
    """Those that count come first."""
    asked = report.stages[-1].per_family.items()
    families = dict(sorted(asked, key=lambda item: item[0] not in report.counted))
    series = [
        Series(name.replace("_", " "), css, [getattr(family, name) for family in families.values()])
        for name, css in (("flip_accuracy", "one"), ("steerability", "two"), ("invariance", "three"))
    ]
    labels = [name if family.seen else f"{name}*" for name, family in families.items()]
    counted = sum(name in report.counted for name in families)
    return plots.points(labels, series, "the last stage by kind of edit", SeparateSeries(counted))


def _name(answer: str | None) -> str:
    return "none of these" if answer is None else answer


def _harmless(value: Any) -> Any:
    """What a template puts into the page; what is markup already was made by us."""
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template_environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "name": _name,
        "in_words": tables.in_words,
        "reliability": calibration_plots.reliability,
        "risk_coverage": calibration_plots.risk_coverage,
    }
    made.globals["titled"] = tables.titled
    return made


_TEMPLATE = _template_environment().get_template("page.html.jinja")
