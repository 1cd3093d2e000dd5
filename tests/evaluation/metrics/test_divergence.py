"""The divergence of two models whose true KL is known, through HTTP."""

import asyncio
import json
import math
import random
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import cache
from typing import Any

import httpx
import pytest

from evaluation.contract.render import candidate_codes
from evaluation.inference.runner import Question, Questions
from evaluation.metrics.divergence import Divergence, Prompted, divergence, prompted
from tests.evaluation.shop import SCHEMA, conversations

END, WORDS, MAX_TOKENS = 0, 5, 12
STARTS = range(1, WORDS)


@cache
def table(model: str) -> tuple[tuple[float, ...], ...]:
    """Each row: after this token, the probabilities of the next one."""
    rng = random.Random(7 if model == "base" else 8)
    rows = [[rng.uniform(0.5, 2) for _ in range(WORDS)] for _ in range(WORDS)]
    return tuple(tuple(weight / sum(row) for weight in row) for row in rows)


@cache
def true_kl(last: int, left: int = MAX_TOKENS) -> float:
    """Of the response that follows the token `last`, by the chain rule."""
    if left == 0:
        return 0.0
    pairs = list(zip(table("candidate")[last], table("base")[last], strict=True))
    here = sum(p * math.log(p / q) for p, q in pairs)
    return here + sum(p * true_kl(t, left - 1) for t, (p, _) in enumerate(pairs) if t != END)


@cache
def true_length(last: int, left: int = MAX_TOKENS) -> float:
    if left == 0:
        return 0.0
    row = table("candidate")[last]
    return 1 + sum(p * true_length(t, left - 1) for t, p in enumerate(row) if t != END)


