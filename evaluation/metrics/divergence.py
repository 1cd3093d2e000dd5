"""How far a candidate has moved from its base on the tenant's own prompts: KL(candidate || base), estimated.

The candidate writes one response to each prompt at temperature 1, and the base scores the very same tokens. With
log r = log-prob under the base - log-prob under the candidate, the mean of k1 = -log r and the mean of
k3 = r - 1 - log r are both the KL; k3 is never negative and mostly has the smaller spread (Schulman 2020, Approximating
KL Divergence). By the chain rule the KL of whole responses is the expected sum over their tokens. A response that is
cut off counts up to the cut, so the KL of responses is that of their first `max_tokens` tokens.

Scoring given tokens is vLLM's (`return_token_ids`, `prompt_logprobs`); another server leaves a None and the reason.
Both models must have one tokenizer. The candidate's log-probs come from writing and the base's from reading, so in
16 bits two equal models are a little apart: measure the base against itself to see how much that is.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import httpx
import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.chat import PLAIN as PLAIN_FORM
from evaluation.contract.chat import TEMPLATE_ARGUMENTS, ChatForm
from evaluation.contract.render import ChatMessage, render
from evaluation.inference.completions import PredictorError
from evaluation.inference.model_client import ROUTE, post
from evaluation.inference.runner import Questions
from evaluation.metrics import statistics
from evaluation.metrics.measures import Measure, rate
from evaluation.metrics.statistics import clustered_interval

SCORING_ROUTE = "/v1/completions"
# A server's or a model's own defaults would narrow what is sampled, and the samples would be of another model.
PLAIN = {"top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1}


class Prompted(NamedTuple):
    conversation_id: str
    messages: Sequence[ChatMessage]
    ending: Mapping[str, list[int]] = MappingProxyType({})
    salted: Mapping[str, str] = MappingProxyType({})  # with whose prefix cache, where several have one server


class Divergence(BaseModel):
    """In nats. reason: the first problem, where some prompt (or every one) could not be compared."""

    model_config = ConfigDict(frozen=True)

    candidate: str
    base: str
    seed: int
    k1_per_token: Measure  # n counts tokens
    k3_per_token: Measure
    k1_per_response: Measure  # n counts responses
    k3_per_response: Measure
    truncated: Measure  # responses that were cut off
    errored: Measure  # prompts that are in none of the others
    reason: str | None


class _Compared(NamedTuple):
    conversation_id: str
    k1: float  # summed over the response's tokens
    k3: float
    tokens: int
    truncated: bool


class _Sampled(NamedTuple):
    prompt_ids: list[int]
    token_ids: list[int]
    logprobs: list[float]  # of token_ids
    truncated: bool


def prompted(
    questions: Questions,
    codes: tuple[str, ...],
    form: ChatForm = PLAIN_FORM,
    cache_salt: str | None = None,
) -> list[Prompted]:
    """What a model is shown for these questions. codes: at least as many as the largest schema has answers."""
    salted = {} if cache_salt is None else {"cache_salt": cache_salt}
    return [
        Prompted(
            q.conversation.id,
            form.messages(render(q.schema, q.conversation, codes).messages),
            form.ending(),
            salted,
        )
        for q in questions.each
    ]


async def divergence(
    client: httpx.AsyncClient,
    candidate: str,
    base: str,
    prompts: Sequence[Prompted],
    seed: int = 0,
    *,
    max_tokens: int = ANSWER_TOKENS,
    concurrency: int = 16,
) -> Divergence:
    """client: as `evaluation.inference.predictor.connect` makes it. candidate, base: their names on that server."""
    found: dict[int, _Compared] = {}
    problems: dict[int, str] = {}
    waiting = iter(enumerate(prompts))

    async def work(waiting: Iterator[tuple[int, Prompted]]) -> None:
        for number, asked in waiting:
            try:
                sampled = await _sample(client, candidate, asked, seed + number, max_tokens)
                scored = await _score(client, base, sampled, asked.salted)
            except PredictorError as error:
                problems[number] = str(error)
            else:
                found[number] = _compare(asked.conversation_id, sampled, scored)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work(waiting))
    compared = [found[number] for number in sorted(found)]
    return Divergence(
        candidate=candidate,
        base=base,
        seed=seed,
        k1_per_token=_measure(compared, [(c.k1, c.tokens) for c in compared]),
        k3_per_token=_measure(compared, [(c.k3, c.tokens) for c in compared]),
        k1_per_response=_measure(compared, [(c.k1, 1) for c in compared]),
        k3_per_response=_measure(compared, [(c.k3, 1) for c in compared]),
        truncated=rate(sum(c.truncated for c in compared), len(compared)),
        errored=rate(len(problems), len(prompts)),
        reason=problems[min(problems)] if problems else None,
    )


def _measure(compared: Sequence[_Compared], pairs: Sequence[tuple[float, int]]) -> Measure:
    """pairs: of each response the sum of its estimates, and what that is divided by."""
    terms = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    total, n = terms.sum(axis=0)
    ci95 = clustered_interval([c.conversation_id for c in compared], terms, statistics.ratio)
    return Measure(value=total / n if n else None, n=int(n), ci95=ci95)


def _compare(conversation_id: str, sampled: _Sampled, base_logprobs: list[float]) -> _Compared:
    log_r = np.array(base_logprobs) - np.array(sampled.logprobs)
    k1, k3 = -log_r, np.expm1(log_r) - log_r
    return _Compared(conversation_id, float(k1.sum()), float(k3.sum()), len(log_r), sampled.truncated)


async def _sample(
    client: httpx.AsyncClient, model: str, asked: Prompted, seed: int, max_tokens: int
) -> _Sampled:
    body = PLAIN | {
        "model": model,
        "messages": list(asked.messages),
        "temperature": 1,
        "seed": seed,
        "max_tokens": max_tokens,
        "logprobs": True,
        "return_token_ids": True,
        "chat_template_kwargs": TEMPLATE_ARGUMENTS,
        **asked.ending,
        **asked.salted,
    }
    raw = await post(client, ROUTE, body)
    try:
        choice = raw["choices"][0]
        prompt_ids, token_ids = raw.get("prompt_token_ids"), choice.get("token_ids")
        logprobs = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
        truncated = choice.get("finish_reason") == "length"
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise PredictorError(f"no log-probs of what {model} wrote: {error!r}") from error
    if not prompt_ids or not token_ids or len(token_ids) != len(logprobs):
        raise PredictorError(
            "the server does not say which tokens were written (vLLM does: `return_token_ids`)"
        )
    return _Sampled(prompt_ids, token_ids, logprobs, truncated)


async def _score(
    client: httpx.AsyncClient, model: str, sampled: _Sampled, salted: Mapping[str, str]
) -> list[float]:
    """The log-probs of the sampled tokens under another model."""
    tokens = [*sampled.prompt_ids, *sampled.token_ids]
    body = {"model": model, "prompt": tokens, "prompt_logprobs": 0, "max_tokens": 1, "temperature": 0}
    raw = await post(client, SCORING_ROUTE, body | dict(salted))
    try:
        read = raw["choices"][0]["prompt_logprobs"][len(sampled.prompt_ids) :]
        return [float(at[str(token)]["logprob"]) for at, token in zip(read, sampled.token_ids, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise PredictorError(
            "the server does not score given tokens (vLLM does: `prompt_logprobs`)"
        ) from error
