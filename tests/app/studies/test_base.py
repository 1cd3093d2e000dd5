"""What the base is asked as it stands, and what is made of its answers."""

from pathlib import Path

import pytest

from app.errors import InputError
from app.studies import base as study
from app.studies.base import AnswerRead
from app.studies.base_items import TENANTS, BaseItems, Item, ItemCounts, paper
from training.base import businesses
from training.starter.corpus import is_held

DATA = Path(__file__).parents[4] / "shared" / "data"
asks_data = pytest.mark.skipif(
    not (DATA / "corpus").is_dir(),
    reason=f"{DATA} is not there: the corpus and the tenants are not part of the project",
)


@pytest.mark.seconds
@asks_data
def test_nothing_is_asked_that_training_has_seen_as_an_answer() -> None:
    made = paper(DATA, ItemCounts(intents=8, of_business=2, of_tenant=3), seed=0)
    of_intents = [item for item in made.items if "unseen_intents" in item.parts]
    assert len(of_intents) == 8
    assert all(is_held(item.gold) for item in of_intents if item.gold is not None)
    asked = {item.schema.name for item in made.items if "businesses" in item.parts}
    assert asked == set(businesses.FOR_BENCH)
    assert {part for item in made.items for part in item.parts} >= {f"tenants.{name}" for name in TENANTS}
    told = [item for item in made.items if item.told is not None]
    assert {item.parts for item in told} == {("told_answer",)} and len(told) == 8
    assert made == paper(DATA, ItemCounts(intents=8, of_business=2, of_tenant=3), seed=0)


@pytest.mark.seconds
@asks_data
def test_a_twin_is_the_same_conversation_under_other_words_for_the_same_categories() -> None:
    made = paper(DATA, ItemCounts(intents=4, of_business=1, of_tenant=1), seed=1)
    for one, two in made.twins:
        plain, reworded = made.items[one], made.items[two]
        assert (plain.conversation, plain.gold) == (reworded.conversation, reworded.gold)
        assert plain.schema.keys == reworded.schema.keys
        pairs = zip(plain.schema.categories, reworded.schema.categories, strict=True)
        assert all(a.definition != b.definition for a, b in pairs)


def test_without_the_data_it_is_said_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        paper(tmp_path, ItemCounts(4, 1, 1), seed=0)


def test_answers_become_shares_by_what_was_asked() -> None:
    shop = businesses.load()[businesses.FOR_BENCH[0]]
    schema = businesses.schema_of(shop)
    said = businesses.conversation_of(shop.conversations[0], None, 0)
    one, two = schema.keys[:2]
    items = [
        Item(("unseen_intents",), schema, said, one),
        Item((), schema, said, one),
        Item(("told_answer",), schema, said, one, told="because"),
        Item(("tenants.shop",), schema, said, None),
    ]
    answers = [AnswerRead(one, True), AnswerRead(two, True), AnswerRead(one, False), AnswerRead("", False)]
    measured = study._measures(BaseItems(items, [(0, 1)]), answers)
    assert {name: (m.value, m.n) for name, m in measured.items()} == {
        "unseen_intents": (1.0, 1),
        "told_answer": (1.0, 1),
        "tenants.shop": (0.0, 1),  # an unreadable answer is wrong, and not none of these
        "reworded_agreement": (0.0, 1),
        "readable": (pytest.approx(2 / 3), 3),
    }
    shown = study.as_json({"fast": measured})
    assert set(shown["fast"]) == {
        "unseen_intents",
        "told_answer",
        "reworded_agreement",
        "readable",
        "tenants",
    }
    assert set(shown["fast"]["tenants"]) == {"shop"}  # type: ignore[call-overload]
