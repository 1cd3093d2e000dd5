"""Accuracy on schemas that the model was not trained for, through HTTP."""

import asyncio
from collections import Counter

import pytest

from evaluation.contract.record import Conversation
from evaluation.contract.render import condition_text, plain
from evaluation.contract.schema import CategorySchema
from evaluation.inference import runner
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics import out_of_distribution
from evaluation.metrics.out_of_distribution import OutOfDistributionReport
from evaluation.suites.families import SuiteError
from evaluation.suites.out_of_distribution import OutOfDistributionSuite, build
from tests.evaluation.fake_server import Asked, FakeServer, Model, Reply, predictor, says
from tests.evaluation.shop import SCHEMA, conversations

SHIPPED = out_of_distribution.shipped()


def model(knows: frozenset[str]) -> Model:
    """Right on the schemas whose names it knows; elsewhere it always takes the first category."""
    fits = {
        plain(c.said[-1]): condition_text(schema.category(c.category).definition) if c.category else None
        for schema, members in SHIPPED
        if schema.name in knows
        for c in members
    }

    def answer(asked: Asked) -> Reply:
        if asked.customer not in fits:
            return says(asked.options[0].code)
        wanted = fits[asked.customer]
        code = next((o.code for o in asked.options if o.definition == wanted), asked.none_code)
        assert code is not None
        return says(code)

    return answer


def asked_of(server: FakeServer, suite: OutOfDistributionSuite) -> list[Measured]:
    return asyncio.run(runner.run(suite.questions, predictor(server), model="fake"))


@pytest.fixture(scope="module")
def suite() -> OutOfDistributionSuite:
    return build(SHIPPED)


@pytest.fixture(scope="module")
def report(suite: OutOfDistributionSuite) -> OutOfDistributionReport:
    """The base knows all three schemas, and training has lost the library."""
    names = [schema.name for schema, _ in SHIPPED]
    servers = {"base": FakeServer(model(frozenset(names))), "rl": FakeServer(model(frozenset(names[:2])))}
    return out_of_distribution.score(
        suite, {stage: asked_of(server, suite) for stage, server in servers.items()}
    )


def test_three_schemas_ship_with_twenty_conversations_each_and_every_answer_has_some() -> None:
    assert len(SHIPPED) == 3
    for schema, members in SHIPPED:
        assert len(members) >= 20
        assert {c.category for c in members} == set(schema.answers)
        assert max(Counter(c.category for c in members).values()) <= 5
    texts = [c.said for _, members in SHIPPED for c in members]
    assert len(set(texts)) == len(texts)


def test_what_training_has_lost_on_other_schemas_is_found(report: OutOfDistributionReport) -> None:
    base, rl = report.stages
    assert (base.accuracy.value, base.accuracy_gain) == (1.0, None)
    assert rl.accuracy_gain is not None
    assert rl.accuracy_gain.ci95 is not None
    assert rl.accuracy_gain.ci95[1] < 0
    assert base.accuracy.value is not None
    assert rl.accuracy.value is not None
    assert rl.accuracy_gain.value == pytest.approx(rl.accuracy.value - base.accuracy.value)
    lost = [name for name, measure in rl.per_schema.items() if measure.value != 1]
    assert lost == ["A city library"]
    assert rl.accuracy.n == sum(measure.n for measure in rl.per_schema.values()) == report.items


def test_failed_requests_are_in_no_accuracy_and_unreadable_answers_are_wrong(
    suite: OutOfDistributionSuite,
) -> None:
    everything = model(frozenset(schema.name for schema, _ in SHIPPED))
    measured = asked_of(FakeServer(everything, failing=(400,) * 5), suite)
    [stage] = out_of_distribution.score(suite, {"rl": measured}).stages
    assert (stage.accuracy.value, stage.accuracy.n) == (1.0, len(suite.items) - 5)
    assert stage.errored.value == 5 / len(suite.items)
    assert stage.accuracy_gain is None

    mute = FakeServer(lambda _: Reply("I cannot say."), knows_token_ids=False)
    [stage] = out_of_distribution.score(suite, {"rl": asked_of(mute, suite)}).stages
    assert (stage.accuracy.value, stage.unparsable.value, stage.errored.value) == (0.0, 1.0, 0.0)


def test_nothing_measured_has_no_value(suite: OutOfDistributionSuite) -> None:
    failed = [
        Measured(item=i, outcome=Outcome.errored, prediction=None, error="no server")
        for i in range(len(suite.items))
    ]
    found = out_of_distribution.score(suite, {"base": failed, "rl": failed}).stages[1]
    assert found.accuracy.value is None
    assert found.accuracy_gain is not None
    assert found.accuracy_gain.value is None
    assert {measure.value for measure in found.per_schema.values()} == {None}


def test_a_small_budget_is_shared_among_the_schemas_and_the_seed_decides_who_is_in() -> None:
    others = [*SHIPPED, (SCHEMA, conversations())]
    small = build(others, seed=1, max_items=40)
    assert Counter(item.schema for item in small.items) == {0: 10, 1: 10, 2: 10, 3: 10}
    assert small == build(list(others), seed=1, max_items=40)
    assert small.sha256 != build(others, seed=2, max_items=40).sha256
    assert len(build(others, max_items=10_000).items) == sum(len(members) for _, members in others)
    assert [item.schema for item in small.items] == sorted(item.schema for item in small.items)


def test_two_schemas_may_have_conversations_of_one_id() -> None:
    twin = SCHEMA.model_copy(update={"name": "twin"})
    suite = build([(SCHEMA, conversations()[:30]), (twin, conversations()[:30])])
    measured = asked_of(FakeServer(lambda asked: says(asked.options[0].code)), suite)
    assert out_of_distribution.score(suite, {"rl": measured}).stages[0].accuracy.n == 60


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], "at least one"),
        ([(SCHEMA, conversations()), (SCHEMA, conversations())], "a name of its own"),
        ([(SCHEMA, SHIPPED[2][1])], "no conversation has a label of the schema 'shop'"),
    ],
)
def test_without_labelled_conversations_of_each_schema_there_is_no_suite(
    others: list[tuple[CategorySchema, list[Conversation]]], said: str
) -> None:
    with pytest.raises(SuiteError, match=said):
        build(others)
