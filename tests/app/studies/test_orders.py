"""What the order of the options does to answers, and what averaging over orders takes of it away."""

import random

import anyio
import httpx
import numpy as np
import pytest

from app.errors import InputError
from app.studies import orders as study
from app.studies import samples
from app.studies.orders import ConversationReads, OrdersMeasured, OrdersRequest, averaged, orders_of
from app.studies.samples import TenantSample
from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.inference.predictor import VllmPredictor
from tests.app.studies.quiet import QUIET
from tests.evaluation import models
from tests.evaluation.fake_server import CODES, Asked, FakeServer, Model, Reply
from tests.evaluation.shop import SCHEMA, of_split

TENANT = TenantSample("shop", SCHEMA, of_split(Split.test)[:24], [])


def measured(model: Model, tenant: TenantSample = TENANT, failing: int = 0) -> OrdersMeasured:
    server = FakeServer(model)
    server.failing = [400] * failing

    async def run() -> OrdersMeasured:
        transport = httpx.ASGITransport(server)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            predictor = VllmPredictor(client, "base", CODES, mode=Mode.fast)
            return await study.compare(OrdersRequest([tenant], 3, 4, Mode.fast, 0), predictor, 1, QUIET)

    return anyio.run(run)


def first_shown(asked: Asked) -> Reply:
    """Whatever is said."""
    count = len(asked.options)
    shares = {one.code: float(count - n) ** 2 for n, one in enumerate(asked.options)}
    return Reply("", {code: share / sum(shares.values()) for code, share in shares.items()})


def leaning(asked: Asked) -> Reply:
    """Sees what is right, and a little less than that what stands first."""
    (right,) = models.oracle()(asked).probabilities
    first = asked.options[0].code
    return Reply("", {right: 0.48, first: 0.52} if first != right else {right: 1.0})


def test_who_reads_definitions_answers_alike_under_every_order() -> None:
    found = measured(models.oracle())
    assert [row.orders for row in found.together] == [1, 2, 4]
    for row in found.together:
        assert (row.changed.value, row.ever_changed.value, row.accuracy.value) == (0.0, 0.0, 1.0)
        assert row.accuracy.n == len(TENANT.asked) and row.changed.ci95 is not None
    assert found.by_tenant["shop"] == found.together and found.errored == 0


def test_who_takes_the_first_changes_with_the_order_and_is_found_out() -> None:
    found = measured(first_shown)
    single = found.together[0]
    assert single.changed.value is not None and single.changed.value > 0.5
    assert single.ever_changed.value == 1.0
    assert found.first.value == 1.0 and found.last.value == 0.0
    assert found.even == pytest.approx(1 / len(SCHEMA.categories))
    assert single.gain.value == 0.0


def test_averaging_brings_back_what_a_liking_for_the_first_place_took() -> None:
    single, two, four = measured(leaning).together
    assert single.accuracy.value is not None and single.accuracy.value < 0.5
    assert two.accuracy.value == four.accuracy.value == 1.0
    assert two.gain.value == pytest.approx(1 - single.accuracy.value)
    assert two.changed.value == 0.0


def test_a_conversation_without_all_of_its_reads_is_left_out_and_counted() -> None:
    found = measured(models.oracle(), failing=1)
    assert found.errored == 1 and found.together[0].accuracy.n == len(TENANT.asked) - 1


def test_every_category_stands_at_several_places_of_each_order() -> None:
    for schemas in orders_of(SCHEMA, 3, 4, seed=0):
        assert len(schemas) == 4
        assert {frozenset(one.keys) for one in schemas} == {frozenset(SCHEMA.keys)}
        for key in SCHEMA.keys:
            assert len({one.keys.index(key) for one in schemas}) == 4
    assert (
        orders_of(SCHEMA, 3, 4, seed=0) == orders_of(SCHEMA, 3, 4, seed=0) != orders_of(SCHEMA, 3, 4, seed=1)
    )


def test_shares_are_counted_by_pairs_of_orders() -> None:
    shares = np.array([[[0.6, 0.4], [0.1, 0.9]], [[0.6, 0.4], [0.6, 0.4]], [[0.2, 0.8], [0.3, 0.7]]])
    one = ConversationReads("shop", "1", ("a", "b"), "a", shares, {})
    single, right = averaged([one, one._replace(conversation="2")], 1)
    assert (single.changed.value, single.ever_changed.value) == (pytest.approx(2 / 3), 1.0)
    assert single.accuracy.value == pytest.approx(2 / 3) and right == [pytest.approx(2 / 3)] * 2
    both, _ = averaged([one, one._replace(conversation="2")], 2, right)
    assert both.accuracy.value == pytest.approx(1 / 3)  # b, a, b
    assert both.gain.value == pytest.approx(-1 / 3)


def test_what_is_asked_and_what_is_tuned_by_have_no_text_in_common() -> None:
    (drawn,) = samples.draw(["business:city_bike_app"], 60, 50, 0)
    assert (len(drawn.asked), len(drawn.tuning)) == (60, 50)
    assert not {c.said for c in drawn.asked} & {c.said for c in drawn.tuning}
    assert samples.draw(["business:city_bike_app"], 60, 50, 0) == [drawn]
    (few,) = samples.draw(["business:city_bike_app"], 10_000, 50, random.Random(1).randint(0, 9))
    assert len(few.tuning) == 50 < len(few.asked)


def test_nobody_is_asked_twice() -> None:
    with pytest.raises(InputError, match="named twice"):
        samples.draw(["business:city_bike_app"] * 2, 10, 10, 0)


@pytest.mark.parametrize("source", ["business:bakery", "business:no_such_one", "nowhere"])
def test_a_tenant_that_the_base_has_learned_from_is_refused(source: str) -> None:
    with pytest.raises(InputError):
        samples.draw([source], 10, 10, 0)
