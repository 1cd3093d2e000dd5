"""Edits whose right answers are known: by a criterion that can be checked, by what decided a label, or by the edit."""

import contextlib
import hashlib
import json

import pytest

from evaluation.contract.record import Conversation, Message, Role, Split, conversation_from_text, parse_jsonl
from evaluation.contract.schema import Category, CategorySchema, SchemaError, parse_schema
from evaluation.suites import families, steerability
from evaluation.suites.families import SEEN, SuiteError
from evaluation.suites.predicates import LIBRARY, phrase, phrases, share
from evaluation.suites.steerability import Suite
from tests.evaluation.evaluation_run import evaluated
from tests.evaluation.models import habit, oracle
from tests.evaluation.shop import SCHEMA, of_split
from tests.evaluation.suites.test_steerability import TENANTS

ALL = tuple(SEEN)
PREDICATES = {one.name: one for one in LIBRARY}
HOLDS = {
    "amount": ("it cost $ 20.50", "it cost me 20 dollars", "it cost me a lot"),
    "date": ("on 3 May please", "it came on 2026-05-03", "it may come on the third"),
    "order_number": ("order #1234", "my reference AB-12345", "order 12"),
    "email": ("write to jo.doe@mail.org", "it is a_b+c@x.io", "write to me at home"),
    "question": ("where is it?", "is it here? tell me", "where is it"),
    "number": ("I have 2", "flat 7b", "I have two"),
    "time_of_day": ("at 5 pm", "by 17:30", "at noon"),
    "please": ("please help", "Help, PLEASE", "it pleases me"),
    "thanks": ("ok thanks", "Thank you", "no thanksgiving"),
    "long": ("word " * 30, "a b c d e " * 6, "few words"),
}


def talk(*texts: str, first: Role = Role.customer) -> Conversation:
    opening = (Message(role=Role.agent, text="hello"),) if first is Role.agent else ()
    messages = (*opening, *(Message(role=Role.customer, text=text) for text in texts))
    return Conversation(id=" ".join(texts), messages=messages)


@pytest.mark.parametrize("name", HOLDS)
def test_what_a_predicate_says_can_be_seen(name: str) -> None:
    *met, missed = HOLDS[name]
    assert [PREDICATES[name].holds(talk(text)) for text in met] == [True] * len(met)
    assert not PREDICATES[name].holds(talk(missed))


def test_turns_and_who_began_are_predicates_too() -> None:
    assert PREDICATES["several_messages"].holds(talk("a", "b", "c"))
    assert not PREDICATES["several_messages"].holds(talk("a", "b"))
    assert PREDICATES["agent_began"].holds(talk("a", first=Role.agent))
    assert not PREDICATES["agent_began"].holds(talk("a"))
    named = {"several_messages", "agent_began"} | HOLDS.keys()
    assert named == PREDICATES.keys()  # every predicate is tried above


def test_every_predicate_can_be_said_in_several_ways_and_denied() -> None:
    for one in (*LIBRARY, phrase("my order")):
        assert len(set(one.wordings)) == len(one.wordings) >= 2
        assert len(set(one.negations)) == len(one.negations) >= 2
        assert not set(one.wordings) & set(one.negations)


def test_phrases_are_those_that_many_conversations_share() -> None:
    told = [
        conversation_from_text(text) for text in ("where is my order", "cancel my order", "a lamp", "a rug")
    ]
    (found,) = phrases(told, 0.5, 0.6)
    assert [found.holds(one) for one in told] == [True, True, False, False]
    assert share(found, told) == 0.5
    assert not phrase("my order").holds(conversation_from_text("dummy orders"))


def test_a_new_category_takes_whoever_meets_its_criterion_from_all_others() -> None:
    told = of_split(Split.test)
    edit = families.novel(SCHEMA, phrase("the lamp"), 1, told)
    *old, new = edit.schema.categories
    assert tuple(old) == SCHEMA.categories and "writes 'the lamp'" in new.definition
    for one in told:
        wanted = new.key if "the lamp" in one.said[0] else one.category
        assert edit.gold(one.category, one.id) == wanted
    assert {edit.gold(one.category, one.id) for one in told} > {new.key, None}


