"""A trigger over a past that is known, checked once an hour: when it would have started, and why not."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

from app.errors import InputError
from app.triggers.conditions import Brake, FailedEdit, Limits, Started, TriggerEvidence, evaluate, held
from app.triggers.measures import MeasuredMean
from app.triggers.periods import HOUR, ComparedTotals, HourTotal, Period, Totals, hour_of, periods
from app.triggers.rules import CorrectionsRule, DriftRule, FailedEditRule, LabelMassRule, NoneRateRule, Rule

MOST = timedelta(days=366)
_RUN_GPU_S = 3600.0  # where no run is known
_RUN = HOUR  # how long a run that is simulated has not ended


class CountedAnswers(NamedTuple):
    """Answers of an hour that were the same. by: whatever answered, told apart from what did before or after it."""

    at: datetime
    by: str
    outcome: str
    answers: int = 1
    masses: int = 0
    mass_sum: float = 0.0
    mass_squares: float = 0.0


class LabelGiven(NamedTuple):
    """In the dataset. by_person: it corrects, or was reviewed. A conversation counts once, however often labelled."""

    at: datetime
    conversation: str
    by_person: bool


class RunBegun(NamedTuple):
    """learned: it has not failed."""

    at: datetime
    gpu_s: float | None = None
    learned: bool = True


class PublishedEdit(NamedTuple):
    """failed: whether the edit has failed its gate at this moment; else it was published then."""

    at: datetime
    version: int
    failed: bool = False


class TriggerHistory(NamedTuple):
    """All in the order of time."""

    answers: Sequence[CountedAnswers] = ()
    labels: Sequence[LabelGiven] = ()
    runs: Sequence[RunBegun] = ()
    edits: Sequence[PublishedEdit] = ()

    def span(self) -> tuple[datetime, datetime] | None:
        ends = [
            moment
            for events in (self.answers, self.labels, self.runs, self.edits)
            if events
            for moment in (events[0].at, events[-1].at)
        ]
        return (min(ends), max(ends)) if ends else None


class SimulatedStart(NamedTuple):
    at: datetime
    reason: str
    figures: dict[str, Any]


class SimulatedHold(NamedTuple):
    """checks: how often this held it back."""

    brake: Brake
    checks: int
    first_at: datetime
    reason: str


class Simulated(NamedTuple):
    first: datetime
    last: datetime
    checks: int
    met: int
    starts: list[SimulatedStart]
    held_back: list[SimulatedHold]
    last_reason: str | None
    run_gpu_s: float
    events: Mapping[str, int]


def simulate(
    rule: Rule,
    limits: Limits,
    history: TriggerHistory,
    first: datetime | None = None,
    last: datetime | None = None,
) -> Simulated:
    """first, last: by default the ends of the history. Raises: InputError where there is no time between them."""
    span = history.span()
    first = first or (span and span[0])
    last = last or (span and span[1])
    if first is None or last is None:
        raise InputError("there is nothing to replay: the history is empty")
    if not timedelta(0) <= last - first <= MOST:
        raise InputError(f"replay a time of at most {MOST.days} days that ends after it begins")
    return _Replay(rule, limits, history, first, last).run()


class _Replay:
    def __init__(self, rule: Rule, limits: Limits, history: TriggerHistory, first: datetime, last: datetime):
        self._rule, self._limits, self._history = rule, limits, history
        self._first, self._last = first, last
        self._log = _AnswerLog(history.answers)
        known = [run.gpu_s for run in history.runs if run.gpu_s is not None]
        self._gpu_s = float(median(known)) if known else _RUN_GPU_S
        self._label_times = [label.at for label in history.labels]
        self._counts_from = first
        self._started: list[datetime] = []

    def run(self) -> Simulated:
        starts: list[SimulatedStart] = []
        holds: dict[Brake, SimulatedHold] = {}
        checks = met = 0
        finding = None
        at = self._first
        while at <= self._last:
            checks += 1
            finding = evaluate(self._rule, self._evidence(at))
            if finding.met:
                met += 1
                self._counts_from = at
                kept = held(self._limits, at, self._runs(at), self._newest_label_at(at))
                if kept is None:
                    self._started.append(at)
                    starts.append(SimulatedStart(at, finding.reason, finding.figures))
                else:
                    one = holds.setdefault(kept.brake, SimulatedHold(kept.brake, 0, at, kept.reason))
                    holds[kept.brake] = one._replace(checks=one.checks + 1)
            at += HOUR
        events = {name: len(getattr(self._history, name)) for name in ("labels", "runs", "edits")}
        events["answers"] = sum(one.answers for one in self._history.answers)
        reason = finding.reason if finding is not None and not finding.met else None
        return Simulated(
            self._first,
            self._last,
            checks,
            met,
            starts,
            list(holds.values()),
            reason,
            self._gpu_s,
            events,
        )

    def _evidence(self, at: datetime) -> TriggerEvidence:
        known = TriggerEvidence(at, self._counts_from)
        match self._rule:
            case CorrectionsRule():
                return known._replace(corrections=self._corrections(at))
            case FailedEditRule():
                return known._replace(failed_edit=self._failed_edit(at))
            case DriftRule() | NoneRateRule() | LabelMassRule():
                compared = self._log.compared(at, self._rule.window_h, self._rule.min_answers)
                return known._replace(compared=compared)
            case _:
                return known

    def _runs(self, at: datetime) -> list[Started]:
        """Those of the past by somebody, and those that were simulated. Each is taken to have ended within an hour."""
        past = [
            Started(
                run.at, False, ended=run.at + _RUN <= at, learned=run.learned, gpu_s=run.gpu_s or self._gpu_s
            )
            for run in self._history.runs
            if run.at <= at
        ]
        own = [
            Started(moment, True, ended=moment + _RUN <= at, learned=True, gpu_s=self._gpu_s)
            for moment in self._started
        ]
        return [*past, *own]

    def _newest_label_at(self, at: datetime) -> datetime | None:
        position = bisect_right(self._label_times, at)
        return self._label_times[position - 1] if position else None

    def _corrections(self, at: datetime) -> int:
        runs = [run.at for run in self._runs(at) if run.learned]
        since = bisect_right(self._label_times, max(runs)) if runs else 0
        until = bisect_right(self._label_times, at)
        given = self._history.labels[since:until]
        return len({label.conversation for label in given if label.by_person})

    def _failed_edit(self, at: datetime) -> FailedEdit | None:
        past = [edit for edit in self._history.edits if edit.at <= at]
        if not past or not past[-1].failed:
            return None
        edit = past[-1]
        answered = any(run.at > edit.at for run in self._runs(at))
        return None if answered else FailedEdit(edit.version, edit.at)


class _AnswerLog:
    """Totals of any hours of what has answered, from sums that run along them."""

    def __init__(self, answers: Sequence[CountedAnswers]):
        by: dict[str, list[CountedAnswers]] = defaultdict(list)
        for one in answers:
            by[one.by].append(one)
        self._sums = {name: _RunningSums(own) for name, own in by.items()}
        self._changes = [(answers[0].at, answers[0].by)] if answers else []
        for one in answers:
            if one.by != self._changes[-1][1]:
                self._changes.append((one.at, one.by))

    def compared(self, at: datetime, window_h: int, min_answers: int) -> ComparedTotals | str:
        position = bisect_right(self._changes, at, key=lambda change: change[0])
        if not position:
            return "nothing has been answered by a deployed model yet"
        sums = self._sums[self._changes[position - 1][1]]
        found = periods(sums.hours_until(at), at, window_h, min_answers)
        if isinstance(found, str):
            return found
        return ComparedTotals(sums.totals(found.reference), sums.totals(found.recent))


class _RunningSums:
    def __init__(self, answers: Sequence[CountedAnswers]):
        self._hours: list[datetime] = []
        self._totals: list[HourTotal] = []
        self._outcomes: list[Counter[str]] = [Counter()]  # up to and without the hour at the same place
        self._masses = [MeasuredMean(0, 0.0, 0.0)]
        hours: dict[datetime, list[CountedAnswers]] = defaultdict(list)
        for one in answers:
            hours[hour_of(one.at)].append(one)
        for hour in sorted(hours):
            counted = Counter[str]()
            n, total, squares = self._masses[-1]
            for one in hours[hour]:
                counted[one.outcome] += one.answers
                n, total, squares = n + one.masses, total + one.mass_sum, squares + one.mass_squares
            self._hours.append(hour)
            self._totals.append(HourTotal(hour, counted.total()))
            self._outcomes.append(self._outcomes[-1] + counted)
            self._masses.append(MeasuredMean(n, total, squares))

    def hours_until(self, at: datetime) -> Sequence[HourTotal]:
        return self._totals[: bisect_right(self._hours, at)]

    def totals(self, period: Period) -> Totals:
        first, until = bisect_left(self._hours, period.first), bisect_left(self._hours, period.until)
        outcomes = self._outcomes[until] - self._outcomes[first]
        before, after = self._masses[first], self._masses[until]
        masses = MeasuredMean(after.n - before.n, after.total - before.total, after.squares - before.squares)
        return Totals(dict(outcomes), masses)
