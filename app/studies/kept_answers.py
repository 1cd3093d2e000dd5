"""Answers as they come, in files: nothing is asked twice, and everything can be scored anew without asking.

A file is of one model and of one list of questions, a line an answer; a last line that was cut off is asked again.
"""

import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from app.studies.held_out import in_order

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)


class AnswersFile(NamedTuple):
    """folder: of all such files. what: is asked, for people. model: its content's hash."""

    folder: Path
    what: str
    model: str

    async def of(
        self,
        questions: Sequence[T],
        ask: Callable[[T], Awaitable[A]],
        kind: type[A],
        concurrency: int,
        done: Callable[[int], None],
    ) -> list[A]:
        """In the order of the questions. done: called with the number of answers so far, those found included."""
        file = self._file(questions)
        found = _read(file, kind)
        left = [number for number in range(len(questions)) if number not in found]
        self.folder.mkdir(parents=True, exist_ok=True)

        async def one(number: int) -> None:
            answer = await ask(questions[number])
            found[number] = answer
            with file.open("a", encoding="utf-8") as lines:
                line = {"number": number, "answer": answer.model_dump(mode="json")}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")

        there = len(questions) - len(left)
        await in_order(left, one, concurrency, lambda count: done(there + count))
        return [found[number] for number in range(len(questions))]

    def _file(self, questions: Sequence[Any]) -> Path:
        content = hashlib.sha256(repr((self.model, list(questions))).encode()).hexdigest()
        return self.folder / f"{self.what}-{content[:12]}.jsonl"


def whole_lines(file: Path) -> list[str]:
    """What an earlier call has left. A cut end is taken off the file, so that the next line is one of its own."""
    if not file.is_file():
        return []
    whole, _, cut = file.read_bytes().rpartition(b"\n")
    if cut:
        os.truncate(file, file.stat().st_size - len(cut))
    return [line for line in whole.decode("utf-8").split("\n") if line]


def _read(file: Path, kind: type[A]) -> dict[int, A]:
    """By the question's number."""
    rows = [json.loads(line) for line in whole_lines(file)]
    return {row["number"]: kind.model_validate(row["answer"]) for row in rows}
