"""A report as one HTML page that needs nothing else: verdict and reasons first, then why."""

from collections.abc import Sequence
from html import escape

from evaluation import plots
from evaluation.measures import Measure
from evaluation.plots import Series
from evaluation.report import Example, GateResult, Report, StageReport, Verdict

SAID = {
    Verdict.passed: "Passed: this model follows the definitions and may answer users.",
    Verdict.failed: "Failed: this model must not answer users.",
    Verdict.incomplete: "Incomplete: what was measured does not decide.",
}
COLUMNS = (
    ("accuracy", "accuracy"),
    ("macro_f1", "macro-F1"),
    ("steerability", "steerability"),
    ("steerability_seen", "… edits seen in training"),
    ("steerability_unseen", "… edits never seen"),
    ("flip_accuracy", "flip accuracy"),
    ("invariance", "invariance"),
    ("override_rate", "override rate"),
    ("majority_over_selection", "majority over-selection"),
    ("unparsable", "unparsable"),
    ("forced_read", "forced reads"),
    ("errored", "errored"),
    ("label_mass", "label mass"),
    ("evidence_rate", "verified quote"),
    ("decided_by_rate", "names a condition"),
)
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1c20; --soft: #5d6470; --rule: #dfe2e7; --panel: #f6f7f9;
  --blue: #2563c9; --orange: #c2590a; --green: #1f7a45; --red: #b3261e; --amber: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --ground: #14161a; --ink: #e8eaee; --soft: #a0a7b3; --rule: #333841;
  --panel: #1d2026; --blue: #7fb0ff; --orange: #ffa45c; --green: #6fd39b; --red: #ff8f86; --amber: #f1c661; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 64px; max-width: 1080px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 8px; }
