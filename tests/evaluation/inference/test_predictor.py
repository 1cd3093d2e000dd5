"""The client that answers users: what it asks for, what it reads, and what it does when the server misbehaves."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from evaluation.contract.parse import ParseFailure, parse
from evaluation.contract.record import conversation_from_text
from evaluation.contract.render import CodesError
from evaluation.inference.http import Retries
from evaluation.inference.logprobs import read_answer, read_code
from evaluation.inference.predictor import (
    Codes,
    Prediction,
    PredictorError,
    Sending,
    VllmPredictor,
    connect,
    load_codes,
)
from tests.evaluation.fake_server import CODES, FakeServer, Model, Reply, listening, predictor, says
from tests.evaluation.shop import SCHEMA

TALK = conversation_from_text("please refund the lamp")


def ask(server: FakeServer, **options: Any) -> Prediction:
    return asyncio.run(predictor(server, **options).predict(SCHEMA, TALK))


def always(reply: Reply) -> Model:
    return lambda _: reply


def test_an_answer_comes_with_reasoning_evidence_and_the_condition_that_decided() -> None:
    said = 'They write "refund the lamp", so "the customer wants money back for a purchase" decides.'
    prediction = ask(FakeServer(always(says("A", said))))
    assert (prediction.category, prediction.failure, prediction.forced_read) == ("refund", None, False)
    assert prediction.reasoning == said
    assert [tuple(e) for e in prediction.evidence] == [("refund the lamp", 0)]
    assert prediction.decided_by is not None
    assert prediction.decided_by.key == "refund"
    assert (prediction.prompt_tokens, prediction.cached_tokens) == (50, 32)
    assert prediction.latency_s > 0


def test_the_request_asks_for_exactly_the_codes_of_the_schema() -> None:
    server = FakeServer(always(says("A")))
    ask(server, sending=Sending(cache_salt="tenant"))
    (body,) = server.bodies
    assert body["logprob_token_ids"] == list(CODES.token_ids[:7])
    assert (body["temperature"], body["logprobs"], body["max_tokens"]) == (0, True, 160)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["cache_salt"] == "tenant"
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_probabilities_are_renormalised_and_the_mass_outside_the_codes_stays_visible() -> None:
    probabilities = {"A": 0.6, "B": 0.15, "G": 0.05}
    prediction = ask(FakeServer(always(Reply("So.\nAnswer: A", probabilities))))
    assert prediction.label_mass == pytest.approx(0.8, abs=1e-6)
    assert prediction.confidence == pytest.approx(0.75, abs=1e-6)
    assert prediction.probabilities is not None
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.probabilities[None] == pytest.approx(0.0625, abs=1e-6)


def test_the_distribution_is_read_at_the_last_answer_and_not_where_a_code_is_mentioned() -> None:
    def entry(token: str, a: float, b: float) -> dict[str, Any]:
        top = [{"token": " A", "logprob": a}, {"token": " B", "logprob": b}]
        return {"token": token, "logprob": -0.1, "top_logprobs": top, "bytes": list(token.encode())}

    tokens = [
        entry(t, -5, -6)
        for t in ["Is", " it", " B", "?", "\n", "Answer", ":", " A", " hm", "\n", "Answer", ":"]
    ]
    reading = read_answer([*tokens, entry(" B", -2, -0.5), entry("<|im_end|>", -9, -9)], ("A", "B"))
    assert reading is not None
    assert reading.probabilities["B"] > 0.8


@pytest.mark.parametrize(
    "text",
    [
        "So.| **|Answer|:|**| B",
        "So.|\n|**|Answer|:| **|B|**",
        "So|.\n|Final| answer| is|:| (|B|)",
        "Answer|:\n| B|.",
    ],
)
def test_the_distribution_is_read_where_the_parser_reads_the_code(text: str) -> None:
    """In whatever form the answer is written."""
    pieces = text.split("|")
    tokens = [
        {"token": piece, "logprob": -9.0, "top_logprobs": [{"token": piece, "logprob": -9.0}]}
        for piece in pieces
    ]
    place = max(number for number, piece in enumerate(pieces) if piece.strip() == "B")
    other = pieces[place].replace("B", "A")
    tokens[place] |= {"logprob": -0.5, "top_logprobs": [{"token": other, "logprob": -1.5}]}
    reading = read_answer(tokens, ("A", "B"))
    readable = parse("".join(pieces), SCHEMA, tuple(CODES.texts)).failure is None
    assert (reading is not None) is readable
    if reading is not None:
        assert reading.probabilities == pytest.approx({"A": 0.2689, "B": 0.7311}, abs=1e-4)


def test_a_code_that_was_written_bare_is_not_weighed_with_those_behind_a_space() -> None:
    top = [
        {"token": "A", "logprob": -1.0},
        {"token": " A", "logprob": -9.0},
        {"token": " B", "logprob": -8.0},
    ]
    reading = read_code({"token": "B", "logprob": -0.5, "top_logprobs": top}, ("A", "B"))
    assert reading is not None
    assert reading.probabilities["A"] == pytest.approx(0.3775, abs=1e-4)


def test_a_token_split_inside_a_character_does_not_shift_the_place() -> None:
    euro = list("€".encode())
    pieces = [euro[:1], euro[1:], list(b"\nAnswer"), list(b":"), list(b" A")]
    tokens = [{"token": "\ufffd", "logprob": -1.0, "bytes": piece, "top_logprobs": []} for piece in pieces]
    reading = read_answer(tokens, ("A",))
    assert reading is not None
    assert reading.label_mass == pytest.approx(0.3679, abs=1e-4)


def test_a_code_without_its_space_is_another_token() -> None:
    top = [{"token": "A", "logprob": -0.1}, {"token": " A", "logprob": -3.0}]
    reading = read_code({"token": " B", "logprob": -1.0, "top_logprobs": top}, ("A", "B"))
    assert reading is not None
    assert reading.probabilities["A"] == pytest.approx(0.1192, abs=1e-4)


def test_a_code_that_the_server_does_not_report_is_unknown_and_not_0() -> None:
    server = FakeServer(always(Reply("So.\nAnswer: A", {"A": 0.5, "B": 0.25})), knows_token_ids=False)
    prediction = ask(server)
    assert prediction.category == "refund"
    assert prediction.label_mass is None
    assert prediction.probabilities is not None
    assert set(prediction.probabilities) == {"refund", "tracking"}
    assert prediction.probabilities["refund"] == pytest.approx(2 / 3)


def test_a_server_without_log_probs_still_answers() -> None:
    class Plain(FakeServer):
        def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            status, answer = super().respond(body)
            answer["choices"][0]["logprobs"] = None
            return status, answer

    prediction = ask(Plain(always(says("B"))))
    assert prediction.category == "tracking"
    assert (prediction.confidence, prediction.probabilities, prediction.label_mass) == (None, None, None)


@pytest.mark.parametrize(("reply", "counted"), [(says("B"), 0), (Reply("Hm.", {"B": 0.3}, "length"), 1)])
def test_tokens_that_the_server_did_not_count_are_unknown_and_not_0(reply: Reply, counted: int) -> None:
    """Where a forced read went uncounted, the sum of both responses is unknown too."""
    prediction = ask(FakeServer(always(reply), counted=counted))
    assert prediction.category == "tracking"
    counts = (prediction.prompt_tokens, prediction.completion_tokens, prediction.cached_tokens)
    assert counts == (None, None, None)


@pytest.mark.parametrize("text", ["I cannot say", "Hm.\nAnswer: ZZ", ""])
def test_without_a_code_one_forced_read_takes_the_likeliest_code(text: str) -> None:
    server = FakeServer(always(Reply(text, {"B": 0.3, "C": 0.4}, "length")))
    prediction = ask(server)
    assert (prediction.category, prediction.failure, prediction.forced_read) == ("cancel", None, True)
    assert prediction.label_mass == pytest.approx(0.7, abs=1e-6)
    body = server.bodies[1]
    assert (body["continue_final_message"], body["add_generation_prompt"], body["max_tokens"]) == (
        True,
        False,
        1,
    )
    assert body["messages"][-1]["role"] == "assistant"
    assert body["messages"][-1]["content"].endswith("Answer:")
    assert len(server.bodies) == 2


def test_where_even_the_forced_read_finds_no_code_the_first_failure_stands() -> None:
    prediction = ask(FakeServer(always(Reply("I cannot say", {}, "length")), knows_token_ids=False))
    assert (prediction.category, prediction.failure) == (None, ParseFailure.truncated)
    assert (prediction.confidence, prediction.decided_by) == (None, None)


def test_an_overloaded_server_is_asked_again() -> None:
    server = FakeServer(always(says("A")), failing=(503, 503))
    assert ask(server).category == "refund"
    assert len(server.bodies) == 3


def test_a_server_that_stays_overloaded_is_an_error_with_its_status() -> None:
    server = FakeServer(always(says("A")), failing=(503,) * 9)
    with pytest.raises(PredictorError) as caught:
        ask(server, sending=Sending(Retries(attempts=3, backoff_s=0.001)))
    assert (caught.value.status, len(server.bodies)) == (503, 3)


def test_a_refused_request_is_not_repeated() -> None:
    server = FakeServer(always(says("A")), failing=(400, 400))
    with pytest.raises(PredictorError, match="400"):
        ask(server)
    assert len(server.bodies) == 1


def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    async def asking() -> None:
        async with connect("http://127.0.0.1:9", timeout_s=2) as client:
            fast = Sending(Retries(attempts=2, backoff_s=0.001))
            await VllmPredictor(client, "m", CODES, sending=fast).predict(SCHEMA, TALK)

    with pytest.raises(PredictorError, match="cannot be reached"):
        asyncio.run(asking())


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{"message": None}]}, []])
def test_what_is_not_a_chat_completion_is_an_error(answer: Any) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    client = httpx.AsyncClient(transport=transport, base_url="http://model")
    with pytest.raises(PredictorError, match="not a chat completion"):
        asyncio.run(VllmPredictor(client, "m", CODES).predict(SCHEMA, TALK))


def test_no_more_requests_are_open_than_allowed() -> None:
    open_now, most = 0, 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.01)
        open_now -= 1
        return httpx.Response(200, json=FakeServer(always(says("A"))).respond({"messages": MESSAGES})[1])

    async def asking() -> None:
        client = httpx.AsyncClient(transport=httpx.MockTransport(slow), base_url="http://model")
        few = VllmPredictor(client, "m", CODES, concurrency=3)
        await asyncio.gather(*(few.predict(SCHEMA, TALK) for _ in range(12)))

    asyncio.run(asking())
    assert most == 3


MESSAGES = [{"role": "system", "content": ""}, {"role": "user", "content": "<conversation>\ncustomer: hello"}]


def test_a_prediction_survives_json_with_none_of_these_among_its_probabilities() -> None:
    prediction = ask(FakeServer(always(says("G", 'The customer says "refund the lamp"; "none of these".'))))
    assert prediction.category is None
    assert prediction.probabilities is not None
    assert None in prediction.probabilities
    assert Prediction.model_validate_json(prediction.model_dump_json()) == prediction


def test_the_client_speaks_over_a_real_socket_with_or_without_v1_in_the_address() -> None:
    async def asking(address: str) -> Prediction:
        async with connect(address) as client:
            return await VllmPredictor(client, "m", CODES).predict(SCHEMA, TALK)

    with listening(FakeServer(always(says("A")))) as address:
        assert {asyncio.run(asking(address + suffix)).category for suffix in ("", "/v1", "/v1/")} == {
            "refund"
        }


def test_codes_come_from_the_tokenizer_file(tmp_path: Path) -> None:
    """Byte-level pieces, as in Qwen's tokenizer; of the codes only A, C and D have a piece with their space."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {piece: i for i, piece in enumerate([*sorted(alphabet), "ĠA", "ĠC", "ĠD"])}
    merges = [("Ġ", "A"), ("Ġ", "C"), ("Ġ", "D")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    codes = load_codes(tmp_path, 3)
    assert codes.texts == ("A", "C", "D")
    assert codes.token_ids == tuple(vocabulary[piece] for piece in ("ĠA", "ĠC", "ĠD"))
    with pytest.raises(CodesError, match="has 3 one-token answer codes and the schema needs 4"):
        load_codes(tmp_path, 4)


def test_as_many_token_ids_as_codes_are_needed() -> None:
    with pytest.raises(ValueError, match="2 codes and 1 token ids"):
        VllmPredictor(httpx.AsyncClient(), "m", Codes(("A", "B"), (1,)))
