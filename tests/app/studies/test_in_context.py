"""What a base does with what it is shown, asked of a server that believes every hint."""

import io
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from app.cli.console import ConsoleReporter
from app.errors import InputError
from app.serving.base import STARTER, find_base
from app.settings import Settings
from app.studies import in_context, matrix, subjects
from app.studies.in_context import ContextScore, Showing
from app.studies.matrix import ContextStudy
from evaluation.contract.render import condition_text
from evaluation.inference.predictor import VllmPredictor
from evaluation.inference.tokenizer_files import load_codes
from tests.evaluation.fake_server import FakeServer, says
from training.teachers.privileged import HintKind

SHOP = "business:meal_voucher_app"
TOLD, UNTOLD = -0.5, -2.0  # log-probs of a token where the answer is told, and where it is not


class Believer(FakeServer):
    """Answers as the hint says, else with the first code; one token a character."""

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        last = body["messages"][-1]
        if "prompt_logprobs" in body:
            tokens = [None, *({str(i): {"logprob": UNTOLD}} for i in range(len(last["content"]) + 7))]
            return 200, {"choices": [{"message": {"content": "x"}}], "prompt_logprobs": tokens}
        asked = last["content"]
        told = asked.partition("The right answer is ")[2][:1]
        text = f"Because.\nAnswer: {told or 'A'}"
        entries = [{"token": c, "logprob": TOLD, "bytes": list(c.encode()), "top_logprobs": []} for c in text]
        end = {"token": "<|im_end|>", "logprob": -9.0, "bytes": list(b"<|im_end|>"), "top_logprobs": []}
        choice = {
            "message": {"content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [*entries, end]},
        }
        return 200, {"choices": [choice], "usage": {"completion_tokens": 9}}


def study(**change: Any) -> ContextStudy:
    found = matrix.read("in-context")
    assert isinstance(found, ContextStudy)
    return found.model_copy(update={"items": 12, "distances": 5} | change)


def asked_of(server: FakeServer, kinds: tuple[HintKind, ...]) -> list[ContextScore]:
    codes = load_codes(find_base(STARTER).folder, 40)
    questions = in_context.questions_of(study(shown=kinds), subjects.load(SHOP, 0), codes.texts)

    async def run() -> list[ContextScore]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model") as http:
            predictor = VllmPredictor(http, "base", codes)
            return [await in_context.score(predictor, question) for question in questions]

    return anyio.run(run)


def test_what_a_hint_brings_and_how_far_it_leads_from_the_model_are_counted() -> None:
    server = Believer(lambda _asked: says("A"))
    found = in_context.measures_of(asked_of(server, (HintKind.answer, HintKind.document)))
    assert list(found) == [HintKind.none, HintKind.answer, HintKind.document]
    plain, told, document = found.values()
    assert told.accuracy.value == 1.0 and told.accuracy.n == 12
    assert plain.accuracy.value is not None and plain.accuracy.value < 0.5
    assert told.over_unshown.value == pytest.approx(1.0 - plain.accuracy.value)
    assert document.over_unshown.value == 0.0
    for one in (told, document):  # the end of a draw is no part of what is read again
        assert one.kl_to_unshown.value == pytest.approx(TOLD - UNTOLD) and one.kl_to_unshown.n == 5
        assert one.written.value == 9.0  # counted by the server
    assert plain.kl_to_unshown.value is None  # of the model from itself
    reads = [body for body in server.bodies if "prompt_logprobs" in body]
    assert len(reads) == 10
    for body in reads:
        assert body["messages"][-1]["role"] == "assistant" and body["continue_final_message"] is True
        assert "The right answer is" not in body["messages"][-2]["content"]
    draws = [body for body in server.bodies if body.get("temperature") == 1.0]
    assert len(draws) == 10


def test_how_long_it_takes_is_said_after_the_first_questions_and_each_is_asked_once(tmp_path: Path) -> None:
    server, codes = Believer(lambda _asked: says("A")), load_codes(find_base(STARTER).folder, 40)
    questions = in_context.questions_of(study(shown=(HintKind.answer,)), subjects.load(SHOP, 0), codes.texts)
    shown, kept = io.StringIO(), tmp_path / "scores.jsonl"

    async def run() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model")
        await in_context._all(questions, codes, http, kept, Showing("asked", 2, ConsoleReporter(shown)))

    anyio.run(run)
    assert "about 0 minutes for 14 more questions" in shown.getvalue()
    assert len(kept.read_text().splitlines()) == len(in_context._scores(kept)) == len(questions) == 24


def test_the_table_names_the_base_by_its_content() -> None:
    scores = [
        ContextScore(id="a", shown=kind, right=True, written=3, nats=0.5, tokens=2)
        for kind in (HintKind.none, HintKind.answer)
    ]
    found = in_context.SubjectResult(
        subject=SHOP, base="mine", identity="0123456789abcdef", seeds=[in_context.measures_of(scores)]
    )
    told = in_context.markdown(study(), [found])
    assert "meal voucher app, base mine (0123456789ab), n = 1 (KL: 1):" in told


def test_seeds_are_other_conversations_and_their_table_is_of_means() -> None:
    codes = load_codes(find_base(STARTER).folder, 40)
    kinds = (HintKind.answer,)
    drawn = [
        in_context.questions_of(study(shown=kinds), subjects.load(SHOP, s), codes.texts, s) for s in (0, 1)
    ]
    first, second = ({one.example.conversation.id for one in questions} for questions in drawn)
    assert len(first) == len(second) == 12 and first != second
    seeds = [
        in_context.measures_of(
            [
                ContextScore(id=str(n), shown=kind, right=n < right, written=3, nats=0.5, tokens=2)
                for kind, right in ((HintKind.none, 2), (HintKind.answer, told))
                for n in range(4)
            ]
        )
        for told in (3, 4)
    ]
    found = in_context.SubjectResult(subject=SHOP, base="mine", identity="0" * 64, seeds=seeds)
    table = in_context.markdown(study(), [found]).splitlines()
    assert "over 2 seeds" in table[2] and "in each seed n = 4 (KL: 4)" in table[4]
    assert table[-2].startswith("| nothing | 0.500 ± 0.000 |")
    assert table[-1].startswith(
        "| the answer | 0.875 ± 1.588 | 0.375 ± 1.588 | 0.250 ± 0.000 | 3.000 ± 0.000 |"
    )


def test_a_document_holds_notes_on_other_conversations_alone() -> None:
    codes = load_codes(find_base(STARTER).folder, 40)
    subject = subjects.load(SHOP, 0)
    quotes = {row["id"]: row["quote"] for row in subject.brought or []}
    of_kind = in_context.questions_of(study(shown=(HintKind.document,)), subject, codes.texts)[12:]
    assert len(of_kind) == 12
    for question in of_kind:
        known = question.messages[-1]["content"].partition("\nThis is known:\n")[2]
        own = f'"{quotes[question.example.conversation.id]}" fits'
        assert known.count('" fits "') == 12 and own not in known


def test_a_hint_names_the_condition_that_the_expert_says_decided() -> None:
    codes = load_codes(find_base(STARTER).folder, 40)
    subject = subjects.load(SHOP, 0)
    criteria = {row["id"]: row.get("criterion") for row in subject.brought or []}
    asked = in_context.questions_of(study(shown=(HintKind.criterion,), items=200), subject, codes.texts)
    including = 0
    for question in asked[len(asked) // 2 :]:
        example = question.example
        decided = criteria[example.conversation.id]
        if example.gold is not None and decided in example.schema.category(example.gold).includes:
            including += 1
            assert question.messages[-1]["content"].endswith(f'because of "{condition_text(decided)}".')
    assert including > 10


def test_scores_of_an_earlier_call_are_kept_and_a_line_that_was_cut_off_is_not(tmp_path: Path) -> None:
    kept = tmp_path / "scores.jsonl"
    whole = ContextScore(id="a", shown=HintKind.none, right=True, written=3, nats=0.5, tokens=2)
    kept.write_text(whole.model_dump_json() + "\n" + whole.model_dump_json()[:20])
    assert in_context._scores(kept) == {(HintKind.none, "a"): whole}
    again = whole.model_copy(update={"id": "b"})
    with kept.open("a") as file:  # as the next call goes on
        file.write(again.model_dump_json() + "\n")
    assert in_context._scores(kept) == {(HintKind.none, "a"): whole, (HintKind.none, "b"): again}


def test_what_is_asked_first_is_of_every_kind_however_many_there_are() -> None:
    codes = load_codes(find_base(STARTER).folder, 40)
    kinds = (HintKind.answer, HintKind.criterion, HintKind.demonstration, HintKind.document)
    every = in_context.questions_of(study(shown=kinds), subjects.load(SHOP, 0), codes.texts)
    for asked in (every[:3], every[:19], every):
        probed, rest = in_context._probe(asked)
        assert len(probed) == min(10, len(asked)) and len(probed) + len(rest) == len(asked)
        assert {one.shown for one in probed} == {one.shown for one in asked}


def test_a_tenant_without_an_expert_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(InputError, match="no expert"):
        in_context.run(study(subjects=("world:0",)), 1, tmp_path / "out", settings, None)  # type: ignore[arg-type]
