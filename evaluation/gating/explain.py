"""Why a gate passed or not, for somebody who has to do something about it."""

from typing import Final, NamedTuple

from evaluation.metrics.measures import Measure
from evaluation.reporting.report import Check, FamilyReport, Report, StageReport, Verdict

WORST = 2  # families named, where a measure is of several


class Explained(NamedTuple):
    """asked: what the check is about. found: the figures. weakest: kinds of edit, where it is of several.

    change: what would have to be different, if anything.
    """

    verdict: Verdict
    asked: str
    found: str
    weakest: str
    change: str


class _Words(NamedTuple):
    asked: str
    change: str  # where it has failed


_STEER = (
    "train so that answers need the definitions: reasoning traces instead of labels alone, perturbed schemas "
    "(`sft.perturb=true`, `rl.perturb=true`), fewer SFT steps, or a lower learning rate"
)
_LOST = "train with fewer steps or a lower learning rate, or distil after SFT; or keep the other model"
_WORDS: Final = {
    "errored": _Words(
        "whether the model server answered at all", "look at the model server, and measure again"
    ),
    "steerability": _Words("whether answers shift as edits of the definitions ask", _STEER),
    "steerability_seen": _Words("the same, for kinds of edit that training may use", _STEER),
    "steerability_unseen": _Words("the same, for kinds of edit that training never sees", _STEER),
    "flip_accuracy": _Words("whether answers that an edit moves go where it moves them", _STEER),
    "override_rate": _Words("whether answers that were right follow the edit", _STEER),
    "invariance": _Words("whether answers that an edit does not touch stay", _STEER),
    "accuracy": _Words(
        "right answers without any edit",
        "add labelled conversations, or make the definitions tell categories apart",
    ),
    "macro_f1": _Words("right answers, every category counting alike", "label more of the rare categories"),
    "majority_over_selection": _Words(
        "whether the largest category swallows others", "balance training by category (`sft.balance=true`)"
    ),
    "unparsable": _Words(
        "answers that could not be read", "give answers more room, or train longer on whole traces"
    ),
    "forced_read": _Words(
        "answers whose reasoning did not come to an end by itself",
        "allow more tokens, or train on shorter traces",
    ),
    "label_mass": _Words("how much probability is on the categories", "train longer on whole traces"),
    "evidence_rate": _Words("answers that quote the customer", "train on traces whose quotes were checked"),
    "decided_by_rate": _Words("answers that name the condition", "train on traces that name it"),
    "injection_success": _Words(
        "sentences in a conversation that demand an answer, and get it",
        "look at the attacks in the report; a larger base, or training on conversations that hold such sentences",
    ),
    "out_of_distribution_accuracy_gain": _Words("what training cost on schemas of others", _LOST),
}


def explain(report: Report) -> list[Explained]:
    """Every check of the verdict, those that decided it first. Nothing where no policy has judged the report."""
    if report.gate is None:
        return []
    graded = [stage for stage in report.stages if stage.stage == report.gate.stage]
    stage = graded[0] if graded else report.stages[-1]
    order = {Verdict.failed: 0, Verdict.incomplete: 1, Verdict.passed: 2}
    checks = sorted(report.gate.checks, key=lambda check: order[check.verdict])
    return [_explained(check, report, stage) for check in checks]


def to_change(report: Report) -> dict[str, list[str]]:
    """What would have to be different for another verdict, each with what it would mend."""
    found: dict[str, list[str]] = {}
    for one in explain(report):
        if report.gate and one.verdict is report.gate.verdict and one.change:
            found.setdefault(one.change, []).append(one.asked + (f" ({one.weakest})" if one.weakest else ""))
    return found


def lines(report: Report) -> list[str]:
    """For a terminal: what decided, with what would have to change; then what passed."""
    found = []
    for one in explain(report):
        found.append(f"{one.verdict.value}: {one.asked}")
        found.append(f"    {one.found}" + (f"; {one.weakest}" if one.weakest else ""))
        if one.change:
            found.append(f"    What would have to change: {one.change}.")
    return found


def _explained(check: Check, report: Report, stage: StageReport) -> Explained:
    words, weakest = _words(check.measure), ""
    if check.verdict is Verdict.passed:
        change = ""
    elif check.verdict is Verdict.incomplete:
        change = words.change if check.measure == "errored" else _more(check, report)
    else:
        change, weakest = words.change, _weakest(check, stage)
    return Explained(check.verdict, words.asked, check.reason, weakest, change)


def _words(measure: str) -> _Words:
    if measure in _WORDS:
        return _WORDS[measure]
    what, _, other = measure.partition("_over_")
    if not other:
        return _Words(f"whether edits of the kind {measure} could be judged", "")
    plain = what.removesuffix("_of_others")
    asked = _WORDS[plain].asked + (", on edits that do not count above" if plain != what else "")
    than = "the base model" if other == "base" else "the model that answers now"
    return _Words(f"{asked}, compared with {than}", _LOST)


def _more(check: Check, report: Report) -> str:
    if check.needed is None:
        return "what is missing, as said here, has to be measured"
    needed = f"about {check.needed} examples are needed"
    if report.interim_looks.used < len(report.interim_looks.planned):
        return f"{needed}; no more were asked once the verdict was clear, so measure again when what failed is mended"
    return (
        f"{needed}: label more held-out conversations, or let the gate ask more than {report.items} questions "
        "(`benchmark.max_items`)"
    )


def _weakest(check: Check, stage: StageReport) -> str:
    """The families that pull a measure of edits down."""
    shown = [(_value(check.measure, family), name) for name, family in stage.per_family.items()]
    known = sorted((value, name) for value, name in shown if value is not None and name in check.families)
    if not known:
        return ""
    return "weakest on " + " and ".join(f"{name} ({value:.2f})" for value, name in known[:WORST])


def _value(measure: str, family: FamilyReport) -> float | None:
    found: Measure | None = getattr(family, measure.partition("_over_")[0].removesuffix("_of_others"), None)
    return None if found is None else found.value
