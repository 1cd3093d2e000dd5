"""What teachers cost, what is never paid twice, and who is asked after whom."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.shop import Tenant
from tests.training.teacher_server import PROMPT, Server, repeats_the_hint, reply, teacher
from training.artifacts import StageFailed
from training.config import StageManifest, Traces
from training.engine.progress import EventWriter
from training.stages import traces
from training.teachers.endpoint import Replies, TeacherEndpoint, TeacherRequest
from training.teachers.paid import Account, PaidAnswers
from training.teachers.privileged import HintKind


def test_what_was_paid_for_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    """By everything that the answer follows from: another prompt, temperature or sample is another question."""
    server.behave = lambda number, body, headers: (200, reply(f"answer {number}"))
    kept = tmp_path / "tenant" / "answers.sqlite"

    def asked(samples: int = 2, temperature: float = 0.8, text: str = "hello") -> Replies:
        endpoint = TeacherEndpoint(teacher(server), None, PaidAnswers(kept))
        return endpoint.answers(
            [[{"role": "user", "content": text}]], TeacherRequest(samples, temperature, 32)
        )[0]

    first = asked()
    assert (first.texts, first.cached, server.requests) == (["answer 1", "answer 2"], 0, 2)
    again = asked()
    assert (again.texts, again.tokens, again.cached, server.requests) == (first.texts, first.tokens, 2, 2)
    assert (asked(samples=3).cached, server.requests) == (2, 3)
    assert (asked(temperature=0.9).cached, asked(text="bye").cached) == (0, 0)


def test_a_request_that_failed_is_asked_again_another_time(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number, body, headers: (200, reply("one")) if number != 2 else (400, {})
    endpoint = TeacherEndpoint(teacher(server), None, PaidAnswers(tmp_path / "answers.sqlite"))
    assert endpoint.answers([PROMPT], TeacherRequest(2, 0.8, 32))[0].errored == 1
    assert endpoint.answers([PROMPT], TeacherRequest(2, 0.8, 32))[0] == Replies(["one", "one"], 14, 0, 0, 1)


def test_nothing_is_asked_once_the_money_is_spent(server: Server) -> None:
    """5 tokens read and 2 written are 5 * 1 + 2 * 10 = 25 millionths of a dollar."""
    server.behave = lambda number, body, headers: (200, reply("ok"))
    dear = teacher(server, prompt_usd_per_million=1.0, completion_usd_per_million=10.0)
    account = Account(60e-6)
    found = TeacherEndpoint(dear, account).answers([PROMPT] * 5, TeacherRequest(1, 0.8, 32))
    assert [len(one.texts) for one in found] == [1, 1, 1, 0, 0]
    assert (sum(one.unpaid for one in found), server.requests) == (2, 3)
    assert account.spent_usd == pytest.approx(75e-6)


def test_each_teacher_has_a_limit_of_its_own_and_its_costs_are_told(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, reply("ok"))
    prices = {"prompt_usd_per_million": 1.0, "completion_usd_per_million": 10.0}
    short, long = (
        teacher(server, **prices, name="short", max_usd=40e-6),
        teacher(server, **prices, name="long"),
    )
    account = Account()
    for one, answered in ((short, 2), (long, 4), (short, 0)):
        replies = TeacherEndpoint(one, account).answers([PROMPT] * 4, TeacherRequest(1, 0.8, 32))
        assert sum(len(found.texts) for found in replies) == answered
    assert traces._costs(account) == {"usd.short": 50e-6, "usd.long": 100e-6}
    nothing = teacher(server, **prices, name="none", max_usd=0.0)
    assert TeacherEndpoint(nothing, account).answers([PROMPT], TeacherRequest(1, 0.8, 32))[0].unpaid == 1


def test_a_limit_that_nobody_can_count_is_an_error(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, {"choices": reply("ok")["choices"]})
    dear = teacher(server, completion_usd_per_million=10.0)
    with pytest.raises(StageFailed, match="max_usd cannot be kept"):
        TeacherEndpoint(dear, Account(1.0)).answers([PROMPT], TeacherRequest(1, 0.8, 32))
    assert TeacherEndpoint(dear, Account()).answers([PROMPT], TeacherRequest(1, 0.8, 32))[0].texts == ["ok"]


def test_a_server_is_not_asked_faster_than_it_allows(server: Server) -> None:
    """Six requests at twenty a second take five pauses of 50 ms, however many may be under way."""
    server.behave = lambda number, body, headers: (200, reply("ok"))
    started = time.monotonic()
    TeacherEndpoint(teacher(server, concurrency=8, requests_per_minute=1200)).answers(
        [PROMPT] * 6, TeacherRequest(1, 0.8, 32)
    )
    assert time.monotonic() - started >= 0.25


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_usd": 1.0}, "give the prices"),
        ({"corrects": True}, "nobody comes before it"),
    ],
)
def test_teachers_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    limit = {name: value for name, value in settings.items() if name == "max_usd"}
    own = {name: value for name, value in settings.items() if name != "max_usd"}
    one = {"kind": "endpoint", "base_url": "http://x/v1", "model": "m"} | own
    with pytest.raises(ValidationError, match=said):
        Traces.model_validate({"teachers": [one]} | limit)


def answering(code_of: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Answers whatever `code_of` says of the prompt, with a true quotation."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked = body["messages"][-1]["content"]
        said = re.findall(r"^customer: (.*)$", asked, re.MULTILINE)[-1]
        whole = "\n".join(message["content"] for message in body["messages"])
        return reply(f'They say "{said}".\nAnswer: {code_of(whole)}')

    return answer


@pytest.mark.slow
def test_later_teachers_are_asked_for_what_is_left_and_are_shown_what_went_wrong(
    server: Server, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    """The first always takes the first category; the second is told the answer, and sees the attempt."""
    prompts: dict[str, list[str]] = {"first": [], "second": []}
    first, told = answering(lambda text: re.findall(r'" = (\w+)', text)[0]), repeats_the_hint

    def behave(number: int, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        prompts[body["model"]].append(body["messages"][-1]["content"])
        return 200, (first if body["model"] == "first" else told)(body)

    server.behave = behave
    teachers = (
        teacher(server, model="first", prompt_usd_per_million=100.0),
        teacher(server, model="second", hint=HintKind.answer, corrects=True),
    )
    stage = Traces(teachers=teachers, samples=2, limit=12)
    manifest = StageManifest(
        stage=stage,
        base=str(base),
        category_schema=tenant.schema,
        conversations=tenant.path,
        answers=tmp_path / "answers.sqlite",
        out=tmp_path,
    )
    metrics = traces.run(manifest, stage, EventWriter(tmp_path, "traces")).metrics
    by_first, tried = metrics["yield_by_teacher"]["1:endpoint:first"]
    assert (tried, metrics["kept"]) == (12, 12) and 0 < by_first < 12
    assert metrics["yield_by_teacher"]["2:endpoint:second"] == [12 - by_first, 12 - by_first]
    assert len(prompts["second"]) == 2 * (12 - by_first)
    assert all("Somebody answered:\nThey say" in prompt for prompt in prompts["second"])
    assert metrics["usd"] == pytest.approx(24 * 5 * 100 / 1e6)
    votes = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert len(votes) == 12 and all(sum(row["votes"].values()) == 2 for row in votes)
    assert metrics["agreement"] == pytest.approx(by_first / 12, abs=1e-3)
    assert metrics["disputed_labels"] == metrics["for_review"] == 12 - by_first
    review = [json.loads(line) for line in (tmp_path / "review.jsonl").read_text().splitlines()]
    assert {one["source"] for one in review} == {"teachers"}
    kept = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert all("Somebody" not in message["content"] for row in kept for message in row["prompt"])
    asked = server.requests
    again = traces.run(manifest, stage, EventWriter(tmp_path, "traces")).metrics
    assert (server.requests, again["cached"], again["usd"]) == (asked, metrics["responses"], 0)
