"""A tenant's own traces: judged like a teacher's, and nothing of them is lost without a word."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract.schema import Category, CategorySchema
from tests.training.shop import Tenant
from training.artifacts import StageFailed
from training.config import StageManifest, Traces
from training.data.examples import Example, make_example, read_labelled, read_left_out, read_traces
from training.data.trace_filter import Quality, quality_of, refusal
from training.engine.progress import EventWriter
from training.stages import traces as stage_of_traces
from training.teachers import experts
from training.teachers.experts import Expert

POOL = ("A", "B", "C", "D", "E", "F", "G", "H")


def example(tenant: Tenant, number: int = 0) -> Example:
    return make_example(tenant.conversations[number], tenant.schema, POOL, random.Random(number), False)


def row(tenant: Tenant, number: int, **changes: Any) -> dict[str, Any]:
    conversation = tenant.conversations[number]
    key = conversation.category
    criterion = None if key is None else tenant.schema.category(key).definition
    said = {"id": conversation.id, "quote": conversation.messages[-1].text, "criterion": criterion}
    return said | changes


def test_what_decided_becomes_a_response_in_the_form_of_the_base(tenant: Tenant) -> None:
    asked = example(tenant)
    aside = [{"key": "delivery", "exclude": "Only asks for money."}]
    text = Expert.model_validate(row(tenant, 0, set_aside=aside, gist="unread")).response(asked)
    right, other = (asked.prompt.codes[tenant.schema.keys.index(key)] for key in ("refund", "delivery"))
    assert text == (
        f'The customer says "i want my money back for the blue shoes". This fits {right} '
        f'"the customer wants their money back", not {other}: "only asks for money".\nAnswer: {right}'
    )
    assert quality_of(text, asked) is Quality.full


def test_none_of_these_needs_no_criterion(tenant: Tenant) -> None:
    number = next(n for n, c in enumerate(tenant.conversations) if c.category is None)
    asked = example(tenant, number)
    assert quality_of(Expert.model_validate(row(tenant, number)).response(asked), asked) is Quality.full


@pytest.mark.parametrize("coded", [False, True])
def test_a_whole_text_names_categories_by_their_keys_or_by_codes_of_its_own(
    coded: bool, tenant: Tenant
) -> None:
    asked = example(tenant)
    condition = "the customer wants their money back"
    named = {"refund": "X"} if coded else {"refund": "refund"}
    text = f'They say "money back". This fits {named["refund"]} "{condition}".\nAnswer: {named["refund"]}'
    codes = {"codes": ["X", "Y", "Z", "W"]} if coded else {}
    found = Expert.model_validate({"id": "c0", "text": text, **codes}).response(asked)
    assert found.endswith(f"Answer: {asked.gold_code}")
    assert quality_of(found, asked) is Quality.full


def test_a_key_is_only_a_code_where_a_code_may_stand() -> None:
    schema = CategorySchema(
        categories=tuple(Category(key=k, name=k, definition=f"asks for {k}") for k in ("card", "card_fee"))
    )
    text = 'They want a card: "card fee". This fits card_fee "asks for card_fee", not card: "x".\nAnswer: card_fee'
    assert experts._with_codes(text, schema, ("A", "B")) == (
        'They want a card: "card fee". This fits B "asks for card_fee", not A: "x".\nAnswer: B'
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"criterion": None}, "criterion"),
        ({"quote": None}, "criterion"),
        ({"set_aside": [{"key": "sales", "exclude": "x"}]}, "'sales'"),
        ({"text": "Answer: A", "codes": ["A"]}, "1 codes"),
    ],
)
def test_a_row_that_cannot_become_a_response_says_what_it_lacks(
    changes: dict[str, Any], said: str, tenant: Tenant
) -> None:
    with pytest.raises(ValueError, match=said):
        Expert.model_validate(row(tenant, 0, **changes)).response(example(tenant))


def test_why_a_response_is_refused_is_told(tenant: Tenant) -> None:
    asked = example(tenant)
    other = next(code for code in asked.prompt.codes if code != asked.gold_code)
    assert "no answer can be read" in refusal("They want money.", asked)
    assert "the label is refund" in refusal(f"They want it.\nAnswer: {other}", asked)
    assert "word for word" in refusal(f'They say "give it".\nAnswer: {asked.gold_code}', asked)


def run(tenant: Tenant, base: Path, out: Path, rows: list[dict[str, Any]], **settings: Any) -> StageManifest:
    file = out / "brought.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    stage = Traces(files=(file,), teachers=(), **settings)
    manifest = StageManifest(
        stage=stage, base=str(base), category_schema=tenant.schema, conversations=tenant.path, out=out
    )
    found = stage_of_traces.run(manifest, stage, EventWriter(out, "traces"))
    assert found.metrics["for_review"] == 4 and found.metrics["left_out"] == 1
    assert found.metrics["yield_by_teacher"] == {"file:brought.jsonl": [2, 2]}
    return manifest


def test_what_is_not_kept_is_listed_and_a_wrong_label_is_learned_by_no_stage(
    tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    rows = [
        row(tenant, 0),
        row(tenant, 1),
        row(tenant, 2, quote="something that nobody said", criterion="No condition of this schema"),
        row(tenant, 4),
        row(tenant, 4, label_wrong=True),
        row(tenant, 5, set_aside=[{"key": "sales", "exclude": "x"}]),
        {"id": "stranger", "quote": "a", "criterion": "b"},
    ]
    run(tenant, base, tmp_path, rows)
    path = tmp_path / "traces.jsonl"
    assert [trace.id for trace in read_traces(path, tenant.schema).traces] == ["c0", "c1"]
    review = {one["id"]: one for one in map(json.loads, (tmp_path / "review.jsonl").read_text().splitlines())}
    assert set(review) == {"c2", "c4", "c5", "stranger"}
    assert review["c4"]["label"] == tenant.conversations[4].category
    assert "contradicts the schema" in review["c4"]["reason"]
    assert read_left_out(path) == {"c4"}
    learned = read_labelled(tenant.path, tenant.schema, read_left_out(path)).conversations
    assert {c.id for c in tenant.conversations} - {c.id for c in learned} == {"c4"}


@pytest.mark.parametrize("line", ["no json", '{"quote": "x"}', '{"id": "c0", "set_aside": [{"key": "a"}]}'])
def test_a_line_that_is_no_trace_is_named(line: str, tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "brought.jsonl"
    file.write_text(json.dumps(row(tenant, 0)) + f"\n\n{line}\n")
    with pytest.raises(StageFailed, match=r"brought\.jsonl, line 3"):
        experts.read([file])


def test_without_teachers_there_must_be_files() -> None:
    with pytest.raises(ValueError, match="give one at least, or files"):
        Traces(teachers=())
