"""Asks a predictor. Every question ends as scored, unparsable (the model's) or errored (ours).

Items are written as they end, one JSON object a line, so that a killed run goes on where it stopped; errored items
are tried again then.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Prediction, Predictor, PredictorError

Progress: TypeAlias = Callable[[int, int], None]


class Outcome(StrEnum):
    scored = "scored"
    unparsable = "unparsable"
    errored = "errored"


class RunnerError(ValueError):
    """The file of outcomes belongs to other questions or another model."""


class Question(NamedTuple):
    schema: CategorySchema
    conversation: Conversation


class Questions(NamedTuple):
    """sha256: of the suite that they are of, under which outcomes are kept. title: for those who wait."""

    sha256: str
    each: Sequence[Question]
    title: str = ""


class Header(BaseModel):
    suite_sha256: str
    model: str


class Measured(BaseModel):
    model_config = ConfigDict(frozen=True)

    item: int  # index of the question, and of the item in its suite
    outcome: Outcome
    prediction: Prediction | None
    error: str | None = None


async def run(
    questions: Questions,
    predictor: Predictor,
    *,
    model: str,
    out: Path | None = None,
    only: Sequence[int] | None = None,
    concurrency: int = 32,
    progress: Progress | None = None,
) -> list[Measured]:
    """One outcome for each question, in their order.

    out: where outcomes are kept; an earlier run's are taken over. model: its name in that file. only: indices of the
    questions to be asked, in rising order; all by default.
    Raises: RunnerError where `out` was written for other questions or another model.
    """
    wanted = range(len(questions.each)) if only is None else only
    kept = {} if out is None else _earlier(out, Header(suite_sha256=questions.sha256, model=model))
    done = {index: kept[index] for index in wanted if index in kept}
    waiting = iter([index for index in wanted if index not in done])
    lines = None if out is None else out.open("a", encoding="utf-8")

    def answered() -> None:
        if progress is not None:
            progress(len(done), len(wanted))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_work(questions, predictor, waiting, done, lines, answered))
    finally:
        if lines is not None:
            lines.close()
    return [done[index] for index in wanted]


async def _work(
    questions: Questions,
    predictor: Predictor,
    waiting: Iterator[int],
    done: dict[int, Measured],
    lines: IO[str] | None,
    answered: Callable[[], None],
) -> None:
    for index in waiting:
        measured = await _measure(questions.each[index], predictor, index)
        done[index] = measured
        if lines is not None:
            lines.write(measured.model_dump_json() + "\n")
            lines.flush()
        answered()


async def _measure(question: Question, predictor: Predictor, index: int) -> Measured:
    try:
        prediction = await predictor.predict(question.schema, question.conversation)
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
            f"{out} holds the outcomes of other questions or another model; remove it or choose another file"
        )
    return {m.item: m for m in measured if m.outcome is not Outcome.errored}
