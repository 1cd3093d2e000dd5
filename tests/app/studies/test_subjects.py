"""Tenants of studies: of the world, businesses that ship, a folder; and what their experts wrote reaches the arms."""

import json
from pathlib import Path

import pytest

from app.errors import InputError
from app.serving.base import STARTER, find_base
from app.studies import matrix, subjects
from app.studies.preparing import StudyFolder, prepare
from evaluation.contract.record import Split
from tests.app.studies.shipped import training_study
from tests.evaluation.shop import SCHEMA, conversations
from training.base import businesses

SHOP = f"business:{businesses.FOR_GATES[0]}"


def folder_of(path: Path, brought: list[dict[str, str]]) -> str:
    (path / subjects.SCHEMA).write_text(SCHEMA.model_dump_json())
    rows = (c.model_dump_json(exclude_unset=True) + "\n" for c in conversations())
    (path / subjects.CONVERSATIONS).write_text("".join(rows))
    (path / subjects.EXPERTS).write_bytes(subjects.lines(brought))
    return str(path)


def test_the_author_of_a_business_is_the_expert_of_what_is_learned_and_of_nothing_else() -> None:
    shop = subjects.load(SHOP, 0)
    train = {c.id for c in shop.conversations if c.split is Split.train}
    assert shop.brought is not None and {row["id"] for row in shop.brought} == train
    none = {c.id for c in shop.conversations if c.category is None}
    assert all(row["quote"] and (row.get("criterion") or row["id"] in none) for row in shop.brought)
    other = subjects.load(SHOP, 1)
    assert {c.id for c in other.conversations if c.split is Split.train} != train


@pytest.mark.parametrize("brought", [True, False])
def test_an_arm_that_learns_from_an_expert_begins_with_judging_what_that_one_wrote(
    brought: bool, tmp_path: Path
) -> None:
    source = folder_of(tmp_path, [{"id": "c0", "text": "…"}]) if brought else SHOP
    study = training_study("progression").about((source,))
    matrix.check(study)
    made = prepare(study, StudyFolder(0, find_base(STARTER), tmp_path / "seed", ""))
    judged, learned = made.chains["SFT"].stages
    assert (judged.stage.kind, learned.stage.kind) == ("traces", "sft")
    assert judged.stage.teachers == ()  # type: ignore[union-attr]
    (file,) = judged.stage.files  # type: ignore[union-attr]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == subjects.load(source, 0).brought
    assert learned.traces == judged.out / "traces.jsonl"
    assert made.chains["self-rationales"].stages[0].stage.teachers != ()  # type: ignore[union-attr]


def test_what_an_expert_wrote_is_part_of_what_a_result_follows_from(tmp_path: Path) -> None:
    study = training_study("progression").about((folder_of(tmp_path, [{"id": "c0", "text": "one"}]),))
    place = StudyFolder(0, find_base(STARTER), tmp_path / "seed", "")
    before = prepare(study, place).key
    assert prepare(study, place).key == before
    folder_of(tmp_path, [{"id": "c0", "text": "another"}])
    assert prepare(study, place).key != before


def test_a_tenant_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError) as caught:
        matrix.check(training_study("progression").about(("business:nobody",)))
    assert SHOP in "".join(caught.value.details)


def test_a_study_of_several_tenants_needs_as_many() -> None:
    with pytest.raises(InputError, match="3 tenants"):
        training_study("continual-starter").about((SHOP,))


def test_retention_asks_under_schemas_of_nobody_who_is_studied() -> None:
    apart = f"business:{businesses.FOR_BENCH[0]}"
    items = subjects.retention_items((apart,), 50, 0)
    assert len(items) == 50
    names = {item.schema.name for item in items}
    assert businesses.FOR_BENCH[0] not in names and len(names) == len(businesses.FOR_BENCH) - 1
    assert [item.schema.name for item in items] == sorted(
        item.schema.name for item in items
    )  # prefixes are read once
    assert subjects.retention_items(subjects.WORLD[:1], 3, 0)[0].schema.name not in businesses.FOR_BENCH
