"""Runs a suite through a predictor. Every item ends as scored, unparsable (the model's) or errored (ours).

Items are written as they end, one JSON object a line, so that a killed run goes on where it stopped; errored items
are tried again then.
"""

import asyncio
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.predictor import Prediction, Predictor, PredictorError
from evaluation.suites.steerability import Suite

Progress: TypeAlias = Callable[[int, int], None]


class Outcome(StrEnum):
    scored = "scored"
    unparsable = "unparsable"
    errored = "errored"


class RunnerError(ValueError):
    """The file of outcomes belongs to another suite or model."""


class Header(BaseModel):
    suite_sha256: str
    model: str


class Measured(BaseModel):
    model_config = ConfigDict(frozen=True)

    item: int  # index into suite.items
    outcome: Outcome
    prediction: Prediction | None
    error: str | None = None


async def run(
    suite: Suite,
    predictor: Predictor,
    *,
    model: str,
    out: Path | None = None,
    concurrency: int = 32,
    progress: Progress | None = None,
) -> list[Measured]:
    """One outcome for each of suite.items, in their order.

    out: where outcomes are kept; an earlier run's are taken over. model: its name in that file.
    Raises: RunnerError where `out` was written for another suite or model.
    """
    done = {} if out is None else _earlier(out, Header(suite_sha256=suite.sha256, model=model))
    waiting = iter([index for index in range(len(suite.items)) if index not in done])
    lines = None if out is None else out.open("a", encoding="utf-8")
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_work(suite, predictor, waiting, done, lines, progress))
    finally:
        if lines is not None:
            lines.close()
    return [done[index] for index in range(len(suite.items))]


async def _work(
    suite: Suite,
    predictor: Predictor,
    waiting: Iterator[int],
    done: dict[int, Measured],
    lines: IO[str] | None,
    progress: Progress | None,
) -> None:
    for index in waiting:
        measured = await _measure(suite, predictor, index)
        done[index] = measured
        if lines is not None:
            lines.write(measured.model_dump_json() + "\n")
            lines.flush()
        if progress is not None:
            progress(len(done), len(suite.items))


async def _measure(suite: Suite, predictor: Predictor, index: int) -> Measured:
    item = suite.items[index]
    schema = suite.perturbations[item.perturbation].schema
    try:
        prediction = await predictor.predict(schema, suite.conversations[item.conversation_id])
    except PredictorError as error:
        return Measured(item=index, outcome=Outcome.errored, prediction=None, error=str(error))
    outcome = Outcome.scored if prediction.failure is None else Outcome.unparsable
    return Measured(item=index, outcome=outcome, prediction=prediction)


def _earlier(out: Path, header: Header) -> dict[int, Measured]:
    if not out.exists() or out.stat().st_size == 0:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(header.model_dump_json() + "\n", encoding="utf-8")
        return {}
    whole, _, torn = out.read_bytes().rpartition(b"\n")
    if torn:  # the write during which the process was killed
        out.write_bytes(whole + b"\n" if whole else b"")
        return _earlier(out, header)
    first, *rest = whole.decode().split("\n")
    try:
        written = Header.model_validate_json(first)
        measured = [Measured.model_validate_json(line) for line in rest]
    except ValidationError as error:
        raise RunnerError(f"{out} is not a file of outcomes: {error.errors()[0]['msg']}") from None
    if written != header:
        raise RunnerError(
            f"{out} holds the outcomes of another suite or model; remove it or choose another file"
        )
    return {m.item: m for m in measured if m.outcome is not Outcome.errored}
