"""A past that is replayed: what would have started, and why not."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.errors import InputError
from app.triggers import history, rules
from app.triggers.conditions import Brake, Limits
from app.triggers.simulation import (
    CountedAnswers,
    LabelGiven,
    PublishedEdit,
    RunBegun,
    Simulated,
    TriggerHistory,
    simulate,
)

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LIMITS = Limits(cool_down_h=24, window_h=168, runs=2, gpu_s=None)
DRIFT = {"kind": "drift", "window_h": 48, "min_answers": 100}


def replay(rule: dict[str, Any], past: TriggerHistory, limits: Limits = LIMITS, days: int = 30) -> Simulated:
    return simulate(rules.read(rule), limits, past, FIRST, FIRST + days * DAY)


def answers(days: range, refunds: int, by: str = "model") -> list[CountedAnswers]:
    """Ten an hour, of which so many are refunds."""
    return [
        CountedAnswers(FIRST + day * DAY + hour * HOUR, by, outcome, count)
        for day in days
        for hour in range(24)
        for outcome, count in (("refund", refunds), ("delivery", 10 - refunds))
        if count
    ]


def corrections(*days: float) -> list[LabelGiven]:
    return [LabelGiven(FIRST + day * DAY, f"c{number}", by_person=True) for number, day in enumerate(days)]


def days_of(found: Simulated) -> list[float]:
    return [round((start.at - FIRST) / DAY, 1) for start in found.starts]


def test_drift_starts_once_it_is_seen_and_again_only_when_there_is_something_new() -> None:
    past = TriggerHistory([*answers(range(10), 3), *answers(range(10, 30), 8)], corrections(1.0, 20.0))
    found = replay(DRIFT, past)
    assert len(found.starts) == 2
    seen, again = days_of(found)
    assert 10.0 < seen < 12.0 and again == 20.0
    brakes = {one.brake: one.checks for one in found.held_back}
    assert brakes[Brake.nothing_new] > 100 and Brake.cool_down in brakes
    assert "stability index" in found.starts[0].reason and found.starts[0].figures["answers"] > 100


def test_without_a_change_nothing_starts_and_it_says_what_it_saw() -> None:
    found = replay(DRIFT, TriggerHistory(answers(range(30), 3), corrections(1.0)))
    assert (found.starts, found.met, found.held_back) == ([], 0, [])
    assert found.last_reason is not None and "is 0.000" in found.last_reason
    assert (found.checks, found.events["answers"]) == (721, 7200)


def test_another_model_is_compared_with_its_own_first_answers() -> None:
    past = TriggerHistory([*answers(range(10), 3), *answers(range(10, 30), 8, by="next")], corrections(1.0))
    assert replay(DRIFT, past).starts == []


def test_corrections_start_runs_within_the_cool_down_and_the_budget() -> None:
    labels = corrections(*[day / 4 for day in range(4 * 20)])
    wide = Limits(cool_down_h=24, window_h=168, runs=100, gpu_s=None)
    rule = {"kind": "corrections", "corrections": 4}
    every = replay(rule, TriggerHistory(labels=labels), wide)
    assert len(every.starts) == 20 and days_of(every)[:2] == [0.8, 1.8]
    weekly = replay(rule, TriggerHistory(labels=labels))
    assert days_of(weekly) == [0.8, 1.8, 7.8, 8.8, 14.8, 15.8, 21.8]
    assert {one.brake for one in weekly.held_back} >= {Brake.budget}
    costly = replay(
        rule, TriggerHistory(labels=labels, runs=[RunBegun(FIRST, gpu_s=9000)]), wide._replace(gpu_s=9000)
    )
    assert costly.run_gpu_s == 9000 and days_of(costly) == [1.0, 8.0, 15.0, 22.0]


def test_the_same_conversation_labelled_twice_is_one_correction() -> None:
    labels = [LabelGiven(FIRST + n * HOUR, "one", by_person=True) for n in range(5)]
    labels.append(LabelGiven(FIRST + 5 * HOUR, "imported", by_person=False))
    assert replay({"kind": "corrections", "corrections": 2}, TriggerHistory(labels=labels)).met == 0


def test_a_schedule_passes_over_a_time_at_which_it_is_held_back() -> None:
    labels = corrections(0.0, 9.0)
    found = replay({"kind": "schedule", "cron": "0 3 * * 1"}, TriggerHistory(labels=labels), days=28)
    assert days_of(found) == [0.1, 14.1]
    assert [(one.brake, one.checks) for one in found.held_back] == [(Brake.nothing_new, 2)]


def test_an_edit_that_failed_starts_one_run_and_one_that_was_taken_back_none() -> None:
    failed = [PublishedEdit(FIRST + DAY, 2), PublishedEdit(FIRST + DAY + HOUR, 2, failed=True)]
    rule = {"kind": "failed_edit"}
    assert days_of(replay(rule, TriggerHistory(edits=failed, labels=corrections(0.5)))) == [1.0]
    taken_back = [*failed, PublishedEdit(FIRST + DAY + HOUR, 1)]
    assert replay(rule, TriggerHistory(edits=taken_back)).starts == []


@pytest.mark.parametrize(("first", "last"), [(FIRST, FIRST - HOUR), (FIRST, FIRST + 400 * DAY)])
def test_a_time_that_cannot_be_replayed_is_refused(first: datetime, last: datetime) -> None:
    with pytest.raises(InputError, match="replay a time"):
        simulate(rules.read(DRIFT), LIMITS, TriggerHistory(answers(range(1), 3)), first, last)
    with pytest.raises(InputError, match="empty"):
        simulate(rules.read(DRIFT), LIMITS, TriggerHistory())


# ------------------------------------------------------------------------------------------------------------- files


def written(tmp_path: Path, *lines: Any) -> Path:
    file = tmp_path / "history.jsonl"
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return file


def test_a_file_is_read_in_any_order_with_exported_answers_among_its_events(tmp_path: Path) -> None:
    exported = {
        "id": "a1", "created_at": "2026-03-03T10:00:00Z", "category": "refund", "label_mass": 0.5,
        "abstained": False, "failure": None, "model_version_id": "m", "schema_version_id": "v",
        "feedback": {"labelled": True, "given_at": "2026-03-04T10:00:00Z", "right": False},
    }  # fmt: skip
    file = written(
        tmp_path,
        {"at": "2026-03-05T00:00:00Z", "event": "run", "gpu_s": 60},
        {"at": "2026-03-02T00:00:00Z", "event": "answer", "category": None},
        "",
        exported,
        {"at": "2026-03-02T00:00:00", "event": "correction", "conversation": "c1"},
        {"at": "2026-03-02T02:00:00+02:00", "event": "label"},
        {"at": "2026-03-02T00:00:00Z", "event": "edit_failed", "version": 2},
    )
    past = history.read(file)
    assert [(one.outcome, one.by, one.masses) for one in past.answers] == [
        ("(none)", "", 0),
        ("refund", "m/v", 1),
    ]
    assert [(label.conversation, label.by_person) for label in past.labels] == [
        ("c1", True),
        ("line 6", False),
        ("a1", True),
    ]
    assert past.labels[0].at == past.labels[1].at == FIRST
    assert past.runs == [RunBegun(datetime(2026, 3, 5, tzinfo=UTC), 60.0)]
    assert past.edits == [PublishedEdit(FIRST, 2, failed=True)]


def test_every_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "{",
        [],
        {"at": "2026-03-02T00:00:00Z", "event": "birthday"},
        {"event": "answer", "category": "refund"},
        {"at": "yesterday", "event": "correction"},
        {"at": "2026-03-02T00:00:00Z", "event": "answer", "category": 7},
    )
    with pytest.raises(InputError, match="is no history") as refused:
        history.read(file)
    assert [line.partition(":")[0] for line in refused.value.details] == [f"line {n}" for n in range(1, 7)]
    assert "edit_failed" in refused.value.details[2] and "has no 'at'" in refused.value.details[3]
    with pytest.raises(InputError, match="cannot be read"):
        history.read(tmp_path / "nowhere.jsonl")
