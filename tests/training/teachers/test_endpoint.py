"""The endpoint teacher against a real server on this machine, and the words of hints."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.contract.render import ChatMessage, Prompt
from tests.training.shop import Tenant
from tests.training.teacher_server import PROMPT, Server, ask, repeats_the_hint, reply, teacher
from training.artifacts import StageFailed
from training.config import StageManifest, Traces
from training.engine.progress import EventWriter
from training.stages import traces as stage_of_traces
from training.teachers.privileged import Hint, HintKind, with_hint


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
    finished = stage_of_traces.run(manifest, stage, EventWriter(tmp_path, "traces"))
    assert finished.metrics["kept"] == 4
    assert finished.tokens == wanted


@pytest.mark.slow
def test_a_teacher_that_is_shown_no_demonstration_for_want_of_one_is_counted(
    server: Server, tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    def behave(number: int, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        shown = "This is an example for a response" in body["messages"][-1]["content"]
        return 200, reply("?") if shown else repeats_the_hint(body)

    server.behave = behave
    lines = traces.read_text().splitlines()
    demonstrations = tmp_path / "demonstrations.jsonl"
    demonstrations.write_text("\n".join(lines[::3]))
    told = teacher(server, hint=HintKind.demonstration)
    stage = Traces(teachers=(told,), samples=1, demonstrations=demonstrations)
    manifest = StageManifest(
        stage=stage, base=str(base), category_schema=tenant.schema, conversations=tenant.path, out=tmp_path
    )
    metrics = stage_of_traces.run(manifest, stage, EventWriter(tmp_path, "traces")).metrics
    without = len(tenant.conversations) - len(lines[::3])
    assert 0 < metrics["without_demonstration"] == metrics["kept"] == without


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


def test_a_teacher_that_refuses_a_system_message_is_sent_none_from_then_on(server: Server) -> None:
    roles: list[list[str]] = []

    def behave(_: int, body: dict[str, Any], __: dict[str, str]) -> tuple[int, dict[str, Any]]:
        roles.append([message["role"] for message in body["messages"]])
        refused = (400, {"error": "System role not supported"})
        return refused if "system" in roles[-1] else (200, reply(body["messages"][0]["content"]))

    server.behave = behave
    prompt: list[ChatMessage] = [{"role": "system", "content": "S"}, *PROMPT]
    found = ask(teacher(server, concurrency=1), [prompt, prompt], 1)
    assert [one.texts for one in found] == [["S\n\nhello"]] * 2
    assert roles == [["system", "user"], ["user"], ["user"]]


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
