"""Options without a schema: in which order they are read, how many in a prompt, and how shares are put together."""

import math
import random
from typing import Any

import pytest
from jevbench.relations.diagnostics import _candidates

from app.decisions.ad_hoc import on_one_scale
from app.decisions.question import DecisionQuestion, Option, QuestionKind
from app.decisions.shown import orders_of
from tests.app.decisions.clients import Clients
from tests.app.decisions.models import first_shown, undecided
from tests.evaluation.fake_server import FakeServer

pytestmark = pytest.mark.anyio
OPTIONS = {"b": "the second", "a": "the first", "d": None, "c": "the third"}


async def asked(clients: Clients, criteria: Any, **more: Any) -> dict[str, Any]:
    question = {"type": "score" if isinstance(criteria, list) else "choice", "criteria": criteria}
    body = {"model": "steerwise", "state": "the third", "questions": {"q": question}} | more
    found = await clients.plain.post("/v1/systemone", json=body)
    answer: dict[str, Any] = found.raise_for_status().json()["answers"]["q"]
    return answer


def shuffled(names: list[str], seed: int) -> dict[str, None]:
    """Options without descriptions."""
    return dict.fromkeys(random.Random(seed).sample(names, len(names)))


async def test_the_order_in_which_options_are_written_decides_nothing(
    clients: Clients, server: FakeServer
) -> None:
    server.model = first_shown
    one = await asked(clients, OPTIONS)
    other = await asked(clients, dict(reversed(OPTIONS.items())))
    assert one["probabilities"] == other["probabilities"] and one["choice"] == other["choice"]
    assert list(one["probabilities"]) == list(OPTIONS)  # as the caller wrote them all the same
    first, second = server.bodies
    assert first["messages"] == second["messages"]


@pytest.mark.parametrize("count", [3, 255])
async def test_of_equal_options_the_same_is_chosen_in_whichever_order_they_are_written(
    clients: Clients, server: FakeServer, count: int
) -> None:
    server.model = undecided
    names = [f"option {n}" for n in range(count)]
    answers = [await asked(clients, shuffled(names, seed)) for seed in range(3)]
    assert len({answer["choice"] for answer in answers}) == 1
    assert answers[0]["probabilities"] == answers[1]["probabilities"] == answers[2]["probabilities"]


async def test_names_that_a_reader_takes_for_one_are_numbered_in_whichever_order_they_are_written(
    clients: Clients, server: FakeServer
) -> None:
    server.model = first_shown
    for seed in range(3):
        await asked(clients, shuffled(["Refund", "refund", "REFUND", "other"], seed))
    first, *others = (body["messages"] for body in server.bodies)
    assert "name: Refund (2)\n" in first[0]["content"] and "name: refund (3)\n" in first[0]["content"]
    assert others == [first] * 2


async def test_an_option_may_be_called_and_described_as_a_whole_category_is(
    clients: Clients, server: FakeServer
) -> None:
    """Also one of two categories that were merged."""
    name, told = "late_parcel_" * 25, "The third. " + "Includes: the customer asks about it. " * 100
    assert (await asked(clients, {name: told, "other": None}))["choice"] == name
    shown = server.bodies[0]["messages"][0]["content"]
    assert f"name: {name}\n" in shown and told[5:].strip().removesuffix(".") in shown


async def test_over_all_orders_what_stands_first_has_no_advantage(
    clients: Clients, server: FakeServer
) -> None:
    server.model = first_shown
    single = await asked(clients, OPTIONS)
    assert max(single["probabilities"].values()) > 0.5
    for orders, reads in ((4, 4), (9, 4)):
        averaged = await asked(clients, OPTIONS, orders=orders)
        assert averaged["probabilities"] == pytest.approx(dict.fromkeys(OPTIONS, 0.25))
        assert averaged["confidence"] == pytest.approx(0.0, abs=1e-9)
        assert (averaged["steerwise"]["orders"], averaged["steerwise"]["reads"]) == (reads, reads)


def test_levels_keep_their_order_upwards_and_downwards() -> None:
    levels = tuple(Option(str(n), str(n), f"level {9 - n}") for n in range(4))
    question = DecisionQuestion("here", QuestionKind.score, None, levels)
    assert orders_of(question, 1) == [[0, 1, 2, 3]]
    assert orders_of(question, 8) == [[0, 1, 2, 3], [3, 2, 1, 0]]


def test_every_option_of_a_choice_stands_in_every_place_once() -> None:
    options = tuple(Option(name, name, None) for name in "dacb")
    orders = orders_of(DecisionQuestion("here", QuestionKind.choice, None, options), 4)
    assert orders[0] == [1, 3, 2, 0]
    for place in range(4):
        assert sorted(order[place] for order in orders) == [0, 1, 2, 3]


async def test_255_options_are_read_in_groups_and_once_more(clients: Clients, server: FakeServer) -> None:
    criteria = {f"kind {n}": f"word{n}" for n in range(254)} | {"it": "the third"}
    answer = await asked(clients, criteria)
    assert answer["choice"] == "it" and len(answer["probabilities"]) == 255
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["steerwise"]["reads"] == len(server.bodies) == 4
    shown = [body["messages"][0]["content"].count("\nname: ") for body in server.bodies]
    assert sorted(shown) == [85, 85, 85, 99]


async def test_options_that_do_not_fit_into_one_prompt_are_read_in_more(
    clients: Clients, server: FakeServer
) -> None:
    criteria = {f"kind {n}": f"word{n} " + "and some more of it " * 90 for n in range(20)} | {
        "it": "the third"
    }
    answer = await asked(clients, criteria)
    assert answer["choice"] == "it" and sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["steerwise"]["reads"] == len(server.bodies) > 2


def test_groups_are_put_on_one_scale_by_what_they_have_in_common() -> None:
    truth = {0: 0.4, 1: 0.3, 2: 0.2, 3: 0.1}

    def shares(*numbers: int) -> dict[int, float]:
        whole = sum(truth[n] for n in numbers)
        return {n: truth[n] / whole for n in numbers}

    assert on_one_scale([shares(0, 3), shares(1, 2)], shares(0, 1)) == pytest.approx(truth)
    assert on_one_scale([shares(0, 3), shares(1, 2)], shares(0, 1, 2)) == pytest.approx(truth)


@pytest.mark.parametrize("text", ["the third", "the first", "none of it"])
async def test_the_confidence_is_the_one_that_jevbench_knows_by_this_name(
    clients: Clients, text: str
) -> None:
    for criteria in (OPTIONS, ["the first", "the third"]):
        answer = await asked(clients, criteria, state=text)
        known = _candidates(answer["probabilities"])["one_minus_normalized_entropy"]
        assert answer["confidence"] == pytest.approx(known, abs=1e-9)


async def test_a_single_option_is_certain(clients: Clients) -> None:
    answer = await asked(clients, {"only": None})
    assert answer["probabilities"] == {"only": 1.0} and answer["confidence"] == 1.0
    assert math.isclose(answer["steerwise"]["label_mass"], 0.96)
