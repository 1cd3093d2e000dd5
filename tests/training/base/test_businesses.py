"""Every draw from a business has one right answer, and says why in words that its own schema shows."""

import random

import pytest

from evaluation.contract.parse import decided_by, parse
from evaluation.contract.render import NONE_TEXT
from training.base import businesses
from training.base.answers import reasoned
from training.base.businesses import FOR_BENCH, FOR_GATES, Business, BusinessDraw

SHOPS = businesses.load()
FURTHER = businesses.load_further()


def test_what_is_kept_for_gates_and_for_the_bench_is_never_trained_on() -> None:
    kept = set(FOR_GATES + FOR_BENCH)
    assert len(kept) == 15 and kept < set(SHOPS)
    trained = {shop.name for shop in businesses.for_training(SHOPS)}
    assert trained == set(SHOPS) - kept


def test_every_business_is_a_schema_in_each_of_its_wordings() -> None:
    for shop in SHOPS.values():
        made = [businesses.schema_of(shop, wording) for wording in range(3)]
        assert len({schema.sha256 for schema in made}) == 3
        assert all(schema.keys == made[0].keys for schema in made)


@pytest.mark.parametrize("drawn", [SHOPS, FURTHER], ids=["main", "further"])
def test_a_drawn_answer_is_right_by_the_schema_that_is_shown(drawn: dict[str, Business]) -> None:
    rng, shops = random.Random(0), list(drawn.values())
    moved = 0
    for _ in range(300):
        problem = businesses.sample_problem(shops, rng, BusinessDraw((2, 9), 0.3), 8)
        codes = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        for example in problem.examples:
            verdict = example.verdict
            own = problem.schema.category(verdict.key) if verdict.key else None
            shown = (own.definition, *own.includes) if own else (NONE_TEXT,)
            assert verdict.decider in shown
            answer = parse(reasoned(example, problem.schema, codes), problem.schema, codes)
            assert (answer.category, answer.failure) == (verdict.key, None)
            if own:
                assert decided_by(answer.reasoning, problem.schema, verdict.key) is not None
            moved += own is not None and example.conversation.category != verdict.key
    assert moved == 0


def test_a_yes_or_no_question_has_both_answers() -> None:
    rng = random.Random(1)
    given = [
        example.verdict.key
        for _ in range(30)
        for example in businesses.yes_or_no(list(SHOPS.values()), rng, 8).examples
    ]
    assert 0.3 < given.count("yes") / len(given) < 0.7
