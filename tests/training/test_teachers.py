"""The endpoint teacher against a real server on this machine, and the words of hints."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.contract.render import ChatMessage, Prompt
from tests.training.shop import Tenant
from training.artifacts import StageFailed
from training.config import EndpointTeacher, StageManifest, Traces
from training.progress import Events
from training.stages import traces
from training.teachers.endpoint import Asked, Endpoint, Replies
from training.teachers.paid import Account, Answers
from training.teachers.privileged import Hint, HintKind, with_hint

PROMPT: list[ChatMessage] = [{"role": "user", "content": "hello"}]
Behaviour = Callable[[int, dict[str, Any], dict[str, str]], tuple[int, dict[str, Any]]]


class Server:
    """behave: number of the request, its body and headers, to status and body."""

    def __init__(self) -> None:
        self.behave: Behaviour = lambda number, body, headers: (200, reply("ok"))
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests += 1
                headers = {k.lower(): v for k, v in self.headers.items()}
                status, content = server.behave(server.requests, body, headers)
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                if status == 429:
                    self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def reply(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def teacher(server: Server, **changes: Any) -> EndpointTeacher:
    return EndpointTeacher.model_validate(
        {"base_url": server.url, "model": "big", "concurrency": 1} | changes
    )


def ask(teacher: EndpointTeacher, prompts: list[list[ChatMessage]], samples: int) -> list[Replies]:
    return Endpoint(teacher).answers(prompts, Asked(samples, 0.8, 32))


def test_every_prompt_gets_its_own_replies(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, reply(body["messages"][0]["content"] + "!"))
    prompts: list[list[ChatMessage]] = [[{"role": "user", "content": text}] for text in ("a", "b", "c")]
    found = ask(teacher(server, concurrency=8), prompts, 2)
    assert [r.texts for r in found] == [["a!", "a!"], ["b!", "b!"], ["c!", "c!"]]
    assert [r.tokens for r in found] == [14, 14, 14]


@pytest.mark.parametrize(
    "usage", [{}, {"usage": None}, {"usage": {"prompt_tokens": 7}}, {"usage": {"total_tokens": 7}}]
)
def test_tokens_that_the_teacher_did_not_count_are_unknown_and_not_0(
    server: Server, usage: dict[str, Any]
) -> None:
    """One uncounted response of two is enough: the total of both is unknown."""
    uncounted = {"choices": reply("two")["choices"]} | usage
    server.behave = lambda number, body, headers: (200, reply("one") if number == 1 else uncounted)
    (found,) = ask(teacher(server), [PROMPT], 2)
    assert (found.texts, found.tokens, found.errored) == (["one", "two"], None, 0)


def repeats_the_hint(body: dict[str, Any]) -> dict[str, Any]:
    """A right answer with a true quotation."""
    asked = body["messages"][-1]["content"]
    code = re.findall(r"The right answer is (\w+)", asked)[-1]
    said = re.findall(r"^customer: (.*)$", asked, re.MULTILINE)[-1]
    return reply(f'They say "{said}".\nAnswer: {code}')


@pytest.mark.slow
@pytest.mark.parametrize(("counted", "wanted"), [(99, 8 * 7), (7, None)])
def test_the_stage_says_how_many_tokens_its_teacher_used_or_that_nobody_knows(
    server: Server, counted: int, wanted: int | None, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    def behave(number: int, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        made = repeats_the_hint(body)
        return 200, made if number <= counted else made | {"usage": None}

    server.behave = behave
    stage = Traces(teachers=(teacher(server, hint=HintKind.answer),), samples=2, limit=4)
    manifest = StageManifest(
        stage=stage, base=str(base), category_schema=tenant.schema, conversations=tenant.path, out=tmp_path
    )
    finished = traces.run(manifest, stage, Events(tmp_path, "traces"))
    assert finished.metrics["kept"] == 4
    assert finished.tokens == wanted


def test_a_busy_teacher_is_asked_again(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, reply("late")) if number > 2 else (429, {})
    (found,) = ask(teacher(server), [PROMPT], 1)
    assert (found.texts, found.errored, server.requests) == (["late"], 0, 3)


def test_requests_that_fail_to_the_end_are_counted_and_not_made_up(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, reply("one")) if number == 1 else (400, {})
    (found,) = ask(teacher(server), [PROMPT], 3)
    assert (found.texts, found.errored) == (["one"], 2)


def test_a_reply_that_was_cut_off_is_left_out(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, reply("half", "length"))
    (found,) = ask(teacher(server), [PROMPT], 1)
    assert (found.texts, found.errored) == ([], 0)


def test_a_reply_that_is_not_what_was_agreed_counts_as_errored(server: Server) -> None:
    server.behave = lambda number, body, headers: (
        (200, reply("one")) if number == 1 else (200, {"choices": []})
    )
    (found,) = ask(teacher(server), [PROMPT], 2)
    assert (found.texts, found.errored) == (["one"], 1)


def test_a_teacher_that_answers_nothing_fails_the_stage(server: Server) -> None:
    server.behave = lambda number, body, headers: (400, {})
    with pytest.raises(StageFailed, match="none of 2 requests"):
        ask(teacher(server), [PROMPT], 2)


def test_a_refused_key_fails_at_once_and_says_where_it_comes_from(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "s3cret")
    seen: list[str] = []

    def refuse(number: int, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        seen.append(headers["authorization"])
        return 401, {}

    server.behave = refuse
    with pytest.raises(StageFailed, match="TEACHER_KEY") as failure:
        ask(teacher(server, api_key_env="TEACHER_KEY"), [PROMPT], 1)
    assert seen == ["Bearer s3cret"]
    assert "s3cret" not in failure.value.message
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(StageFailed, match="is empty"):
        ask(teacher(server, api_key_env="TEACHER_KEY"), [PROMPT], 1)


@pytest.mark.parametrize(
    ("hint", "wanted"),
    [
        (Hint(HintKind.none, "", "", ""), "hello"),
        (Hint(HintKind.answer, "C", "", ""), "hello\nThe right answer is C."),
        (
            Hint(HintKind.criterion, "C", "asks for money", ""),
            'hello\nThe right answer is C, because of "asks for money".',
        ),
        (
            Hint(HintKind.demonstration, "", "", "So.\nAnswer: C"),
            "hello\nThis is an example for a response to the question:\nSo.\nAnswer: C\n"
            "Now answer with a response of your own, including the thinking process:",
        ),
    ],
)
def test_hints_have_the_words_that_the_starter_was_taught(hint: Hint, wanted: str) -> None:
    prompt = Prompt([{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}], ("C",))
    assert with_hint(prompt, hint) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": wanted},
    ]
    assert prompt.messages[1]["content"] == "hello"


def test_a_hint_that_lacks_its_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="code"):
        with_hint(Prompt(PROMPT, ("C",)), Hint(HintKind.answer, "", "", ""))


def test_what_was_paid_for_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    """By everything that the answer follows from: another prompt, temperature or sample is another question."""
    server.behave = lambda number, body, headers: (200, reply(f"answer {number}"))
    kept = tmp_path / "tenant" / "answers.sqlite"

    def asked(samples: int = 2, temperature: float = 0.8, text: str = "hello") -> Replies:
        endpoint = Endpoint(teacher(server), None, Answers(kept))
        return endpoint.answers([[{"role": "user", "content": text}]], Asked(samples, temperature, 32))[0]

    first = asked()
    assert (first.texts, first.cached, server.requests) == (["answer 1", "answer 2"], 0, 2)
    again = asked()
    assert (again.texts, again.tokens, again.cached, server.requests) == (first.texts, first.tokens, 2, 2)
    assert (asked(samples=3).cached, server.requests) == (2, 3)
    assert (asked(temperature=0.9).cached, asked(text="bye").cached) == (0, 0)


def test_a_request_that_failed_is_asked_again_another_time(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number, body, headers: (200, reply("one")) if number != 2 else (400, {})
    endpoint = Endpoint(teacher(server), None, Answers(tmp_path / "answers.sqlite"))
    assert endpoint.answers([PROMPT], Asked(2, 0.8, 32))[0].errored == 1
    assert endpoint.answers([PROMPT], Asked(2, 0.8, 32))[0] == Replies(["one", "one"], 14, 0, 0, 1)


def test_nothing_is_asked_once_the_money_is_spent(server: Server) -> None:
    """5 tokens read and 2 written are 5 * 1 + 2 * 10 = 25 millionths of a dollar."""
    server.behave = lambda number, body, headers: (200, reply("ok"))
    dear = teacher(server, prompt_usd_per_million=1.0, completion_usd_per_million=10.0)
    account = Account(60e-6)
    found = Endpoint(dear, account).answers([PROMPT] * 5, Asked(1, 0.8, 32))
    assert [len(one.texts) for one in found] == [1, 1, 1, 0, 0]
    assert (sum(one.unpaid for one in found), server.requests) == (2, 3)
    assert account.spent_usd == pytest.approx(75e-6)


def test_a_limit_that_nobody_can_count_is_an_error(server: Server) -> None:
    server.behave = lambda number, body, headers: (200, {"choices": reply("ok")["choices"]})
    dear = teacher(server, completion_usd_per_million=10.0)
    with pytest.raises(StageFailed, match="max_usd cannot be kept"):
        Endpoint(dear, Account(1.0)).answers([PROMPT], Asked(1, 0.8, 32))
    assert Endpoint(dear, Account()).answers([PROMPT], Asked(1, 0.8, 32))[0].texts == ["ok"]


def test_a_server_is_not_asked_faster_than_it_allows(server: Server) -> None:
    """Six requests at twenty a second take five pauses of 50 ms, however many may be under way."""
    server.behave = lambda number, body, headers: (200, reply("ok"))
    started = time.monotonic()
    Endpoint(teacher(server, concurrency=8, requests_per_minute=1200)).answers(
        [PROMPT] * 6, Asked(1, 0.8, 32)
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
    metrics = traces.run(manifest, stage, Events(tmp_path, "traces")).metrics
    by_first, tried = metrics["yield_by_teacher"]["1:endpoint:first"]
    assert (tried, metrics["kept"]) == (12, 12) and 0 < by_first < 12
    assert metrics["yield_by_teacher"]["2:endpoint:second"] == [12 - by_first, 12 - by_first]
    assert len(prompts["second"]) == 2 * (12 - by_first)
    assert all("Somebody answered:\nThey say" in prompt for prompt in prompts["second"])
    assert metrics["usd"] == pytest.approx(24 * 5 * 100 / 1e6)
    votes = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert len(votes) == 12 and all(sum(row["votes"].values()) == 2 for row in votes)
    assert metrics["agreement"] == pytest.approx(by_first / 12, abs=1e-3)
    assert metrics["disputed_labels"] == 12 - by_first
    kept = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert all("Somebody" not in message["content"] for row in kept for message in row["prompt"])
    asked = server.requests
    again = traces.run(manifest, stage, Events(tmp_path, "traces")).metrics
    assert (server.requests, again["cached"], again["usd"]) == (asked, metrics["responses"], 0)