def test_a_split_category_is_divided_by_what_can_be_seen() -> None:
    told = of_split(Split.test)
    edit = families.split(SCHEMA, "refund", phrase("the lamp"), 0, told)
    with_it, without = (c for c in edit.schema.categories if c.key not in SCHEMA.keys)
    assert "refund" not in edit.schema.keys and len(edit.schema.keys) == len(SCHEMA.keys) + 1
    assert with_it.definition == (
        "The customer wants money back for a purchase, and the customer uses the words 'the lamp'"
    )
    assert "does not use" in without.definition
    for one in told:
        half = with_it if "the lamp" in one.said[0] else without
        assert edit.gold(one.category, one.id) == (half.key if one.category == "refund" else one.category)


def test_two_categories_become_one_with_all_that_they_said() -> None:
    schema = CategorySchema(
        categories=(
            Category(key="a", name="A", definition="wants a.", includes=("a1",), excludes=("no a.",)),
            Category(key="b", name="B", definition="wants b.", includes=("b1",)),
            Category(key="c", name="C", definition="wants c."),
        )
    )
    edit = families.merge(schema, "a", "b")
    one, rest = edit.schema.categories
    assert (one.definition, one.includes, rest.key) == (
        "either wants a, but not if no a; or wants b",
        ("a1", "b1"),
        "c",
    )
    assert [edit.gold(key) for key in ("a", "b", "c")] == [one.key, one.key, "c"]
    with pytest.raises(SuiteError, match="one would be left"):
        families.merge(CategorySchema(categories=schema.categories[:2]), "a", "b")


BORDER = CategorySchema(
    name="border",
    none_of_these=True,
    categories=(
        Category(
            key="parcel", name="Parcel", definition="a parcel is late", includes=("the courier was rude",)
        ),
        Category(key="money", name="Money", definition="money is owed"),
    ),
)


def decided(count: int) -> list[Conversation]:
    """Half of the parcels are decided by the include; of a quarter nothing is known."""
    said = Message(role=Role.customer, text="hello")
    criteria = [None, "the courier was rude", "the courier was rude", "a parcel is late"]
    return [
        Conversation(id=f"p{n}", messages=(said,), category="parcel", criterion=criteria[n % 4])
        for n in range(count)
    ] + [Conversation(id=f"m{n}", messages=(said,), category="money") for n in range(count)]


@pytest.mark.parametrize("target", ["money", None])
def test_an_include_takes_with_it_what_it_decides_and_nothing_else(target: str | None) -> None:
    told = decided(8)
    edit = families.boundary(BORDER, "parcel", "the courier was rude", target, told)
    parcel, money = edit.schema.categories
    assert parcel.includes == ()
    assert (parcel.excludes, money.includes) == (
        (("the courier was rude",), ()) if target is None else ((), ("the courier was rude",))
    )
    for one in told:
        moves = one.criterion == "the courier was rude"
        assert edit.gold(one.category, one.id) == (target if moves else one.category)
    closed = BORDER.model_copy(update={"none_of_these": False})
    if target is None:
        with pytest.raises(SuiteError, match="none of these"):
            families.boundary(closed, "parcel", "the courier was rude", None, told)


def test_without_known_deciders_no_boundary_is_moved() -> None:
    assert "boundary" not in {p.family for p in everything().perturbations}
    benchmark = steerability.build(BORDER, decided(40), max_items=200, families=("boundary",))
    assert {p.family for p in benchmark.perturbations[1:]} == {"boundary"}
    by_id = benchmark.conversations
    moved = [item for item in benchmark.items if item.must_move]
    assert moved and all(by_id[item.conversation_id].criterion == "the courier was rude" for item in moved)


def test_a_rewording_moves_nothing_and_must_be_of_the_same_categories() -> None:
    said_otherwise = SCHEMA.model_copy(
        update={
            "categories": tuple(
                c.model_copy(update={"definition": f"In other words: {c.definition}"})
                for c in SCHEMA.categories
            )
        }
    )
    benchmark = everything(rewordings={"by hand": said_otherwise})
    (index,) = [i for i, p in enumerate(benchmark.perturbations) if p.family == "reword"]
    assert benchmark.perturbations[index].detail == "by hand"
    assert not any(item.must_move for item in benchmark.items if item.perturbation == index)
    fewer = SCHEMA.model_copy(update={"categories": SCHEMA.categories[1:]})
    with pytest.raises(SuiteError, match="by hand does not have the same categories: refund"):
        everything(rewordings={"by hand": fewer})


def test_a_family_that_does_not_exist_is_named() -> None:
    with pytest.raises(SuiteError, match="no family twist"):
        steerability.build(SCHEMA, of_split(Split.test), families=("swap", "twist"))


