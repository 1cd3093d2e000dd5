"""Whether a teacher's words still mean the same, and which graders can tell."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from evaluation.contract import perturb
from evaluation.contract.record import Split
from evaluation.suites import families
from evaluation.tools.equivalence import Grader, NotGraded, to_try
from evaluation.tools.reword import ROUNDS, NotReworded
from tests.evaluation import models
from tests.evaluation.fake_server import FakeServer, Model, predictor
from tests.evaluation.rewording import WORDS, Server, honest, learned, reworded_by, swaps, understands, words
from tests.evaluation.shop import SCHEMA, conversations


def test_an_honest_teachers_words_are_verified_and_change_nothing_else() -> None:
    server = Server(honest)
    made, said = reworded_by(server)
    assert said == "verified: 100.0% of 105 answers stay (95 %: 96.5% to 100.0%)"
    assert {c.key: c.definition for c in made.categories} == WORDS
    assert [(c.key, c.name) for c in made.categories] == [(c.key, c.name) for c in SCHEMA.categories]
    assert (made.name, made.answers) == (SCHEMA.name, SCHEMA.answers)
    assert families.reword(SCHEMA, made, "reworded-1").moves == {}
    assert Counter(server.asked) == dict.fromkeys(SCHEMA.keys, 1)


def test_a_teacher_who_swaps_two_meanings_is_refused_and_asked_again_for_those_two_alone() -> None:
    server = Server(swaps)
    with pytest.raises(NotReworded, match=r"something else: .* it is for refund, invoice$"):
        reworded_by(server)
    again = {"refund": ROUNDS, "invoice": ROUNDS}
    assert Counter(server.asked) == dict.fromkeys(SCHEMA.keys, 1) | again


def test_a_teacher_who_then_says_it_rightly_is_accepted() -> None:
    server = Server(lambda key, before: words(key) if before else swaps(key, before))
    made, said = reworded_by(server)
    assert said.startswith("verified") and {c.key: c.definition for c in made.categories} == WORDS
    assert len(server.asked) == len(SCHEMA.keys) + 2


def test_only_the_category_whose_words_are_wrong_is_asked_again_and_not_the_one_that_loses_by_them() -> None:
    """A thief gets the words of a victim and stands before it, so that the grader sends the victim's there."""
    opaque = perturb.rename_opaque(SCHEMA, Random(0)).schema
    thief, *_, victim = perturb.shuffle(opaque, Random(0)).schema.keys  # as they are shown to a grader
    server = Server(lambda key, before: words(victim if (key, before) == (thief, 0) else key))
    made, _ = reworded_by(server)
    assert {c.key: c.definition for c in made.categories} == WORDS
    assert server.asked[len(SCHEMA.keys) :] == [thief]


def test_a_swap_is_refused_where_almost_all_answers_stay() -> None:
    """Two rare categories: 6 of 226 answers change."""

    async def found() -> bool:
        rare = [c for c in conversations() if c.category in ("refund", "invoice")][::14]
        often = [c for c in conversations() if c.category not in ("refund", "invoice")]
        grader = Grader(predictor(FakeServer(understands())), SCHEMA, 0.9)
        await grader.prepare([*rare, *often])
        swapped = [
            c.model_copy(update={"definition": json.loads(swaps(c.key, 0))["definition"]})
            for c in SCHEMA.categories
        ]
        seen = await grader.find(SCHEMA.model_copy(update={"categories": tuple(swapped)}))
        assert seen.agreement.value is not None and seen.agreement.value > 0.95
        assert seen.changed == ["refund", "invoice"]
        return grader.accepts(seen)

    assert asyncio.run(found()) is False


@pytest.mark.parametrize("grader", [models.name_reader, models.habit, models.dice])
def test_a_grader_that_does_not_read_definitions_confirms_nothing(grader: Callable[[], Model]) -> None:
    server = Server(swaps, grader())
    with pytest.raises(NotGraded, match="by the definitions alone the grader finds the label of"):
        reworded_by(server)
    assert server.asked == []  # nobody has paid for a teacher


def test_perfect_agreement_on_too_few_conversations_confirms_nothing() -> None:
    with pytest.raises(NotGraded, match="the label of 21 of 21 conversations, which is too few"):
        reworded_by(Server(honest), per_category=3)
    assert "100.0% of 28 answers" in reworded_by(Server(honest), per_category=4)[1]


def test_a_grader_that_fails_is_not_counted_as_one_that_agrees() -> None:
    with pytest.raises(NotGraded, match="the grader did not answer 1 of 105 times: 400"):
        reworded_by(Server(honest, failing=(400,)))


def test_without_a_grader_the_words_are_called_unverified() -> None:
    made, said = reworded_by(Server(swaps), graded=False)
    assert said.startswith("unverified") and made.category("refund").definition == WORDS["invoice"]


def test_what_is_shown_to_a_grader_is_not_held_out_and_balanced() -> None:
    given = conversations()
    repeated = next(c for c in given if c.split is Split.train and c.category == "refund")
    asked = next(c for c in given if c.split is Split.test and c.category == "refund")
    given += [asked.model_copy(update={"id": "again", "split": Split.validation})]
    found = to_try(given, SCHEMA, per_category=100)
    assert {c.split for c in found} == {Split.train} and len(found) == 140 and repeated in found
    assert Counter(c.category for c in learned()) == dict.fromkeys(SCHEMA.answers, 15)