p, li { max-width: 75ch; } .soft { color: var(--soft); }
.verdict { border-left: 6px solid; padding: 8px 16px; background: var(--panel); margin: 16px 0; }
.verdict strong { font-size: 18px; } .verdict ul { margin: 8px 0; padding-left: 20px; }
.passed { border-color: var(--green); } .passed strong { color: var(--green); }
.failed { border-color: var(--red); } .failed strong { color: var(--red); }
.incomplete { border-color: var(--amber); } .incomplete strong { color: var(--amber); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 24px; }
figure { margin: 0; } figcaption { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; } .wide { min-width: 100%; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; vertical-align: top; } th:first-child, td:first-child { text-align: left; }
td small { display: block; color: var(--soft); }
svg { width: 100%; height: auto; } svg.matrix { width: auto; max-width: none; }
svg text { fill: var(--ink); font-size: 11px; } .end { text-anchor: end; } .middle, .count { text-anchor: middle; }
.grid { stroke: var(--rule); } .line { fill: none; stroke-width: 2; stroke: var(--soft); }
.line.one { stroke: var(--blue); } .line.two { stroke: var(--orange); }
.line.whisker { stroke: var(--ink); stroke-width: 1; }
.one { fill: var(--blue); } .two { fill: var(--orange); } .three { fill: var(--green); }
.line.one, .line.two { fill: none; }
.cell { fill: var(--panel); } .right { fill: var(--green); } .wrong { fill: var(--red); }
.key { display: inline-block; width: 10px; height: 10px; margin: 0 5px 0 12px; }
.key.one { background: var(--blue); } .key.two { background: var(--orange); } .key.three { background: var(--green); }
article { border-top: 1px solid var(--rule); padding: 12px 0; }
dl { display: grid; grid-template-columns: minmax(90px, 130px) 1fr; gap: 2px 12px; margin: 8px 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def render(report: Report) -> str:
    last = report.stages[-1]
    parts = [
        f"<h1>Steerability report: {escape(report.tenant)}</h1>",
        f'<p class="soft">{report.items} requests per model, {report.perturbations} edits of the schema. '
        "Brackets are 95 % intervals, resampled by conversation.</p>",
        _verdict(report.gate),
        _plots(report),
        "<h2>Stages</h2>",
        _stages(report.stages),
        f"<h2>Answers of {escape(last.stage)} without an edit</h2>",
        '<p class="soft">Rows: what was right; columns: what was answered. Rare categories are enriched.</p>',
        f'<div class="scroll">{plots.confusion(last.confusion, [_name(a) for a in last.confusion.answers])}</div>',
        "<h2>What answers did when definitions moved</h2>",
        *(_example(example) for example in report.examples),
        _provenance(report),
    ]
    title = f"Steerability report: {escape(report.tenant)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _verdict(gate: GateResult | None) -> str:
    if gate is None:
        return '<div class="verdict incomplete"><strong>No policy has judged this report.</strong></div>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in gate.reasons)
    said = SAID[gate.verdict]
    return f'<div class="verdict {gate.verdict.value}"><strong>{said}</strong><ul>{reasons}</ul></div>'


def _plots(report: Report) -> str:
    stages, last = report.stages, report.stages[-1]
    by_stage = plots.lines(
        [s.stage for s in stages],
        [
            Series("accuracy", "one", [s.accuracy for s in stages]),
            Series("steerability", "two", [s.steerability for s in stages]),
        ],
        "accuracy and steerability by stage",
    )
    families = last.per_family
    by_family = plots.bars(
        [name if family.seen else f"{name}*" for name, family in families.items()],
        [
            Series("flip accuracy", "one", [f.flip_accuracy for f in families.values()]),
            Series("invariance", "two", [f.invariance for f in families.values()]),
            Series("steerability", "three", [f.steerability for f in families.values()]),
        ],
        "the last stage by family of edits",
    )
    return (
        f'<div class="plots"><figure>{by_stage}<figcaption>{_key("one", "accuracy")}{_key("two", "steerability")}'
        f"</figcaption></figure><figure>{by_family}<figcaption>{_key('one', 'flip accuracy')}"
        f"{_key('two', 'invariance')}{_key('three', 'steerability')}<br>{escape(last.stage)}, by kind of edit; "
        "* never seen in training</figcaption></figure></div>"
    )


def _key(css: str, text: str) -> str:
    return f'<span class="key {css}"></span>{text}'


def _stages(stages: Sequence[StageReport]) -> str:
    head = "".join(f"<th>{escape(s.stage)}<small><br>{escape(s.model)}</small></th>" for s in stages)
    rows = "".join(
        f"<tr><td>{label}</td>{''.join(_cell(getattr(s, name)) for s in stages)}</tr>"
        for name, label in COLUMNS
    )
    lengths = "".join(_cell(s.completion_tokens, digits=0) for s in stages)
    table = f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}<tr><td>tokens per answer</td>{lengths}</tr></tbody>"
    return f'<div class="scroll"><table class="wide">{table}</table></div>'


def _cell(measure: Measure, digits: int = 3) -> str:
    if measure.value is None:
        return '<td class="soft">not measured</td>'
    interval = (
        "" if measure.ci95 is None else f"[{measure.ci95[0]:.{digits}f}, {measure.ci95[1]:.{digits}f}] "
    )
    return f"<td>{measure.value:.{digits}f}<small>{interval}n={measure.n}</small></td>"


def _example(example: Example) -> str:
    rows = [
        ("customer", example.customer),
        ("category", _name(example.gold_before)),
        ("its definition", example.definition_before or "none of these"),
        ("after the edit", example.definition_after or "the category is gone"),
        ("answer before", f"{_name(example.answer_before)}: {example.reasoning_before}"),
        ("answer after", f"{_name(example.answer_after)}: {example.reasoning_after}"),
        ("asked for", _name(example.gold_after)),
    ]
    told = "followed the edit" if example.right else "did not follow the edit"
    terms = "".join(f"<dt>{term}</dt><dd>{escape(text)}</dd>" for term, text in rows)
    return (
        f"<article><b>{escape(example.family)}</b> {escape(example.detail)}: {told}<dl>{terms}</dl></article>"
    )


def _provenance(report: Report) -> str:
    said = {"schema": report.schema_sha256, "suite": report.suite_sha256, "seed": str(report.seed)}
    said |= {"policy": report.gate.policy_sha256} if report.gate else {}
    terms = "".join(
        f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in (said | report.versions).items()
    )
    return f"<h2>Provenance</h2><dl>{terms}</dl>"


def _name(answer: str | None) -> str:
    return "none of these" if answer is None else answer
