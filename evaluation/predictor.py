"""From a schema and a conversation to an answer, over any OpenAI-compatible server. Users and the gate share it.

The model writes freely; no grammar holds it to the codes, so that the probability it gives to something else
(1 - label_mass) stays visible. vLLM is asked for the log-probs of exactly the codes (`logprob_token_ids`); a server
that ignores that field is read by its `top_logprobs`, and what those leave out is unknown, not 0.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import httpx
from pydantic import BaseModel, ConfigDict, field_serializer, field_validator
from pydantic_core import from_json
from tokenizers import Tokenizer

from evaluation import completions
from evaluation.completions import Completion, Growing
from evaluation.completions import PredictorError as PredictorError
from evaluation.contract.parse import (
    Answer,
    Evidence,
    ParseFailure,
    decided_by,
    evidence,
    forced_prefix,
    parse,
    settled,
)
from evaluation.contract.record import Conversation
from evaluation.contract.render import (
    ANSWER_MARK,
    TEMPLATE_SWITCHES,
    ChatMessage,
    Prompt,
    choose_codes,
    render,
)
from evaluation.contract.schema import CategorySchema, Condition
from evaluation.logprobs import Reading, read_answer, read_code

TOP_LOGPROBS = 20  # the most that OpenAI's own API allows
ROUTE = "/v1/chat/completions"
RETRIED_STATUS = frozenset({429, 502, 503, 504})


class Codes(NamedTuple):
    texts: tuple[str, ...]
    token_ids: tuple[int, ...]


class Prediction(BaseModel):
    model_config = ConfigDict(frozen=True)

    category: str | None  # None: none of these, or unparsable where `failure` is set
    reasoning: str
    failure: ParseFailure | None
    evidence: tuple[Evidence, ...]
    decided_by: Condition | None
    confidence: float | None  # of `category`; None where the server gave no log-probs
    probabilities: dict[str | None, float] | None  # renormalised over the answers that the server reported
    label_mass: float | None  # None where some code's log-prob is unknown
    forced_read: bool
    prompt_tokens: int | None  # None, here and below, where the server did not count
    completion_tokens: int | None
    cached_tokens: int | None
    latency_s: float

    @field_serializer("probabilities", when_used="json")
    def _as_pairs(self, value: dict[str | None, float] | None) -> list[tuple[str | None, float]] | None:
        return None if value is None else list(value.items())  # JSON has no null key

    @field_validator("probabilities", mode="before")
    @classmethod
    def _from_pairs(cls, value: Any) -> Any:
        return dict(map(tuple, value)) if isinstance(value, list) else value


class Predictor(Protocol):
    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        """Raises: PredictorError."""
        ...


class Sending(NamedTuple):
    attempts: int = 5  # where the server is overloaded or cannot be reached
    backoff_s: float = 0.25  # before the second attempt, doubled before each later one
    cache_salt: str | None = None  # keeps one tenant's cached prefixes from another's
    headers: Mapping[str, str] = MappingProxyType({})


DEFAULT_SENDING = Sending()


class VllmPredictor:
    def __init__(
        self,
        client: httpx.AsyncClient,
        model: str,
        codes: tuple[str, ...],
        code_token_ids: tuple[int, ...] | None = None,
        *,
        max_tokens: int = 160,
        concurrency: int = 32,
        sending: Sending = DEFAULT_SENDING,
    ):
        """client: its base_url is the server's root, over TCP or a Unix socket (`connect` makes one).

        codes: the pool, of which a schema with n answers uses the first n.
        """
        if code_token_ids is not None and len(code_token_ids) != len(codes):
            raise ValueError(f"{len(codes)} codes and {len(code_token_ids)} token ids were given")
        self.client, self.model, self.codes, self.code_token_ids = client, model, codes, code_token_ids
        self.max_tokens, self.sending = max_tokens, sending
        self._places = asyncio.Semaphore(concurrency)

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        asked = _Asked(render(schema, conversation, self.codes), schema, conversation)
        async with self._places:
            start = time.perf_counter()
            first = await self._complete(self._body(asked.prompt, self.max_tokens))
            return await self._read(asked, first, start)

    async def stream(
        self, schema: CategorySchema, conversation: Conversation
    ) -> AsyncGenerator[str | Prediction, None]:
        """The reasoning in pieces as it is written, then the prediction. Asked once, without a second attempt.

        Close it (`contextlib.aclosing`) where it may be left early: that ends the server's work too.
        """
        asked = _Asked(render(schema, conversation, self.codes), schema, conversation)
        body = self._body(asked.prompt, self.max_tokens) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self._places:
            start = time.perf_counter()
            growing, shown = Growing(), 0
            async with aclosing(self._chunks(body)) as chunks:
                async for chunk in chunks:
                    growing.add(chunk)
                    reasoning = settled(growing.text)
                    if len(reasoning) > shown:
                        yield reasoning[shown:]
                        shown = len(reasoning)
            yield await self._read(asked, growing.whole(), start)

    def request(self, schema: CategorySchema, conversation: Conversation) -> dict[str, Any]:
        """The body of the first request of `predict`, for whoever wants to send it himself."""
        return self._body(render(schema, conversation, self.codes), self.max_tokens)

    async def _read(self, asked: "_Asked", first: Completion, start: float) -> Prediction:
        """start: of the first request, by the performance counter."""
        prompt, schema, conversation = asked
        answer = parse(first.text, schema, prompt.codes, truncated=first.truncated)
        reading = read_answer(first.tokens, prompt.codes)
        forced = None
        if answer.failure is not None:
            forced, answer, reading = await self._force(prompt, schema, first.text, answer)
        made = [first] if forced is None else [first, forced]
        probabilities = _by_answer(reading, schema, prompt.codes)
        return Prediction(
            category=answer.category,
            reasoning=answer.reasoning,
            failure=answer.failure,
            evidence=tuple(evidence(answer.reasoning, conversation)),
            decided_by=None if answer.failure else decided_by(answer.reasoning, schema, answer.category),
            confidence=None if answer.failure or not probabilities else probabilities.get(answer.category),
            probabilities=probabilities,
            label_mass=reading.label_mass if reading else None,
            forced_read=forced is not None,
            prompt_tokens=_sum([c.prompt_tokens for c in made]),
            completion_tokens=_sum([c.completion_tokens for c in made]),
            cached_tokens=_sum([c.cached_tokens for c in made]),
            latency_s=time.perf_counter() - start,
        )

    async def _force(
        self, prompt: Prompt, schema: CategorySchema, text: str, failed: Answer
    ) -> tuple[Completion, Answer, Reading | None]:
        """One token more, where the code must come: the likeliest code is the answer."""
        prefix = forced_prefix(text)
        partial: ChatMessage = {"role": "assistant", "content": prefix}
        body = self._body(prompt._replace(messages=[*prompt.messages, partial]), 1)
        completion = await self._complete(
            body | {"add_generation_prompt": False, "continue_final_message": True}
        )
        reading = read_code(completion.tokens[0], prompt.codes) if completion.tokens else None
        code = completion.text.strip()
        if code not in prompt.codes and reading and reading.label_mass is not None:
            code = max(prompt.codes, key=lambda c: reading.probabilities[c])
        answer = parse(f"{prefix} {code}", schema, prompt.codes)
        return completion, answer if answer.failure is None else failed, reading

    def _body(self, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": prompt.messages,
            "temperature": 0,
            "max_tokens": max_tokens,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
            "chat_template_kwargs": TEMPLATE_SWITCHES,
        }
        if self.code_token_ids is not None:
            body["logprob_token_ids"] = list(self.code_token_ids[: len(prompt.codes)])
        return body if self.sending.cache_salt is None else body | {"cache_salt": self.sending.cache_salt}

    async def _complete(self, body: dict[str, Any]) -> Completion:
        return completions.read(await self._post(body))

    async def _chunks(self, body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        sending = self.client.stream("POST", ROUTE, json=body, headers=self.sending.headers)
        try:
            async with sending as response:
                if response.status_code != 200:
                    raise _refused(response.status_code, (await response.aread()).decode(errors="replace"))
                async for chunk in completions.chunks(response.aiter_lines()):
                    yield chunk
        except httpx.TransportError as error:
            raise _unreachable(error) from error

    async def _post(self, body: dict[str, Any]) -> Any:
        problem = PredictorError("no attempt was allowed")
        for attempt in range(self.sending.attempts):
            if attempt:
                await asyncio.sleep(self.sending.backoff_s * 2 ** (attempt - 1))
            try:
                response = await self.client.post(ROUTE, json=body, headers=self.sending.headers)
            except httpx.TransportError as error:
                problem = _unreachable(error)
                continue
            if response.status_code == 200:
                return _json(response)
            problem = _refused(response.status_code, response.text)
            if response.status_code not in RETRIED_STATUS:
                break
        raise problem


class _Asked(NamedTuple):
    prompt: Prompt
    schema: CategorySchema
    conversation: Conversation


def connect(
    base_url: str = "http://localhost",
    *,
    socket_path: str | None = None,
    api_key: str | None = None,
    timeout_s: float = 120,
) -> httpx.AsyncClient:
    """base_url: with or without /v1. Over socket_path its host is only a name."""
    transport = httpx.AsyncHTTPTransport(uds=socket_path) if socket_path else None
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    root = base_url.rstrip("/").removesuffix("/v1")
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
    wait = httpx.Timeout(timeout_s, connect=10)
    return httpx.AsyncClient(base_url=root, transport=transport, headers=headers, timeout=wait, limits=limits)


def load_codes(model_dir: Path, count: int) -> Codes:
    """The first `count` one-token codes of the model's tokenizer. Raises: CodesError where it has fewer."""
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))

    def tokens_of(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    texts = choose_codes(tokens_of, count)
    return Codes(texts, tuple(tokens_of(f"{ANSWER_MARK} {code}")[-1] for code in texts))


def _by_answer(
    reading: Reading | None, schema: CategorySchema, codes: tuple[str, ...]
) -> dict[str | None, float] | None:
    if reading is None:
        return None
    pairs = zip(schema.answers, codes, strict=True)
    return {answer: reading.probabilities[code] for answer, code in pairs if code in reading.probabilities}


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _unreachable(error: httpx.TransportError) -> PredictorError:
    return PredictorError(f"the model server cannot be reached: {error!r}")


def _refused(status: int, text: str) -> PredictorError:
    return PredictorError(f"{status}: {text[:300]}", status)


def _json(response: httpx.Response) -> Any:
    try:
        return from_json(
            response.content
        )  # half the time of the standard library's, of 40 kB with the log-probs
    except ValueError as error:
        raise PredictorError("the model server's response is not JSON", response.status_code) from error
