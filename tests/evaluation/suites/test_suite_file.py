"""A suite that was built once and is read again: the same questions, or a clear no."""

from pathlib import Path

import pytest

from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.suites import steerability, suite_file
from evaluation.suites.families import SuiteError
from tests.evaluation.shop import SCHEMA, of_split

SUITE = steerability.build(SCHEMA, of_split(Split.test), max_items=300)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    suite_file.write(SUITE, tmp_path / "suite.json")
    return tmp_path / "suite.json"


def asked() -> Conversation:
    return SUITE.conversations[SUITE.items[0].conversation_id]


def others() -> list[Conversation]:
    return [c for c in of_split(Split.test) if c.id != asked().id]


def test_it_asks_what_it_asked_and_holds_no_conversation(path: Path) -> None:
    again = suite_file.read(path, SCHEMA, [*of_split(Split.train), *of_split(Split.test)[::-1]])
    assert again == SUITE and again.questions == SUITE.questions
    text = path.read_text()
    assert not any(c.said[0] in text for c in SUITE.conversations.values())


def test_conversations_that_have_changed_are_refused(path: Path) -> None:
    message = asked().messages[0].model_copy(update={"text": "where did you put it"})
    for change in ({"messages": (message,)}, {"category": "none such"}):
        with pytest.raises(SuiteError, match="have changed since"):
            suite_file.read(path, SCHEMA, [asked().model_copy(update=change), *others()])


def test_a_conversation_that_is_gone_is_named(path: Path) -> None:
    with pytest.raises(SuiteError, match=f"conversation '{asked().id}', which is not there"):
        suite_file.read(path, SCHEMA, others())


def test_the_suite_of_another_schema_and_what_is_no_suite_are_refused(path: Path) -> None:
    edited = CategorySchema(categories=SCHEMA.categories[::-1], none_of_these=True)
    with pytest.raises(SuiteError, match="another version of the schema"):
        suite_file.read(path, edited, of_split(Split.test))
    path.write_text('{"file_version": 9}')
    with pytest.raises(SuiteError, match="not a suite of this version: file_version"):
        suite_file.read(path, SCHEMA, of_split(Split.test))
