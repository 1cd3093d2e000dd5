"""What `steerwise bench gate` asks in each of its ways, what it refuses to count, and its arithmetic."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from app.cli.program import cli
from app.errors import ServingError
from app.serving.vllm import VllmEndpoint
from app.studies import gate_speed
from app.studies.gate_speed import ARMS, GATE, RANDOM_ORDER, RAW, GateBench, GateLap, GateSpeed
from tests.app.studies.quiet import QUIET
from tests.evaluation import models
from tests.evaluation.evaluation_run import suite
from tests.evaluation.fake_server import CODES, FakeServer, Reply, listening

SUITE = suite(24)


@contextmanager
def place_of(server: FakeServer, folder: Path) -> Iterator[GateBench]:
    with listening(server) as url:
        yield GateBench(
            VllmEndpoint(url), SUITE.questions, len(SUITE.perturbations), CODES, 4, folder / "outcomes"
        )


class Compared(NamedTuple):
    server: FakeServer
    speed: GateSpeed


def compare(server: FakeServer, folder: Path) -> Compared:
    with place_of(server, folder) as place:
        return Compared(server, asyncio.run(gate_speed._compare(place, 2, QUIET)))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return compare(FakeServer(models.oracle()), tmp_path_factory.mktemp("gate"))


def test_every_way_asks_the_same_questions_and_no_lap_profits_from_another(compared: Compared) -> None:
    bodies = compared.server.bodies
    salts = Counter(body["cache_salt"] for body in bodies)
    laps = {f"{arm}-{number}": len(SUITE.items) for arm in ARMS for number in (0, 1)}
    assert salts == laps | {f"{arm}-first": 4 for arm in ARMS}
    first, *others = ({_without_salt(body) for body in bodies if body["cache_salt"] == salt} for salt in laps)
    assert len(first) == len(SUITE.items)
    assert all(other == first for other in others)


def test_ways_take_turns_and_the_one_that_begins_changes(compared: Compared) -> None:
    turns = [salt for salt, _ in groupby(body["cache_salt"] for body in compared.server.bodies)]
    there, back = [GATE, RAW, RANDOM_ORDER], [RAW, GATE]
    first = [f"{arm}-0" for arm in (*there, *back, *there[1:])]  # three parts; what ends one begins the next
    second = [f"{arm}-1" for arm in (*there[::-1], *there[1:], *back)]
    assert turns[len(ARMS) :] == first + second


def test_only_random_order_leaves_the_order_of_the_suite(tmp_path: Path) -> None:
    server = FakeServer(models.oracle())
    with place_of(server, tmp_path) as place:
        one_at_a_time = place._replace(concurrency=1)
        asyncio.run(gate_speed._round(one_at_a_time, 0))
    order = {arm: [_without_salt(b) for b in server.bodies if b["cache_salt"] == f"{arm}-0"] for arm in ARMS}
    assert order[GATE] == order[RAW] != order[RANDOM_ORDER]
    assert sorted(order[RAW]) == sorted(order[RANDOM_ORDER])


def test_tokens_are_those_that_the_server_counted(compared: Compared) -> None:
    speed = compared.speed
    assert (speed.items, speed.schemas) == (len(SUITE.items), len(SUITE.perturbations))
    assert (speed.rounds, speed.concurrency, speed.forced_reads) == (2, 4, 0)
    assert {arm.cached_prompt_share for arm in speed.arms.values()} == {32 / 50}
    assert speed.arms[GATE].completion_tokens == speed.arms[RAW].completion_tokens > 0
    assert all(arm.answers_per_s > 0 and arm.client_ms > 0 for arm in speed.arms.values())


def test_answers_that_had_to_be_asked_for_twice_are_counted(tmp_path: Path) -> None:
    """A model that never comes to a code by itself."""
    twice = compare(FakeServer(lambda seen: Reply("Well.", {seen.options[0].code: 0.9})), tmp_path)
    assert twice.speed.forced_reads == 1
    asked = Counter(body["cache_salt"] for body in twice.server.bodies)
    assert asked["gate-0"] == 2 * asked["raw-0"] == 2 * len(SUITE.items)


@pytest.mark.parametrize("arm", ARMS)
def test_a_failed_request_ends_the_measurement(arm: str, tmp_path: Path) -> None:
    with (
        place_of(FakeServer(models.oracle(), failing=(400,)), tmp_path) as place,
        pytest.raises(ServingError, match="did not answer"),
    ):
        asyncio.run(gate_speed._part(place, arm, arm, range(12)))


@pytest.mark.parametrize("arm", ARMS)
def test_a_server_that_does_not_count_is_no_server_without_a_cache(arm: str, tmp_path: Path) -> None:
    with (
        place_of(FakeServer(models.oracle(), counted=10), tmp_path) as place,
        pytest.raises(ServingError, match="how much of it was cached"),
    ):
        asyncio.run(gate_speed._part(place, arm, arm, range(12)))


def test_each_lap_is_compared_with_the_raw_one_of_its_round() -> None:
    """The machine was three times as slow in the second round, which no ratio may show."""
    place = GateBench(VllmEndpoint("http://vllm"), SUITE.questions, 5, CODES, 32, Path("nowhere"))
    laps = {
        arm: [
            GateLap(seconds, 0.1, 100, 1000, cached, 4000, forced),
            GateLap(3 * seconds, 0.3, 100, 1000, cached + 100, 4000, 0),
        ]
        for arm, seconds, cached, forced in (
            (GATE, 12.5, 600, 3),
            (RAW, 10.0, 700, 0),
            (RANDOM_ORDER, 20.0, 300, 0),
        )
    }
    speed = gate_speed._speed(laps, place)
    assert speed.round_ratios == {GATE: pytest.approx([0.8, 0.8]), RANDOM_ORDER: pytest.approx([0.5, 0.5])}
    assert [speed.answers_over_raw, speed.random_order_over_raw] == pytest.approx([0.8, 0.5])
    assert speed.answers_over_raw_95 == pytest.approx((0.8, 0.8))
    assert (speed.cached_prompt_share, speed.random_order_cached_prompt_share) == (0.65, 0.35)
    assert speed.forced_reads == pytest.approx(3 / 200)
    raw = speed.arms[RAW]
    assert [raw.answers_per_s, raw.client_ms] == pytest.approx([200 / 40, 2])
    assert (raw.cached_prompt_share, raw.completion_tokens) == (0.75, 40)
    shown = gate_speed.table(speed)
    assert list(shown.columns[2].cells) == ["0.800", "–", "0.500"]


def test_two_rounds_that_disagree_say_little() -> None:
    low, high = gate_speed._interval([0.5, 1.0])
    assert low * high == pytest.approx(0.5)  # about the geometric mean
    assert low < 0.5 and high > 1


def test_the_command_explains_itself() -> None:
    shown = CliRunner().invoke(cli, ["bench", "gate", "--help"])
    assert shown.exit_code == 0
    assert "--rounds" in shown.stdout and "--json" in shown.stdout


def _without_salt(body: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in body.items() if name != "cache_salt"})
