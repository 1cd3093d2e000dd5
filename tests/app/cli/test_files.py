"""Every file that a person can hand in and that cannot be used, and what is said about it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.files import read_file, read_inputs, read_schema
from app.errors import InputError
from app.runs.inputs import check_lengths, checked
from app.runs.output import Output, write_inputs
from evaluation.contract.record import Conversation, Message, Role, Split
from evaluation.contract.schema import CategorySchema, parse_schema

SCHEMA: dict[str, Any] = {
    "name": "shop",
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
    ],
}


def row(
    identity: str, category: str | None = "refund", text: str = "give it back", **more: Any
) -> dict[str, Any]:
    return {"id": identity, "category": category, "messages": [{"role": "customer", "text": text}], **more}


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in rows)


def schema() -> CategorySchema:
    return parse_schema(SCHEMA)


def many(split: str | None, count: int, prefix: str = "c") -> list[dict[str, Any]]:
    keys = ("refund", "delivery")
    extra = {} if split is None else {"split": split}
    return [row(f"{prefix}{split}{i}", keys[i % 2], f"message {split} {i}", **extra) for i in range(count)]


def different(rows: list[dict[str, Any]]) -> list[Conversation]:
    """Each with words of its own: texts that differ by a number alone count as equal."""
    digits = str.maketrans("0123456789", "abcdefghij")
    return [Conversation.model_validate(row(r["id"], r["category"], r["id"].translate(digits))) for r in rows]


def written(folder: Path, rows: bytes, name: str = "conversations.jsonl") -> tuple[Path, Path]:
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / name).write_bytes(rows)
    return folder / "schema.json", folder / name


BAD_ROWS = {
    "unknown category": (lines(row("a"), row("b", "returns")), "line 2", "'returns' is not in the schema"),
    "duplicate id": (lines(row("a"), row("b"), row("a")), "line 3", "'a' was already used on line 1"),
    "not JSON": (lines(row("a")) + b"{oops\n", "line 2", "not JSON"),
    "not an object": (lines(row("a"), [1, 2]), "line 2", "dictionary"),
    "wrong encoding": ('{"id": "a", "messages": [], "x": "é"}\n'.encode("latin-1"), "line 1", "not UTF-8"),
    "no customer": (
        lines({"id": "a", "messages": [{"role": "agent", "text": "hi"}]}),
        "line 1",
        "no customer",
    ),
    "unknown role": (
        lines({"id": "a", "messages": [{"role": "bot", "text": "hi"}]}),
        "line 1",
        "messages.0.role",
    ),
    "no messages": (lines({"id": "a", "messages": []}), "line 1", "messages"),
    "unknown split": (lines(row("a", split="dev")), "line 1", "split"),
    "none not allowed": (lines(row("a", None)), "line 1", "none_of_these"),
    "NUL byte": (lines(row("a", text="a\x00b")), "line 1", "NUL"),
    "too long a line": (lines(row("a", text="x" * (1 << 20))), "line 1", "longer than"),
    "deep nesting": (b"[" * 200_000 + b"]" * 200_000 + b"\n", "line 1", ""),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_by_its_line_and_reason(case: str, tmp_path: Path) -> None:
    content, line, reason = BAD_ROWS[case]
    path = tmp_path / "conversations.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_file(path, schema())
    assert caught.value.exit_code == 2
    assert any(line in detail and reason in detail for detail in caught.value.details), caught.value.details


BAD_SCHEMAS = {
    "empty definition": (
        {"categories": [{"key": "a", "name": "A", "definition": " "}]},
        "'a', definition: is empty",
    ),
    "too many": (
        {"categories": [{"key": f"k{i}", "name": f"n{i}", "definition": "d"} for i in range(101)]},
        "there are 101",
    ),
    "none at all": ({"categories": []}, "there are 0"),
    "duplicate key": (
        {"categories": [{"key": "a", "name": n, "definition": "d"} for n in "xy"]},
        "'a' is used twice",
    ),
    "unknown field": ({"categories": [], "colour": "red"}, "colour"),
    "a list": ([], "must be a JSON object"),
}


@pytest.mark.parametrize("case", BAD_SCHEMAS)
def test_a_bad_schema_is_named_by_category_and_field(case: str, tmp_path: Path) -> None:
    content, reason = BAD_SCHEMAS[case]
    (tmp_path / "schema.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_schema(tmp_path / "schema.json")
    assert any(reason in problem for problem in caught.value.details), caught.value.details


BAD_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n  \n", "is empty"),
    "torn gzip": (gzip.compress(lines(row("a")))[:-6], "is torn or is not gzip"),
    "gzip bomb": (gzip.compress(b" " * (64 << 20)), "unpacks to more than 100 times"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_as_a_whole(case: str, tmp_path: Path) -> None:
    content, reason = BAD_FILES[case]
    path = tmp_path / "conversations.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_file(path, schema())


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_schema(tmp_path / "nowhere.json")


def test_one_category_without_none_of_these_leaves_nothing_to_decide(tmp_path: Path) -> None:
    only = {"categories": SCHEMA["categories"][:1]}
    (tmp_path / "schema.json").write_text(json.dumps(only))
    with pytest.raises(InputError, match="nothing to decide"):
        read_schema(tmp_path / "schema.json")


def test_too_few_examples_of_a_split_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(*written(tmp_path, lines(*many("train", 40), *many("test", 3))))
    assert caught.value.details[0] == "the split test has 3 labelled conversations and needs 20"


def test_a_split_of_one_category_cannot_judge_anything() -> None:
    one = [Conversation.model_validate(row(f"t{i}", split="test")) for i in range(30)]
    train = [Conversation.model_validate(r) for r in many("train", 30)]
    with pytest.raises(InputError) as caught:
        checked(schema(), train + one)
    assert "one category only" in caught.value.details[0]


def test_the_splits_of_the_file_are_kept(tmp_path: Path) -> None:
    rows = [*many("train", 30), *many("validation", 4), *many("test", 20)]
    inputs = read_inputs(*written(tmp_path, lines(*rows)))
    assert {split: len(inputs.splits[split]) for split in Split} == {
        Split.train: 30,
        Split.validation: 4,
        Split.calibration: 0,
        Split.test: 20,
    }


def test_without_splits_the_text_decides_and_keeps_deciding_when_the_file_grows() -> None:
    small = different(many(None, 300))
    large = small + different(many(None, 200, prefix="new"))
    before, after = checked(schema(), small), checked(schema(), large)
    for split in Split:
        assert {c.id for c in before.splits[split]} <= {c.id for c in after.splits[split]}
        assert before.splits[split]


def test_unlabelled_conversations_are_counted_and_not_used(tmp_path: Path) -> None:
    unlabelled = {"id": "u", "messages": [{"role": "customer", "text": "hi"}], "split": "train"}
    inputs = read_inputs(*written(tmp_path, lines(*many("train", 30), *many("test", 20), unlabelled)))
    assert len(inputs.splits[Split.train]) == 30
    assert any(notice.startswith("1 conversations have no label") for notice in inputs.notices)


def overlapping() -> list[Conversation]:
    """Six of the training conversations and one for validation say what a test conversation says."""
    rows = [*many("train", 30), *many("validation", 4), *many("test", 20)]
    for number in (0, 3, 4, 5, 8, 9):
        rows[number]["messages"][0]["text"] = "Message TEST 77!"
    rows[31]["messages"] = rows[-1]["messages"]
    return [Conversation.model_validate(r) for r in rows]


def test_what_a_held_out_conversation_says_is_not_learned_from_and_the_notices_name_it() -> None:
    inputs = checked(schema(), overlapping())
    assert {split: len(inputs.splits[split]) for split in (Split.train, Split.validation, Split.test)} == {
        Split.train: 24, Split.validation: 3, Split.test: 20,
    }  # fmt: skip
    assert inputs.notices == (
        "6 training conversations are left out: they say what a held-out one says "
        "(ids 'ctrain0', 'ctrain3', 'ctrain4', 'ctrain5', 'ctrain8', …)",
        "1 validation conversations are left out: they say what a held-out one says (ids 'cvalidation1')",
        "1 texts have several labels (6 conversations), such as 'Message TEST 77!' "
        "(ids 'ctrain0', 'ctrain3', 'ctrain4', 'ctrain5', 'ctrain8': refund and delivery); 0 of them are held out and "
        "not asked",
    )


def test_what_is_written_for_the_stages_is_without_it(tmp_path: Path) -> None:
    """Traces, SFT, distillation and RL all read this train.jsonl."""
    folder = write_inputs(Output(tmp_path), checked(schema(), overlapping()))
    for split, left in ((Split.train, 24), (Split.validation, 3)):
        text = (folder / f"{split}.jsonl").read_text().casefold()
        assert text.count("\n") == left and "message test" not in text


def test_splits_by_the_text_hold_no_copy_of_a_held_out_one() -> None:
    rows = [
        row(f"c{i}", ("refund", "delivery")[i // 2 % 2], f"{'where' * (i // 2)} is it") for i in range(400)
    ]
    inputs = checked(schema(), [Conversation.model_validate(r) for r in rows])
    held_out = {c.said for split in (Split.calibration, Split.test) for c in inputs.splits[split]}
    for split in (Split.train, Split.validation):
        assert inputs.splits[split] and held_out.isdisjoint(c.said for c in inputs.splits[split])


def test_too_few_that_are_left_are_too_few_and_the_reason_is_said() -> None:
    rows = [*many("train", 22), *many("test", 20)]
    for one in rows[:3]:
        one.update(messages=rows[-1]["messages"], category=rows[-1]["category"])
    with pytest.raises(InputError) as caught:
        checked(schema(), [Conversation.model_validate(r) for r in rows])
    assert caught.value.details[0] == "the split train has 19 labelled conversations and needs 20"
    assert caught.value.details[1].startswith("3 training conversations are left out")


def test_csv_and_gzip_hold_the_same_conversations_as_jsonl(tmp_path: Path) -> None:
    table = "id,role,text,category\na,customer,give it back,refund\na,agent,sure,refund\nb,customer,where,delivery\n"
    (tmp_path / "c.csv").write_text(table)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(table.encode()))
    plain, packed = (read_file(tmp_path / name, schema()).conversations for name in ("c.csv", "c.csv.gz"))
    assert plain == packed
    assert [(c.id, c.category, len(c.messages)) for c in plain] == [("a", "refund", 2), ("b", "delivery", 1)]


def test_the_content_decides_the_hash_and_not_the_files_name(tmp_path: Path) -> None:
    rows = lines(*many("train", 30), *many("test", 20))
    first = read_inputs(*written(tmp_path, rows))
    again = read_inputs(*written(tmp_path, rows, name="other.jsonl"))
    changed = read_inputs(*written(tmp_path, rows.replace(b'message test 1"', b'message test one"')))
    assert first.sha256 == again.sha256 != changed.sha256


def test_a_conversation_that_leaves_no_room_for_an_answer_is_named() -> None:
    rows = [*many("train", 30), *many("test", 20)]
    rows[7]["messages"][0]["text"] = "word " * 5000
    inputs = checked(schema(), [Conversation.model_validate(r) for r in rows])

    def words(texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    with pytest.raises(InputError) as caught:
        check_lengths(inputs, ("A", "B"), words, 4096)
    assert len(caught.value.details) == 1
    assert "'ctrain7'" in caught.value.details[0]
    check_lengths(inputs, ("A", "B"), words, 6000)


def test_one_conversation_may_be_pretty_printed_and_without_an_id(tmp_path: Path) -> None:
    path = tmp_path / "call.txt"
    path.write_text(json.dumps({"messages": [{"role": "customer", "text": "hi"}]}, indent=2))
    (only,) = read_file(path, None).conversations
    assert (only.messages, only.id[:5]) == ((Message(role=Role.customer, text="hi"),), "text-")