class Tables:
    """Two models in the formats of vLLM's routes. plain: a server that is not vLLM. failing: of its first requests."""

    def __init__(self, plain: Sequence[str] = (), failing: Sequence[int] = ()) -> None:
        self.plain, self.failing = plain, list(failing)
        self.bodies: list[dict[str, Any]] = []

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        body = json.loads(content)
        self.bodies.append(body)
        status = self.failing.pop(0) if self.failing else 200
        answer = self._write(body) if scope["path"] == "/v1/chat/completions" else self._read(body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _write(self, body: dict[str, Any]) -> dict[str, Any]:
        rng, prompt = random.Random(body["seed"]), [int(t) for t in body["messages"][-1]["content"].split()]
        tokens: list[int] = []
        while END not in tokens and len(tokens) < body["max_tokens"]:
            row = table(body["model"])[(prompt + tokens)[-1]]
            tokens += rng.choices(range(WORDS), row)
        content = [
            {"token": str(t), "logprob": lp} for t, lp in self._logprobs(body["model"], prompt, tokens)
        ]
        choice = {
            "message": {"role": "assistant", "content": " ".join(map(str, tokens))},
            "finish_reason": "stop" if END in tokens else "length",
            "logprobs": {"content": content},
        }
        if "token_ids" in self.plain:
            return {"choices": [choice]}
        return {"choices": [choice | {"token_ids": tokens}], "prompt_token_ids": prompt}

    def _read(self, body: dict[str, Any]) -> dict[str, Any]:
        if "prompt_logprobs" in self.plain:
            return {"choices": [{"text": ""}]}
        first, *rest = body["prompt"]
        read = self._logprobs(body["model"], [first], rest)
        return {"choices": [{"prompt_logprobs": [None, *({str(t): {"logprob": lp}} for t, lp in read)]}]}

    def _logprobs(self, model: str, prompt: list[int], tokens: list[int]) -> list[tuple[int, float]]:
        """Of each token after the one before it."""
        before = [*prompt[-1:], *tokens]
        return [(t, math.log(table(model)[b][t])) for b, t in zip(before, tokens, strict=False)]


def asked(count: int) -> list[Prompted]:
    """Four of each conversation, each of which starts from one token."""
    return [
        Prompted(
            f"conversation {i // 4}", [{"role": "user", "content": f"3 1 {STARTS[i // 4 % len(STARTS)]}"}]
        )
        for i in range(count)
    ]


def measured(server: Tables, count: int = 800, candidate: str = "candidate") -> Divergence:
    async def ask() -> Divergence:
        transport = httpx.ASGITransport(server)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await divergence(client, candidate, "base", asked(count), seed=3, max_tokens=MAX_TOKENS)

    return asyncio.run(ask())


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_both_estimators_find_the_true_kl_and_k3_with_less_spread() -> None:
    found = measured(Tables())
    of_response = sum(map(true_kl, STARTS)) / len(STARTS)
    of_token = of_response / (sum(map(true_length, STARTS)) / len(STARTS))
    for truth, estimates in (
        (of_response, (found.k1_per_response, found.k3_per_response)),
        (of_token, (found.k1_per_token, found.k3_per_token)),
    ):
        for estimate in estimates:
            assert estimate.ci95 is not None
            assert estimate.ci95[0] < truth < estimate.ci95[1]
        k1, k3 = estimates
        assert k3.value == pytest.approx(truth, rel=0.1)
        assert width(k3.ci95) < 0.5 * width(k1.ci95)
    assert found.k1_per_response.n == 800
    assert found.k1_per_token.n > 800
    assert found.truncated.value is not None
    assert 0 < found.truncated.value < 0.5
    assert (found.errored.value, found.reason) == (0, None)


def test_a_model_does_not_diverge_from_itself() -> None:
    found = measured(Tables(), count=40, candidate="base")
    assert found.k1_per_token.value == found.k3_per_response.value == 0


def test_responses_of_one_conversation_are_resampled_together() -> None:
    """One conversation alone says nothing about others, however many responses it has."""
    assert measured(Tables(), count=4).k1_per_response.ci95 is None
    assert measured(Tables(), count=8).k1_per_response.ci95 is not None


def test_the_same_seed_gives_the_same_numbers_and_asks_for_the_plain_distribution() -> None:
    server = Tables()
    assert measured(server, count=20) == measured(Tables(), count=20)
    sampling = [body for body in server.bodies if "messages" in body]
    assert len({body["seed"] for body in sampling}) == 20
    assert {(b["temperature"], b["top_p"], b["top_k"], b["min_p"]) for b in sampling} == {(1, 1, 0, 0)}


@pytest.mark.parametrize(
    ("plain", "said"),
    [("token_ids", "which tokens were written"), ("prompt_logprobs", "does not score given tokens")],
)
def test_a_server_that_cannot_score_given_tokens_leaves_none_and_the_reason(plain: str, said: str) -> None:
    found = measured(Tables(plain=[plain]), count=8)
    assert found.k1_per_token.value is None
    assert found.k3_per_response.value is None
    assert found.truncated.value is None
    assert found.errored.value == 1
    assert found.reason is not None
    assert said in found.reason


def test_an_overloaded_server_is_asked_again_and_a_refused_prompt_is_counted() -> None:
    again = measured(Tables(failing=[503, 429]), count=8)
    assert (again.errored.value, again.k3_per_response.n) == (0, 8)
    refused = measured(Tables(failing=[400]), count=8)
    assert (refused.errored.value, refused.k3_per_response.n) == (1 / 8, 7)
    assert refused.reason is not None
    assert refused.reason.startswith("400")


def test_prompts_are_what_the_classifier_is_asked() -> None:
    conversation = conversations()[0]
    [shown] = prompted(
        Questions("", [Question(SCHEMA, conversation)]),
        tuple(c for c, _ in zip(candidate_codes(), range(7), strict=False)),
    )
    assert shown.conversation_id == conversation.id
    assert SCHEMA.categories[0].name in shown.messages[0]["content"]
    assert conversation.said[0] in shown.messages[1]["content"]
