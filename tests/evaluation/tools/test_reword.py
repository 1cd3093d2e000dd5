"""A teacher's words for a schema: which can be used, and what the command says and leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from evaluation.contract.record import Split
from evaluation.contract.schema import Category, parse_schema
from evaluation.inference.predictor import PredictorError
from evaluation.tools.reword import ATTEMPTS, NotReworded, alike, main, read_words
from tests.evaluation import models
from tests.evaluation.fake_server import CODES, listening
from tests.evaluation.rewording import WORDS, Answers, Server, copies, honest, reworded_by, swaps, words
from tests.evaluation.shop import SCHEMA, conversations

RICH = Category(
    key="refund",
    name="Refund",
    definition="The customer wants money back for a purchase.",
    includes=("the customer was charged twice for one thing",),
    excludes=("the order was never sent to the customer",),
)
GOOD = {
    "definition": WORDS["refund"],
    "includes": ["one article, two debits"],
    "excludes": ["nothing has been dispatched yet"],
}


def test_definition_and_conditions_are_taken_and_key_and_name_stay() -> None:
    made = read_words(json.dumps(GOOD), RICH)
    assert made.model_dump(mode="json") == {"key": "refund", "name": "Refund", **GOOD}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"definition": "the customer WANTS money back, for a purchase"},
            "these are the words of the original",
        ),
        (
            {"definition": "The customer wants the money back for a purchase."},
            "these are the words of the original",
        ),
        ({"excludes": list(RICH.excludes)}, "these are the words of the original"),
        ({"includes": []}, "includes: there are 0, and must be 1"),
        ({"excludes": ["one", "two"]}, "excludes: there are 2, and must be 1"),
        ({"definition": "  "}, "category 'refund', definition: is empty"),
        ({"definition": "very " * 500}, "category 'refund', definition: String should have at most 2000"),
        ({"includes": [" "]}, "includes: a condition is empty"),
        ({"definition": 7}, "definition: Input should be a valid string"),
        ({"includes": "one article"}, "includes: Input should be a valid"),
        ({"name": "Money"}, "name: is not known"),
    ],
)
def test_words_that_cannot_be_used_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_words(json.dumps(GOOD | change), RICH)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "Sure! Here it is:", f"```json\n{json.dumps(GOOD)}\n```", "[1]", '{"definition": "a']
)
def test_an_answer_that_is_no_object_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError, match="not the JSON object that was asked for"):
        read_words(text, RICH)


def test_another_wording_by_people_is_not_alike() -> None:
    assert alike("Buy tickets for an event", "Buy tickets for chosen event") == pytest.approx(0.8)
    assert alike("Find a table at a restaurant.", "find a table, at a restaurant") == 1


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (
            copies,
            "category 'refund': none of 4 answers can be used: these are the words of the original: 'A customer",
        ),
        (lambda key, _: "{oops", "category 'refund': none of 4 answers can be used: not the JSON object"),
    ],
)
def test_a_teacher_who_copies_or_writes_no_json_is_refused_in_the_end(teacher: Answers, said: str) -> None:
    server = Server(teacher)
    with pytest.raises(NotReworded) as caught:
        reworded_by(server, graded=False)
    assert said in str(caught.value)
    assert server.asked.count("refund") == ATTEMPTS


def test_a_teacher_hears_what_was_wrong_and_may_do_better() -> None:
    server = Server(lambda key, before: words(key) if before else "I would rather not.")
    made, _ = reworded_by(server, graded=False)
    assert {c.key: c.definition for c in made.categories} == WORDS
    assert len(server.asked) == 2 * len(SCHEMA.keys)


def test_an_overloaded_teacher_is_asked_again_and_a_missing_one_is_not() -> None:
    assert reworded_by(Server(honest, failing=(503, 429)), graded=False)[1].startswith("unverified")
    with pytest.raises(PredictorError, match="the teacher: 404"):
        reworded_by(Server(honest, failing=(404,) * 6), graded=False)


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "schema.json").write_text(SCHEMA.model_dump_json())
    rows = (json.loads(c.model_dump_json()) for c in conversations())
    (tmp_path / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = Tokenizer(
        WordLevel({"[UNK]": 0} | dict(zip(CODES.texts, CODES.token_ids, strict=True)), unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def command(files: Path, address: str, *more: str, graded: bool = True) -> int:
    given = ["--schema", str(files / "schema.json"), "--base-url", address, "--model", "fake"]
    tried = ["--conversations", str(files / "conversations.jsonl"), "--tokenizer", str(files)]
    return main([*given, "--out", str(files / "schema.reworded-1.json"), *(tried if graded else []), *more])


@pytest.mark.seconds
def test_the_command_writes_a_schema_and_says_that_it_is_verified(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(Server(honest)) as address:
        assert command(files, address) == 0
    assert "schema.reworded-1.json: verified: 100.0% of 140 answers stay" in capsys.readouterr().out
    written = (files / "schema.reworded-1.json").read_text()
    assert {c.key: c.definition for c in parse_schema(written).categories} == WORDS
    assert written.startswith('{\n "name": "shop",\n')  # as the rewordings of data sets come


@pytest.mark.seconds
def test_a_rewording_that_means_something_else_exits_3_and_writes_nothing(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(Server(swaps)) as address:
        assert command(files, address, "--per-category", "5") == 3
    said = capsys.readouterr().err
    assert "nothing written: after 3 rounds" in said and "refund, invoice" in said
    assert not (files / "schema.reworded-1.json").exists()


@pytest.mark.seconds
def test_a_grader_that_cannot_tell_exits_4_and_writes_nothing(files: Path) -> None:
    with listening(Server(honest, models.habit())) as address:
        assert command(files, address) == 4
    assert not (files / "schema.reworded-1.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--tokenizer", "@nowhere"], "has no tokenizer.json"),
        (["--schema", "@tokenizer.json"], "categories"),
        (["--schema", "@nowhere.json"], "No such file"),
        (["--out", "@nowhere/out.json"], "a folder that exists"),
        (["--least-agreement", "1.2"], "--least-agreement: above 0.05, and 1 at most"),
        (
            ["--api-key-env", "STEERWISE_TEST_NO_KEY"],
            "the environment variable STEERWISE_TEST_NO_KEY is empty",
        ),
        (["--conversations", "@test.jsonl"], "no labelled conversation has the split train or validation"),
    ],
)
def test_bad_input_is_named_before_anybody_is_asked(
    change: list[str], said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [c.model_dump_json() for c in conversations() if c.split is Split.test]
    (files / "test.jsonl").write_text("\n".join(rows))
    option, value = change
    server = Server(honest)
    with listening(server) as address:
        assert command(files, address, option, value.replace("@", f"{files}/")) == 2
    assert said in capsys.readouterr().err
    assert server.asked == [] and server.bodies == []


def test_conversations_without_a_tokenizer_are_bad_input(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = str(files / "conversations.jsonl")
    assert command(files, "http://localhost:1", "--conversations", rows, graded=False) == 2
    assert "go together" in capsys.readouterr().err
