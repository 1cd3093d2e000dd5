"""The further businesses keep the rules of their kind, and training draws from them by a share of its own."""

import random
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

from evaluation.contract.parse import decided_by, parse
from training.base import businesses
from training.base.answers import reasoned
from training.base.businesses import Business
from training.base.lessons import PHASES, LessonPhase, Source

FURTHER = businesses.load_further()
KEPT_WITH_THE_OTHERS = businesses.load()


def rows() -> Iterator[tuple[Business, dict[str, Any]]]:
    return ((shop, row) for shop in FURTHER.values() for row in shop.conversations)


def said(row: dict[str, Any]) -> str:
    return " ".join(message["text"] for message in row["messages"])


def conditions(category: dict[str, Any]) -> list[str]:
    return [
        category["definition"],
        *category["reworded"],
        *category["includes"],
        *category["excludes"],
    ]


def test_none_of_them_is_a_business_of_the_other_folder_or_says_what_one_of_those_says() -> None:
    assert len(FURTHER) >= 80 and not set(FURTHER) & set(KEPT_WITH_THE_OTHERS)
    others = {said(row) for shop in KEPT_WITH_THE_OTHERS.values() for row in shop.conversations}
    own = [said(row) for _, row in rows()]
    assert not others.intersection(own) and len(set(own)) == len(own)


def test_every_one_is_a_schema_in_each_of_its_wordings_and_no_condition_stands_twice() -> None:
    for shop in FURTHER.values():
        assert 3 <= len(shop.categories) <= 20
        assert len({businesses.schema_of(shop, wording).sha256 for wording in range(3)}) == 3
        stated = list(chain.from_iterable(conditions(category) for category in shop.categories))
        assert len(set(stated)) == len(stated), shop.name


def test_what_decides_stands_in_the_category_and_what_is_quoted_was_said_by_the_customer() -> None:
    for shop, row in rows():
        if row["category"] is None:
            assert shop.none_of_these and row["criterion"] is None
        else:
            own = shop.category(row["category"])
            assert row["criterion"] in (own["definition"], *own["includes"])
        assert row["messages"][-1]["role"] == "customer"
        customer = [message["text"] for message in row["messages"] if message["role"] == "customer"]
        assert any(row["quote"] in text for text in customer), (shop.name, row["gist"])
        assert 0 < len(row["quote"].split()) <= 25 and 0 < len(row["gist"].split()) <= 14


def test_the_reasons_of_every_conversation_are_read_back_under_its_whole_schema() -> None:
    codes = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for shop in FURTHER.values():
        schema = businesses.schema_of(shop)
        for number, row in enumerate(shop.conversations):
            example = businesses.example_of(row, shop, schema, number)
            answer = parse(reasoned(example, schema, codes), schema, codes)
            assert (answer.category, answer.failure) == (row["category"], None), (shop.name, row["gist"])
            decided = decided_by(answer.reasoning, schema, answer.category)
            assert row["category"] is None or decided is not None, (shop.name, row["gist"])


def test_an_exclude_takes_another_category_away_and_never_the_answer() -> None:
    for shop, row in rows():
        for aside in row["set_aside"]:
            assert aside["key"] != row["category"]
            assert aside["exclude"] in shop.category(aside["key"])["excludes"]


def test_every_category_include_and_exclude_decides_something() -> None:
    for shop in FURTHER.values():
        answers = [row["category"] for row in shop.conversations]
        assert all(answers.count(category["key"]) >= 2 for category in shop.categories), shop.name
        assert (None in answers) == shop.none_of_these
        deciding = {(row["category"], row["criterion"]) for row in shop.conversations}
        aside = {(s["key"], s["exclude"]) for row in shop.conversations for s in row["set_aside"]}
        for category in shop.categories:
            assert {(category["key"], text) for text in category["includes"]} <= deciding
            assert {(category["key"], text) for text in category["excludes"]} <= aside


@pytest.mark.parametrize("phase", PHASES[1:])
def test_the_training_draws_from_them_by_their_share(phase: LessonPhase) -> None:
    only_businesses = phase._replace(shares=phase.shares._replace(corpus=0.0, yes_or_no=0.0, world=0.0))
    source = Source(businesses.for_training(KEPT_WITH_THE_OTHERS), list(FURTHER.values()), corpus=None)
    rng = random.Random(0)
    names = [source.problem(only_businesses, rng).schema.name for _ in range(150)]
    share = phase.shares.further / (phase.shares.further + phase.shares.business)
    assert 0 < share < 1 and abs(sum(name in FURTHER for name in names) / len(names) - share) < 0.12


def test_the_shares_of_every_phase_add_up_to_one() -> None:
    assert all(abs(sum(phase.shares) - 1) < 1e-9 for phase in PHASES)
