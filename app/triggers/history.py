"""A past to replay, from a file: a JSON object a line, in any order. Each has `at` and `event`; a line of
`steerwise answers export` is read as well, as the answer that it is and the correction that it got.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import InputError
from app.triggers.simulation import CountedAnswers, LabelGiven, PublishedEdit, RunBegun, TriggerHistory
from app.usage.service import outcome_of

EVENTS = ("answer", "correction", "label", "run", "published", "edit_failed")
_MOST_PROBLEMS = 10


class _Line(NamedTuple):
    number: int
    said: dict[str, Any]


class _Found(NamedTuple):
    answers: list[CountedAnswers]
    labels: list[LabelGiven]
    runs: list[RunBegun]
    edits: list[PublishedEdit]


def read(file: Path) -> TriggerHistory:
    """Raises: InputError, which names the lines that cannot be read."""
    found, problems = _Found([], [], [], []), list[str]()
    try:
        with file.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, start=1):
                if not text.strip():
                    continue
                try:
                    _take(found, _Line(number, _object(text)))
                except (ValueError, KeyError, TypeError) as error:
                    missing = f"has no {error}" if isinstance(error, KeyError) else str(error)
                    problems.append(f"line {number}: {missing}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if problems:
        more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
        raise InputError(f"{file} is no history", [*problems[:_MOST_PROBLEMS], *more])
    return TriggerHistory(
        answers=sorted(found.answers, key=_at),
        labels=sorted(found.labels, key=_at),
        runs=sorted(found.runs, key=_at),
        edits=sorted(found.edits, key=_at),
    )


def _at(event: CountedAnswers | LabelGiven | RunBegun | PublishedEdit) -> datetime:
    return event.at


def _object(text: str) -> dict[str, Any]:
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("is no JSON object")
    return said


def _take(found: _Found, line: _Line) -> None:
    said = line.said
    if "event" not in said and "created_at" in said:
        found.answers.append(_answer(said, said["created_at"], _exported_by(said)))
        found.labels.extend(_feedback(said))
        return
    at = _moment(said["at"])
    match said["event"]:
        case "answer":
            found.answers.append(_answer(said, said["at"], str(said.get("by", ""))))
        case "correction" | "label" as event:
            conversation = str(said.get("conversation", f"line {line.number}"))
            found.labels.append(LabelGiven(at, conversation, event == "correction"))
        case "run":
            gpu_s = said.get("gpu_s")
            found.runs.append(
                RunBegun(at, None if gpu_s is None else float(gpu_s), not said.get("failed", False))
            )
        case "published" | "edit_failed" as event:
            found.edits.append(PublishedEdit(at, int(said["version"]), event == "edit_failed"))
        case other:
            raise ValueError(f"{other!r} is no event; these are: {', '.join(EVENTS)}")


def _answer(said: dict[str, Any], at: Any, by: str) -> CountedAnswers:
    category = said["category"]
    if category is not None and not isinstance(category, str):
        raise ValueError("`category` is the key of one, or null for none of these")
    outcome = outcome_of(
        category, abstained=bool(said.get("abstained")), failed=said.get("failure") is not None
    )
    mass = said.get("label_mass")
    masses = (0, 0.0, 0.0) if mass is None else (1, float(mass), float(mass) ** 2)
    return CountedAnswers(_moment(at), by, outcome, 1, *masses)


def _exported_by(said: dict[str, Any]) -> str:
    return f"{said.get('model_version_id')}/{said.get('schema_version_id')}"


def _feedback(said: dict[str, Any]) -> Iterator[LabelGiven]:
    given = said.get("feedback")
    if isinstance(given, dict) and given.get("labelled"):
        yield LabelGiven(_moment(given["given_at"]), str(said.get("id")), True)


def _moment(text: Any) -> datetime:
    """Raises: ValueError."""
    if not isinstance(text, str):
        raise ValueError("a time is a text such as 2026-01-02T10:30:00Z")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it as 2026-01-02T10:30:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
