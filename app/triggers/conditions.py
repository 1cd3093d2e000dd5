"""Whether a trigger is met by what is known, and what keeps it from starting. Nothing here knows where that is from:
what runs, and what is only replayed, is decided by the same lines.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from app.triggers import cron
from app.triggers.measures import MeanDifference, MeasuredMean, Share, fall, rise, stability_index
from app.triggers.periods import HOUR, ComparedTotals
from app.triggers.rules import (
    ByHandRule,
    Comparing,
    CorrectionsRule,
    DriftRule,
    FailedEditRule,
    LabelMassRule,
    NoneRateRule,
    Rule,
    ScheduleRule,
)
from app.usage.service import ABSTAINED, FAILED, NONE_OF_THESE


class Limits(NamedTuple):
    """How often it may start: not again within `cool_down_h`, and within any `window_h` so many runs, which have used
    so many seconds of workers."""

    cool_down_h: int
    window_h: int
    runs: int
    gpu_s: float | None


class FailedEdit(NamedTuple):
    version: int
    failed_at: datetime


class TriggerEvidence(NamedTuple):
    """What is known at a moment, as far as the rule asks for it. compared: a sentence where there is too little.

    counts_from: when a schedule begins to count: as it was made, resumed, or started last. corrections: since the
    newest run on the dataset; elsewhere: in other datasets of the schema, from which the run would not learn.
    failed_edit: of the current version, and not answered by a run yet.
    """

    at: datetime
    counts_from: datetime
    compared: ComparedTotals | str = "nothing was counted"
    corrections: int = 0
    elsewhere: int = 0
    failed_edit: FailedEdit | None = None


class Finding(NamedTuple):
    """reason: with the figures that decided, for whoever reads the trigger or its run. threshold: what they were
    compared with; window_h: over which time."""

    met: bool
    reason: str
    figures: dict[str, Any]
    threshold: float | None = None
    window_h: int | None = None


class Started(NamedTuple):
    """A run of the schema. by_trigger: whether by the trigger that is checked. learned: it has succeeded, on the
    dataset, for the version and with the preset that the next one would have."""

    at: datetime
    by_trigger: bool
    ended: bool
    learned: bool
    gpu_s: float
    id: UUID | None = None


class Brake(StrEnum):
    """What keeps a trigger that is met from starting."""

    run_open = "run_open"
    cool_down = "cool_down"
    budget = "budget"
    nothing_new = "nothing_new"


class Held(NamedTuple):
    brake: Brake
    reason: str


def evaluate(rule: Rule, known: TriggerEvidence) -> Finding:
    match rule:
        case ByHandRule():
            return Finding(False, "it starts by hand alone", {})
        case ScheduleRule():
            return _schedule(rule, known)
        case CorrectionsRule():
            return _corrections(rule, known)
        case FailedEditRule():
            return _failed_edit(known)
        case _:
            return _compared(rule, known)


def _schedule(rule: ScheduleRule, known: TriggerEvidence) -> Finding:
    if rule.cron is not None:
        due = cron.next_after(rule.cron, known.counts_from)
    else:
        due = known.counts_from + timedelta(days=rule.every_days or 0)
    figures = {"due_at": due.isoformat()}
    if due > known.at:
        return Finding(False, f"its next time is {_shown(due)}", figures)
    return Finding(True, f"its time was {_shown(due)}", figures)


def _corrections(rule: CorrectionsRule, known: TriggerEvidence) -> Finding:
    reason = f"{known.corrections} of {rule.corrections} corrections since the newest run on the dataset"
    if known.elsewhere:
        reason += f"; {known.elsewhere} in other datasets of the schema, from which this run would not learn"
    figures = {"corrections": known.corrections, "in_other_datasets": known.elsewhere}
    return Finding(known.corrections >= rule.corrections, reason, figures, rule.corrections)


def _failed_edit(known: TriggerEvidence) -> Finding:
    edit = known.failed_edit
    if edit is None:
        return Finding(False, "no edit that is current has failed its gate since the newest run", {})
    figures = {"schema_version": edit.version, "failed_at": edit.failed_at.isoformat()}
    return Finding(True, f"version {edit.version} failed its gate on the live model", figures)


def _compared(rule: Comparing, known: TriggerEvidence) -> Finding:
    if isinstance(known.compared, str):
        return Finding(False, known.compared, {}, None, rule.window_h)
    measure: dict[type[Comparing], Callable[[Any, ComparedTotals], Finding]] = {
        DriftRule: _drift,
        NoneRateRule: _none_rate,
        LabelMassRule: _label_mass,
    }
    return measure[type(rule)](rule, known.compared)


def _drift(rule: DriftRule, compared: ComparedTotals) -> Finding:
    shift = stability_index(compared.reference.outcomes, compared.recent.outcomes)
    needed = max(rule.threshold, shift.by_chance)
    figures = {
        "stability_index": round(shift.value, 4),
        "by_chance": round(shift.by_chance, 4),
        "reference_answers": compared.reference.answers,
        "answers": compared.recent.answers,
        "moved": _moved(compared),
    }
    told = (
        f"the population stability index of {_counts(compared)} is {shift.value:.3f}; {rule.threshold:g} starts a "
        f"run, if it is above the {shift.by_chance:.3f} that chance makes of so few"
    )
    return Finding(shift.value >= needed, told, figures, rule.threshold, rule.window_h)


def _moved(compared: ComparedTotals, most: int = 5) -> dict[str, list[float]]:
    """Of the outcomes whose shares moved most: the share before, and now."""
    shares = {
        outcome: [
            totals.outcomes.get(outcome, 0) / totals.answers
            for totals in (compared.reference, compared.recent)
        ]
        for outcome in compared.reference.outcomes.keys() | compared.recent.outcomes.keys()
    }
    most_first = sorted(shares.items(), key=lambda pair: (-abs(pair[1][1] - pair[1][0]), pair[0]))
    return {outcome: [round(share, 4) for share in pair] for outcome, pair in most_first[:most]}


def _none_rate(rule: NoneRateRule, compared: ComparedTotals) -> Finding:
    before, now = (_of_none(totals.outcomes) for totals in compared)
    if not before.n or not now.n:
        return Finding(
            False, "no answer of one of the two times named anything", {}, rule.rise, rule.window_h
        )
    found = rise(before, now)
    told = (
        f"the share of none of these, in {_counts(compared)}, went from {before.value:.3f} to {now.value:.3f} "
        f"({found.value:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}); {rule.rise:+g} starts a run"
    )
    return _differing(before, now, found, told, rule.rise, rule.window_h)


def _of_none(outcomes: Any) -> Share:
    """Of the answers that named something or none of these."""
    decided = sum(count for outcome, count in outcomes.items() if outcome not in (ABSTAINED, FAILED))
    return Share(outcomes.get(NONE_OF_THESE, 0), decided)


def _label_mass(rule: LabelMassRule, compared: ComparedTotals) -> Finding:
    before, now = compared.reference.masses, compared.recent.masses
    if min(before.n, now.n) < rule.min_answers:
        told = f"the label mass of {now.n} answers is known, and of {before.n} before; {rule.min_answers} are compared"
        return Finding(False, f"{told} at least", {}, rule.fall, rule.window_h)
    found = fall(before, now)
    told = (
        f"the mean label mass, in {_counts(compared)}, went from {before.value:.3f} to {now.value:.3f} "
        f"(fell by {found.value:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}); {rule.fall:g} starts a run"
    )
    return _differing(before, now, found, told, rule.fall, rule.window_h)


def _differing(
    before: Share | MeasuredMean,
    now: Share | MeasuredMean,
    found: MeanDifference,
    told: str,
    threshold: float,
    window_h: int,
) -> Finding:
    """It is met where the difference is as large as the threshold, and chance alone does not make it."""
    figures = {
        "before": round(before.value, 4),
        "now": round(now.value, 4),
        "difference": round(found.value, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
        "reference_answers": before.n,
        "answers": now.n,
    }
    return Finding(found.value >= threshold and found.low > 0, told, figures, threshold, window_h)


def _counts(compared: ComparedTotals) -> str:
    return f"the last {compared.recent.answers} answers against the first {compared.reference.answers}"


# --------------------------------------------------------------------------------------------------- what holds it back


def held(
    limits: Limits, at: datetime, runs: Sequence[Started], newest_label_at: datetime | None
) -> Held | None:
    """newest_label_at: in the dataset."""
    open_one = next((run for run in runs if not run.ended), None)
    if open_one is not None:
        return Held(
            Brake.run_open,
            f"a run of this schema{'' if open_one.id is None else f', {open_one.id},'} has not ended",
        )
    own = [run for run in runs if run.by_trigger]
    last = max((run.at for run in own), default=None)
    if last is not None and at < (until := last + limits.cool_down_h * HOUR):
        return Held(Brake.cool_down, f"it started at {_shown(last)} and cools down until {_shown(until)}")
    return _budget(limits, at, own) or _nothing_new(runs, newest_label_at)


def _budget(limits: Limits, at: datetime, own: Sequence[Started]) -> Held | None:
    within = [run for run in own if run.at > at - limits.window_h * HOUR]
    if len(within) >= limits.runs:
        free_at = sorted(run.at for run in within)[-limits.runs] + limits.window_h * HOUR
        told = f"{len(within)} runs within {limits.window_h} h, and {limits.runs} are its budget"
        return Held(Brake.budget, f"{told}; there is room again at {_shown(free_at)}")
    used_s = sum(run.gpu_s for run in within)
    if limits.gpu_s is not None and used_s >= limits.gpu_s:
        told = f"its runs of {limits.window_h} h have used {used_s:.0f} s of workers"
        return Held(Brake.budget, f"{told}, and {limits.gpu_s:.0f} s are its budget")
    return None


def _nothing_new(runs: Sequence[Started], newest_label_at: datetime | None) -> Held | None:
    learned_at = max((run.at for run in runs if run.learned), default=None)
    if learned_at is None or (newest_label_at is not None and newest_label_at > learned_at):
        return None
    return Held(
        Brake.nothing_new,
        f"no label of the dataset is newer than its run of {_shown(learned_at)}, so another would learn the same; "
        "label some of the conversations that have come since",
    )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"
