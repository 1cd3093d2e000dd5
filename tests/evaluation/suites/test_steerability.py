"""The suite asks for shifts that are known, and asks the same every time."""

import os
from collections import Counter
from pathlib import Path

import pytest

from evaluation.contract.record import Conversation, Split, parse_jsonl
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.suites import steerability
from evaluation.suites.families import SEEN, SuiteError
from evaluation.suites.steerability import Suite
from tests.evaluation.shop import SCHEMA, of_split

TENANTS = Path(os.environ.get("STEERWISE_TENANTS", Path(__file__).parents[4] / "shared" / "data" / "tenants"))

HERE = set(SEEN) - {
    "boundary",
    "reword",
}  # no label says what decided it, and nobody has said the schema otherwise


def build(**options: int) -> Suite:
    return steerability.build(SCHEMA, of_split(Split.test), **options)


def of_family(suite: Suite, family: str) -> list[int]:
    return [i for i, p in enumerate(suite.perturbations) if p.family == family]


def test_every_family_is_there_and_its_items_are_where_it_says() -> None:
    suite = build()
    assert {p.family for p in suite.perturbations[1:]} == HERE
    assert [item.perturbation for item in suite.items] == sorted(item.perturbation for item in suite.items)


def test_families_that_training_never_sees_are_not_in_the_contract() -> None:
    from evaluation.contract import perturb

    unseen = [family for family, seen in SEEN.items() if not seen]
    assert set(unseen) == set(SEEN) - {"swap", "rename", "shuffle", "drop"}
    assert not any(hasattr(perturb, family) for family in unseen)


def test_gold_moves_with_the_definition() -> None:
    suite = build()
    for item in suite.items:
        perturbed = suite.perturbations[item.perturbation]
        meaning = {c.key: c.definition for c in suite.schema.categories}
        now = {c.key: c.definition for c in perturbed.schema.categories}
        if item.gold_before is None or item.gold_after is None:
            assert item.gold_before is None or meaning[item.gold_before] not in now.values()
        elif perturbed.family not in ("novel", "split", "merge"):  # those write definitions of their own
            assert now[item.gold_after] == meaning[item.gold_before]


def test_a_budget_beyond_the_conversations_does_not_make_exchanged_categories_equal() -> None:
    """Where everything is asked, 3 : 1 is of the larger category's conversations, and a third of them of the other."""
    suite = build(max_items=20_000)
    for index in of_family(suite, "swap"):
        moving = Counter(i.gold_before for i in suite.items if i.perturbation == index and i.must_move)
        have = Counter(i.gold_before for i in suite.items if i.perturbation == 0)
        for key, other in suite.perturbations[index].moves.items():
            most, least = sorted((moving[key], moving[str(other)]), reverse=True)
            assert 0 < least <= 0.4 * most
            assert most in (have[key], have[str(other)])


def test_swap_and_cycle_keep_names_and_rename_keeps_meanings() -> None:
    suite = build()
    for index in [*of_family(suite, "swap"), *of_family(suite, "cycle")]:
        changed = suite.perturbations[index].schema
        assert [c.name for c in changed.categories] == [c.name for c in SCHEMA.categories]
        assert sorted(c.definition for c in changed.categories) == sorted(
            c.definition for c in SCHEMA.categories
        )
        assert changed != SCHEMA
    for index in of_family(suite, "rename"):
        changed = suite.perturbations[index].schema
        assert [c.definition for c in changed.categories] == [c.definition for c in SCHEMA.categories]
        assert all(a.name != b.name for a, b in zip(changed.categories, SCHEMA.categories, strict=True))


def test_a_dropped_category_is_gone_and_its_examples_become_none() -> None:
    suite = build()
    for index in of_family(suite, "drop"):
        left = suite.perturbations[index].schema
        assert left.none_of_these
        moving = [item for item in suite.items if item.perturbation == index and item.must_move]
        assert moving
        assert all(item.gold_before not in left.keys and item.gold_after is None for item in moving)


