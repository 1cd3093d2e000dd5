"""What meets a trigger and what holds it back, as functions of what is known: nothing is stored, and no clock runs."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.triggers import cron, rules
from app.triggers.conditions import (
    Brake,
    FailedEdit,
    Finding,
    Limits,
    Started,
    TriggerEvidence,
    evaluate,
    held,
)
from app.triggers.measures import MeasuredMean, Share, fall, rise, stability_index
from app.triggers.periods import ComparedTotals, HourTotal, Period, Totals, periods

AT = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LIMITS = Limits(cool_down_h=24, window_h=168, runs=2, gpu_s=None)


def asked(found: Finding) -> bool:
    return found.met


def rule(**said: Any) -> rules.Rule:
    return rules.read(said)


def totals(mean: float = 0.95, **outcomes: int) -> Totals:
    counted = {name.replace("none", "(none)"): count for name, count in outcomes.items()}
    n = sum(counted.values())
    return Totals(counted, MeasuredMean(n, n * mean, n * (mean**2 + 0.001)))


def compared(before: Totals, now: Totals) -> TriggerEvidence:
    return TriggerEvidence(AT, AT, compared=ComparedTotals(before, now))


# ------------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("text", "next_at"),
    [
        ("0 3 * * 1", datetime(2026, 3, 9, 3, 0, tzinfo=UTC)),
        ("45 12 * * *", datetime(2026, 3, 2, 12, 45, tzinfo=UTC)),
        ("*/15 * * * *", datetime(2026, 3, 2, 12, 45, tzinfo=UTC)),
        ("0 0 1 * *", datetime(2026, 4, 1, tzinfo=UTC)),
        ("0 0 29 feb *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("  0   6 * *  mon-fri ", datetime(2026, 3, 3, 6, 0, tzinfo=UTC)),
    ],
)
def test_a_schedule_knows_its_next_time(text: str, next_at: datetime) -> None:
    assert cron.next_after(cron.normal(text), AT) == next_at


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 3 * *", "4 fields"),
        ("0 3 31 2 *", "never occurs"),
        ("61 3 * * *", "no schedule"),
        ("0 3 1 * 1", "one of them"),
        ("at noon", "2 fields"),
    ],
)
def test_a_schedule_that_never_comes_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cron.normal(text)


@pytest.mark.parametrize("said", [{}, {"cron": "0 3 * * 1", "every_days": 2}])
def test_a_schedule_has_one_form_of_two(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either cron or every_days"):
        rule(kind="schedule", **said)


def test_a_time_that_passed_while_nobody_looked_is_made_up_for_once() -> None:
    weekly = rule(kind="schedule", cron="0 3 * * 1")
    late = evaluate(weekly, TriggerEvidence(AT, counts_from=AT - 30 * DAY))
    assert late.met and late.figures["due_at"].startswith("2026-02-02T03:00")
    assert not evaluate(weekly, TriggerEvidence(AT, counts_from=AT)).met
    daily = rule(kind="schedule", every_days=3)
    assert [evaluate(daily, TriggerEvidence(AT, AT - days * DAY)).met for days in (2, 3, 9)] == [
        False,
        True,
        True,
    ]


def test_one_by_hand_is_never_met() -> None:
    assert not evaluate(rule(kind="by_hand"), TriggerEvidence(AT, AT)).met


# ----------------------------------------------------------------------------------------- corrections and failed edits


def test_corrections_are_counted_where_the_run_would_learn_from_them() -> None:
    asked = rule(kind="corrections", corrections=20)
    found = evaluate(asked, TriggerEvidence(AT, AT, corrections=19, elsewhere=300))
    assert not found.met and "19 of 20" in found.reason
    assert "300 in other datasets" in found.reason and "would not learn" in found.reason
    assert evaluate(asked, TriggerEvidence(AT, AT, corrections=20)).met


def test_an_edit_that_failed_its_gate_is_named() -> None:
    asked = rule(kind="failed_edit")
    assert not evaluate(asked, TriggerEvidence(AT, AT)).met
    found = evaluate(asked, TriggerEvidence(AT, AT, failed_edit=FailedEdit(4, AT - HOUR)))
    assert found.met and "version 4" in found.reason and found.figures["schema_version"] == 4


# ---------------------------------------------------------------------------------------------------------------- drift


def test_drift_is_the_stability_index_with_what_moved_most() -> None:
    drift = rule(kind="drift", threshold=0.2)
    still = evaluate(drift, compared(totals(a=500, b=500), totals(a=490, b=510)))
    assert not still.met and still.figures["stability_index"] < 0.01
    moved = evaluate(drift, compared(totals(a=500, b=500), totals(a=200, b=800)))
    assert moved.met and (moved.threshold, moved.window_h) == (0.2, 168)
    # By hand: 0.3 log(0.8 / 0.5) + 0.3 log(0.5 / 0.2), and the smoothing of half an answer changes the third place.
    assert moved.figures["stability_index"] == pytest.approx(0.4159, abs=0.002)
    assert moved.figures["moved"] == {"a": [0.5, 0.2], "b": [0.5, 0.8]}
    assert "1000 answers" in moved.reason and "0.2 starts a run" in moved.reason


def test_few_answers_that_differ_by_chance_are_no_drift() -> None:
    """Twenty categories and a low threshold: the index of two samples of the same is above it as a rule."""
    drift, rng, named = rule(kind="drift", threshold=0.05), random.Random(0), [f"c{n}" for n in range(20)]

    def sample(n: int) -> Totals:
        drawn = rng.choices(named, k=n)
        return totals(**{name: drawn.count(name) for name in named})

    findings = [evaluate(drift, compared(sample(200), sample(200))) for _ in range(300)]
    above = sum(found.figures["stability_index"] > 0.05 for found in findings)
    assert above > 280
    assert (
        sum(found.met for found in findings) <= 12
    )  # 3 are expected, at 1 %; more than 12 happen once in 10,000


def test_what_chance_makes_of_the_index_is_reckoned_rightly() -> None:
    rng, weights = random.Random(1), [0.4, 0.3, 0.2, 0.1]

    def sample(n: int) -> dict[str, int]:
        drawn = rng.choices("abcd", weights, k=n)
        return {name: drawn.count(name) for name in "abcd"}

    shifts = [stability_index(sample(400), sample(250)) for _ in range(2000)]
    false = sum(shift.value > shift.by_chance for shift in shifts)
    assert 8 <= false <= 36  # 20 are expected


def test_answers_that_are_all_the_same_do_not_drift() -> None:
    assert stability_index({"a": 100}, {"a": 300}) == (0.0, 0.0)


def test_more_none_of_these_is_a_rise_that_chance_does_not_explain() -> None:
    rate = rule(kind="none_rate", rise=0.1)
    assert asked(evaluate(rate, compared(totals(a=450, none=50), totals(a=380, none=120))))
    assert not asked(evaluate(rate, compared(totals(a=380, none=120), totals(a=450, none=50))))
    few = evaluate(rate, compared(totals(a=27, none=3), totals(a=25, none=5)))
    assert not few.met
    moved = evaluate(rate, compared(totals(a=450, none=50), totals(a=380, none=120)))
    assert "from 0.100 to 0.240" in moved.reason and moved.figures["answers"] == 500


def test_abstained_and_unreadable_answers_are_no_none_of_these() -> None:
    before = totals(a=450, none=50)
    now = Totals({"a": 360, "(none)": 40, "(abstained)": 300, "(failed)": 300}, before.masses)
    assert not evaluate(rule(kind="none_rate", rise=0.05), compared(before, now)).met
    nothing = Totals({"(failed)": 300}, before.masses)
    assert "named anything" in evaluate(rule(kind="none_rate"), compared(before, nothing)).reason


def test_label_mass_falls() -> None:
    mass = rule(kind="label_mass", fall=0.05)
    found = evaluate(mass, compared(totals(0.97, a=400), totals(0.85, a=400)))
    assert found.met and "from 0.970 to 0.850" in found.reason
    assert not evaluate(mass, compared(totals(0.97, a=400), totals(0.95, a=400))).met
    unknown = Totals({"a": 400}, MeasuredMean(3, 2.9, 2.8))
    assert "is known" in evaluate(mass, compared(totals(0.97, a=400), unknown)).reason


def test_intervals_of_differences_are_those_of_the_books() -> None:
    """Newcombe 1998, method 10, example (a): 56/70 against 48/80 is 0.2, 0.0524 to 0.3339."""
    found = rise(Share(48, 80), Share(56, 70))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=0.0001)
    mean = fall(MeasuredMean(100, 90.0, 82.0), MeasuredMean(100, 80.0, 65.0))
    assert mean.value == pytest.approx(0.1) and mean.low < 0.1 < mean.high


def test_too_little_is_said_and_is_not_zero() -> None:
    found = evaluate(rule(kind="drift"), TriggerEvidence(AT, AT, compared="88 answers in the last 168 h"))
    assert (found.met, found.reason, found.figures) == (False, "88 answers in the last 168 h", {})


# --------------------------------------------------------------------------------------- which hours are compared


def every_hour(days: int, answers: int) -> list[HourTotal]:
    first = AT.replace(minute=0) - days * DAY
    return [HourTotal(first + n * HOUR, answers) for n in range(days * 24 + 1)]


def test_the_last_hours_are_compared_with_the_first_ones() -> None:
    found = periods(every_hour(20, 10), AT, window_h=48, min_answers=200)
    assert not isinstance(found, str)
    first, now = AT.replace(minute=0) - 20 * DAY, AT.replace(minute=0) + HOUR
    assert found.reference == Period(first, first + 2 * DAY) and found.recent == Period(now - 2 * DAY, now)


def test_the_first_hours_are_as_many_as_there_must_be_answers() -> None:
    found = periods(every_hour(20, 10), AT, window_h=24, min_answers=240 * 2)
    assert found == "240 answers in the last 24 h; 480 are compared at least"
    slow = [*every_hour(20, 1)[:-25], *every_hour(1, 10)]
    found = periods(slow, AT, window_h=24, min_answers=200)
    assert not isinstance(found, str) and found.reference.until - found.reference.first == 200 * HOUR


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ([], "nothing has been answered"),
        (every_hour(3, 10), "too new"),
        (every_hour(20, 1)[:100], "100 answers under this version"),
        (every_hour(20, 10)[:400], "0 answers in the last 48 h"),
    ],
)
def test_what_cannot_be_compared_says_why(hours: list[HourTotal], said: str) -> None:
    found = periods(hours, AT, window_h=48, min_answers=200)
    assert isinstance(found, str) and said in found


# -------------------------------------------------------------------------------------------------- what holds it back


def ran(ago: timedelta, *, own: bool = True, **changes: Any) -> Started:
    return Started(
        **{"at": AT - ago, "by_trigger": own, "ended": True, "learned": True, "gpu_s": 100.0} | changes
    )


def brake(*runs: Started, limits: Limits = LIMITS, labelled: datetime | None = AT) -> Brake | None:
    found = held(limits, AT, runs, labelled)
    return None if found is None else found.brake


def test_nothing_holds_back_a_trigger_that_has_started_nothing() -> None:
    assert brake() is None and brake(labelled=None) is None


def test_a_run_that_has_not_ended_is_waited_for_whoever_began_it() -> None:
    assert brake(ran(90 * DAY, own=False, ended=False)) is Brake.run_open


def test_it_cools_down_after_its_own_starts_alone() -> None:
    assert brake(ran(23 * HOUR)) is Brake.cool_down
    assert brake(ran(24 * HOUR)) is None
    assert brake(ran(HOUR, own=False)) is None
    found = held(LIMITS, AT, [ran(23 * HOUR)], AT)
    assert found is not None and "2026-03-02 13:30Z" in found.reason


def test_its_budget_is_of_runs_and_of_seconds_within_a_window() -> None:
    assert brake(ran(3 * DAY), ran(2 * DAY)) is Brake.budget
    assert brake(ran(8 * DAY), ran(2 * DAY)) is None
    assert brake(ran(3 * DAY, own=False), ran(2 * DAY, own=False)) is None
    tight = LIMITS._replace(gpu_s=150.0)
    assert brake(ran(2 * DAY), limits=tight) is None
    assert brake(ran(2 * DAY, gpu_s=151.0), limits=tight) is Brake.budget
    found = held(LIMITS, AT, [ran(3 * DAY), ran(2 * DAY)], AT)
    assert found is not None and "room again at 2026-03-06 12:30Z" in found.reason


def test_a_run_that_would_learn_the_same_again_is_not_begun() -> None:
    before, after = AT - 6 * DAY, AT - DAY
    assert brake(ran(5 * DAY), labelled=before) is Brake.nothing_new
    assert brake(ran(5 * DAY), labelled=after) is None
    assert brake(ran(5 * DAY, learned=False), labelled=before) is None