def test_a_suite_is_the_same_whoever_builds_it() -> None:
    first = ("swap", "cycle", "drop", "rename", "shuffle")
    benchmark = steerability.build(SCHEMA, of_split(Split.test), max_items=600, families=first)
    edits = [[p.family, p.detail, p.schema.sha256] for p in benchmark.perturbations]
    asked = json.dumps(edits + [list(item) for item in benchmark.items])
    # Another value means that reports of before and after cannot be compared.
    assert hashlib.sha256(asked.encode()).hexdigest().startswith("fbc0823784c19098")
    more = everything(max_items=600)
    assert [i for i in more.items if not i.perturbation] == [i for i in benchmark.items if not i.perturbation]


def test_families_that_a_schema_or_its_labels_have_no_place_for_are_left_out_with_the_reason() -> None:
    assert everything().left_out.keys() == {"boundary", "reword"}
    assert "`criterion`" in everything().left_out["boundary"]
    two = SCHEMA.model_copy(update={"categories": SCHEMA.categories[:2]})
    assert {"cycle", "merge"} < steerability.build(two, of_split(Split.test)).left_out.keys()


@pytest.mark.parametrize(
    "more", [{"definition": "The customer asks. " + "And so on. " * 110}, {"key": "k" * 120}]
)
def test_an_edit_that_would_be_no_schema_any_more_is_left_out(more: dict[str, str]) -> None:
    """Two definitions together, or two keys, may be longer than one may be."""
    long = [
        category.model_copy(update={name: f"{text}{number}" for name, text in more.items()})
        for number, category in enumerate(SCHEMA.categories)
    ]
    keys = dict(zip(SCHEMA.keys, (one.key for one in long), strict=True))
    asked = [c.model_copy(update={"category": keys.get(c.category)}) for c in of_split(Split.test)]
    schema = SCHEMA.model_copy(update={"categories": tuple(long)})
    made = steerability.build(schema, asked, max_items=1000, families=ALL)
    assert "more together than one may" in made.left_out["merge"] and len(made.perturbations) > 10
    for edit in made.perturbations:
        assert CategorySchema.model_validate(edit.schema.model_dump()) == edit.schema


def everything(max_items: int = 1000, **options: dict[str, CategorySchema]) -> Suite:
    return steerability.build(SCHEMA, of_split(Split.test), max_items=max_items, families=ALL, **options)  # type: ignore[arg-type]


def test_one_that_follows_definitions_passes_every_family_and_a_habit_none() -> None:
    benchmark = everything()
    report = evaluated({"habit": habit(), "oracle": oracle()}, benchmark)
    ignorant, good = report.stages
    assert good.per_family.keys() == set(ALL) - {"boundary", "reword"}
    assert good.steerability.value == pytest.approx(1.0)
    for name, family in good.per_family.items():
        assert family.flip_accuracy.value in (None, 1.0) and family.invariance.value in (None, 1.0), name
    assert ignorant.steerability.value is not None and ignorant.steerability.value < 0.3
    for name in ("novel", "split", "merge"):  # a fixed code may stand for one of two halves by chance
        assert (ignorant.per_family[name].flip_accuracy.value or 0) < 0.5, name
        assert not ignorant.per_family[name].seen


@pytest.mark.parametrize("tenant", ["sgd-travel", "sgd-services"])
def test_real_tenants_are_asked_in_their_own_rewordings(tenant: str) -> None:
    folder = TENANTS / tenant
    if not folder.is_dir():
        pytest.skip(f"NOT RUN: there is no real tenant in {folder}; name the folder in STEERWISE_TENANTS")
    schema = parse_schema((folder / "schema.json").read_bytes())
    files = sorted(folder.glob("schema.reworded-*.json"))
    rewordings = {}
    for path in files:
        with contextlib.suppress(SchemaError):  # some of the published rewordings use a name twice
            rewordings[path.name] = parse_schema(path.read_bytes())
    assert rewordings
    told = parse_jsonl((folder / "conversations.jsonl").read_bytes(), schema).conversations
    held_out = [c for c in told if c.split is Split.test]
    benchmark = steerability.build(schema, held_out, families=ALL, rewordings=rewordings)
    found = {p.family for p in benchmark.perturbations[1:]}
    assert found == set(ALL) - {"boundary"}
    for item in benchmark.items:
        assert item.gold_after in benchmark.perturbations[item.perturbation].schema.answers
    moving = {benchmark.perturbations[i.perturbation].family for i in benchmark.items if i.must_move}
    assert moving == {"swap", "cycle", "drop", "novel", "split", "merge"}