def test_exchanged_meanings_do_not_cancel_in_the_marginals() -> None:
    suite = build()
    for index in [*of_family(suite, "swap"), *of_family(suite, "cycle")]:
        items = [item for item in suite.items if item.perturbation == index]
        before, after = (
            Counter(gold) for gold in zip(*((i.gold_before, i.gold_after) for i in items), strict=True)
        )
        assert any(after[key] - before[key] > 1 for key in SCHEMA.keys)
        assert {item.must_move for item in items} == {True, False}


def test_the_suite_is_the_same_whatever_the_order_of_the_file_and_another_for_another_seed() -> None:
    reversed_file = steerability.build(SCHEMA, of_split(Split.test)[::-1])
    assert reversed_file.sha256 == build().sha256
    assert build(seed=1).sha256 != build().sha256


def test_the_hash_changes_with_a_definition_and_with_a_text() -> None:
    edited = SCHEMA.model_copy(update={"categories": SCHEMA.categories[::-1]})
    assert steerability.build(edited, of_split(Split.test)).sha256 != build().sha256
    first, *rest = of_split(Split.test)
    message = first.messages[0].model_copy(update={"text": "where did you put it"})
    other = first.model_copy(update={"messages": (message,)})
    assert steerability.build(SCHEMA, [other, *rest]).sha256 != build().sha256


@pytest.mark.parametrize("max_items", [80, 300, 1200])
def test_the_budget_holds(max_items: int) -> None:
    assert len(build(max_items=max_items).items) <= max_items * 1.05


def test_every_conversation_of_an_edit_is_also_asked_without_it() -> None:
    suite = build(max_items=400)
    plain = {item.conversation_id for item in suite.items if item.perturbation == 0}
    assert {item.conversation_id for item in suite.items} == plain


def test_accuracy_is_measured_on_a_plain_sample_though_rare_categories_are_enriched() -> None:
    many = [c for c in of_split(Split.test) if c.category == "refund"] * 1
    few = [c for c in of_split(Split.test) if c.category == "size"][:6]
    copies = [c.model_copy(update={"id": f"{c.id}-{n}"}) for c in many for n in range(20)]
    suite = steerability.build(SCHEMA, [*copies, *few], max_items=200)
    natural = Counter(item.gold_before for item in suite.items if item.natural)
    whole = Counter(item.gold_before for item in suite.items if item.perturbation == 0)
    assert whole["size"] == 6
    assert natural["size"] < 6


def test_without_labels_there_is_no_suite() -> None:
    unlabelled = [Conversation(id=c.id, messages=c.messages) for c in of_split(Split.test)]
    with pytest.raises(SuiteError, match="needs labelled ones"):
        steerability.build(SCHEMA, unlabelled)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_schemas_get_the_edits_that_they_allow(count: int) -> None:
    small = CategorySchema(categories=SCHEMA.categories[:count])
    suite = steerability.build(small, of_split(Split.test), max_items=200)
    families = {p.family for p in suite.perturbations[1:]}
    assert families == {1: set(), 2: HERE - {"cycle", "merge"}, 3: HERE}[count]


@pytest.mark.seconds
@pytest.mark.parametrize("tenant", ["multidogo-media", "sgd-travel", "banking77-cards"])
def test_real_tenants_get_a_suite_with_every_family(tenant: str) -> None:
    folder = TENANTS / tenant
    if not folder.is_dir():
        pytest.skip(f"NOT RUN: there is no real tenant in {folder}; name the folder in STEERWISE_TENANTS")
    schema = parse_schema((folder / "schema.json").read_bytes())
    parsed = parse_jsonl((folder / "conversations.jsonl").read_bytes(), schema)
    assert parsed.rejects == []
    suite = steerability.build(schema, [c for c in parsed.conversations if c.split is Split.test])
    assert {p.family for p in suite.perturbations[1:]} == HERE
    moving = Counter(suite.perturbations[i.perturbation].family for i in suite.items if i.must_move)
    assert min(moving[family] for family in ("swap", "cycle", "drop")) >= 50
