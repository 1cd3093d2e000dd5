"""Answers are kept with their words, and a study that was stopped asks for none of them again."""

from pathlib import Path

import anyio
import pytest
from pydantic import BaseModel

from app.studies.kept_answers import AnswersFile


class Said(BaseModel):
    text: str


class Stopped(Exception):
    pass


def asked(
    folder: Path, questions: list[str], stop_at: str = "", model: str = "m"
) -> tuple[list[Said], list[str]]:
    """The answers, and what had to be asked for them."""
    put: list[str] = []

    async def ask(question: str) -> Said:
        if question == stop_at:
            raise Stopped
        put.append(question)
        return Said(text=question.upper())

    async def run() -> list[Said]:
        return await AnswersFile(folder, "words", model).of(questions, ask, Said, 1, lambda _count: None)

    return anyio.run(run), put


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        asked(tmp_path, ["a", "b", "c"], stop_at="b")
    found, put = asked(tmp_path, ["a", "b", "c"])
    assert [one.text for one in found] == ["A", "B", "C"]
    assert "b" in put and "a" not in put  # what was under way when the other one failed may have been kept
    assert asked(tmp_path, ["a", "b", "c"]) == (found, [])


def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    asked(tmp_path, ["a", "b"])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    found, put = asked(tmp_path, ["a", "b"])
    assert [one.text for one in found] == ["A", "B"] and put == ["b"]
    file.write_bytes(b'{"number": 0')
    assert asked(tmp_path, ["a", "b"])[1] == ["a", "b"]


def test_other_questions_and_other_models_have_files_of_their_own(tmp_path: Path) -> None:
    asked(tmp_path, ["a"])
    assert asked(tmp_path, ["b"])[1] == ["b"]
    assert asked(tmp_path, ["a"], model="another")[1] == ["a"]
    assert len(list(tmp_path.iterdir())) == 3
