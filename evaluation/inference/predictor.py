"""From a schema and a conversation to an answer, over any OpenAI-compatible server. Users and the gate share it.

The model writes freely; no grammar holds it to the codes, so that the probability it gives to something else
(1 - label_mass) stays visible. vLLM is asked for the log-probs of exactly the codes (`logprob_token_ids`); a server
that ignores that field is read by its `top_logprobs`, and what those leave out is unknown, not 0.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

import httpx
from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.chat import TEMPLATE_ARGUMENTS
from evaluation.contract.mode import Mode, ReasoningOrder
from evaluation.contract.parse import (
    Answer,
    Evidence,
    ParseFailure,
    before_choice,
    decided_by,
    evidence,
    explaining_prefix,
    forced_prefix,
    parse,
    settled,
)
from evaluation.contract.record import Conversation
from evaluation.contract.render import FAST_PREFIX, ChatMessage, Prompt, render
from evaluation.contract.schema import CategorySchema, Condition
from evaluation.inference.completions import Completion, Growing
from evaluation.inference.completions import PredictorError as PredictorError
from evaluation.inference.likeness import weighed
from evaluation.inference.logprobs import CodeReading, read_answer, read_choice, read_code, tokens_within
from evaluation.inference.model_client import DEFAULT_SENDING, ModelClient
from evaluation.inference.model_client import ROUTE as ROUTE
from evaluation.inference.model_client import Sending as Sending
from evaluation.inference.model_client import connect as connect
from evaluation.inference.tokenizer_files import Codes as Codes
from evaluation.inference.tokenizer_files import load_codes as load_codes

TOP_LOGPROBS = 20  # the most that OpenAI's own API allows


class Prediction(BaseModel):
    model_config = ConfigDict(frozen=True)

    category: str | None  # None: none of these, or unparsable where `failure` is set
    mode: Mode = Mode.reasoned
    reasoning: str | None  # None, here and below, where none was asked for
    failure: ParseFailure | None
    evidence: tuple[Evidence, ...] | None
    decided_by: Condition | None
    confidence: float | None  # of `category`; None where the server gave no log-probs
    probabilities: dict[str | None, float] | None  # renormalised over the answers that the server reported
    label_mass: float | None  # None where some code's log-prob is unknown
    forced_read: bool
    prompt_tokens: int | None  # None, here and below, where the server did not count
    completion_tokens: int | None
    cached_tokens: int | None
    latency_s: float

    @property
    def reasoning_order(self) -> ReasoningOrder | None:
        """None where there is no reasoning."""
        if self.reasoning is None:
            return None
        return ReasoningOrder.after if self.mode is Mode.fast else ReasoningOrder.before

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


class VllmPredictor:
    def __init__(
        self,
        client: httpx.AsyncClient,
        model: str,
        codes: Codes,
        *,
        max_tokens: int = ANSWER_TOKENS,
        concurrency: int = 32,
        sending: Sending = DEFAULT_SENDING,
        mode: Mode = Mode.reasoned,
    ):
        """client: its base_url is the server's root, over TCP or a Unix socket (`connect` makes one).

        codes: the pool, of which a schema with n answers uses the first n. mode: fast needs a server that goes on with
        a message that was begun for it (`check_continues`).
        """
        if len(codes.texts) != len(codes.token_ids):
            raise ValueError(f"{len(codes.texts)} codes and {len(codes.token_ids)} token ids were given")
        self.client, self.model = client, model
        self.codes, self._token_ids, self.form, self._likeness = codes
        self.max_tokens, self._sending, self._mode = max_tokens, sending, mode
        self._asking = ModelClient(client, sending, system_role=self.form.system_role)
        self._places = asyncio.Semaphore(concurrency)

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        return await self._asked(_Asked(render(schema, conversation, self.codes), schema, conversation))

    async def answer(self, prompt: Prompt, schema: CategorySchema, conversation: Conversation) -> Prediction:
        """To a prompt that says more than schema and conversation do, such as a hint, of which no encoder hears.

        Raises: PredictorError."""
        return await self._asked(_Asked(prompt, schema, conversation, says_more=True))

    async def _asked(self, asked: "_Asked") -> Prediction:
        async with self._places:
            start = time.perf_counter()
            if self._mode is Mode.fast:
                return await self._at_once(asked, start)
            first = await self._asking.complete(self._body(asked.prompt, self.max_tokens))
            return await self._read(asked, first, start)

    async def stream(
        self, schema: CategorySchema, conversation: Conversation
    ) -> AsyncGenerator[str | Prediction, None]:
        """The reasoning in pieces as it is written, where there is one, then the prediction. Asked once, without a
        second attempt.

        Close it (`contextlib.aclosing`) where it may be left early: that ends the server's work too.
        """
        if self._mode is Mode.fast:
            yield await self.predict(schema, conversation)
            return
        asked = _Asked(render(schema, conversation, self.codes), schema, conversation)
        body = self._body(asked.prompt, self.max_tokens) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self._places:
            start = time.perf_counter()
            growing, shown = Growing(), 0
            async with aclosing(self._asking.chunks(body)) as chunks:
                async for chunk in chunks:
                    growing.add(chunk)
                    reasoning = settled(growing.text)
                    if self._hears(asked):  # what it chooses may still be another code
                        reasoning = before_choice(reasoning)
                    if len(reasoning) > shown:
                        yield reasoning[shown:]
                        shown = len(reasoning)
            found = await self._read(asked, growing.whole(), start)
            if self._hears(asked) and found.reasoning is not None and len(found.reasoning) > shown:
                yield found.reasoning[shown:]
            yield found

    def request(self, schema: CategorySchema, conversation: Conversation) -> dict[str, Any]:
        """The body of the first request of `predict`, for whoever wants to send it himself."""
        prompt = render(schema, conversation, self.codes)
        if self._mode is Mode.fast:
            return self._continued(prompt, FAST_PREFIX)
        return self._body(prompt, self.max_tokens)

    async def _at_once(self, asked: "_Asked", start: float) -> Prediction:
        """start: of the request, by the performance counter."""
        prompt, schema = asked.prompt, asked.schema
        none = Answer(None, "", ParseFailure.no_label)
        completion, answer, reading = await self._force(prompt, schema, FAST_PREFIX, none)
        probabilities = _by_answer(reading, schema, prompt.codes)
        if (heard := await self._heard(probabilities, asked)) is not None:
            answer = answer._replace(category=_likeliest(heard), failure=None)
            probabilities = heard
        return Prediction(
            mode=Mode.fast,
            category=answer.category,
            reasoning=None,
            failure=answer.failure,
            evidence=None,
            decided_by=None,
            confidence=None if answer.failure or not probabilities else probabilities.get(answer.category),
            probabilities=probabilities,
            label_mass=reading.label_mass if reading else None,
            forced_read=False,
            **usage([completion]),
            latency_s=time.perf_counter() - start,
        )

    async def _read(self, asked: "_Asked", first: Completion, start: float) -> Prediction:
        """start: of the first request, by the performance counter."""
        prompt, schema, conversation = asked.prompt, asked.schema, asked.conversation
        answer = parse(first.text, schema, prompt.codes, truncated=first.truncated)
        made, reading = [first], read_answer(first.tokens, prompt.codes)
        probabilities = _by_answer(reading, schema, prompt.codes)
        chosen = read_choice(first.tokens, prompt.codes) if self._hears(asked) else None
        heard = await self._heard(_by_answer(chosen, schema, prompt.codes), asked)
        if heard is not None and (answer.failure is not None or answer.category != _likeliest(heard)):
            again, answer = await self._chosen_anew(asked, first, answer, _likeliest(heard))
            made.append(again)
        if heard is not None and answer.failure is None and answer.category == _likeliest(heard):
            reading, probabilities = chosen, heard
        if forced := answer.failure is not None:
            last, answer, reading = await self._force(prompt, schema, forced_prefix(first.text), answer)
            made.append(last)
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
            forced_read=forced,
            **usage(made),
            latency_s=time.perf_counter() - start,
        )

    def _hears(self, asked: "_Asked") -> bool:
        """Whether the sentence encoder knows as much of it as the model."""
        return self._likeness is not None and not asked.says_more and asked.schema.describes_texts

    async def _heard(
        self, shares: dict[str | None, float] | None, asked: "_Asked"
    ) -> dict[str | None, float] | None:
        """The shares of all answers with the sentence encoder heard; None where there is none, or where some share is
        not known."""
        if self._likeness is None or not self._hears(asked) or shares is None:
            return None
        if len(shares) < len(asked.schema.answers):
            return None
        return await weighed(shares, asked.schema, asked.conversation, self._likeness)

    async def _chosen_anew(
        self, asked: "_Asked", first: Completion, answer: Answer, category: str | None
    ) -> tuple[Completion, Answer]:
        """What was quoted stands; the condition and what follows is written again, for this category. Where the model
        then answers otherwise, what it said first stands."""
        again, found = await self._reasons_for(
            asked.prompt, asked.schema, category, "", first, answer.reasoning
        )
        agrees = found.failure is None and found.category == category
        return again, found if agrees else answer

    async def _reasons_for(
        self, prompt: Prompt, schema: CategorySchema, category: str | None,
        begun: str, written: Completion, reasoning: str,
    ) -> tuple[Completion, Answer]:  # fmt: skip
        """begun and written: what was begun for the model and what it wrote; of the reasoning in them what it quotes is
        kept. Together it is no longer than an answer may be."""
        kept = tokens_within(written.tokens, len(before_choice(reasoning)) - len(begun))
        prefix = explaining_prefix(reasoning, prompt.codes[schema.answers.index(category)])
        completion = await self._asking.complete(
            self._continued(prompt, prefix, max(1, self.max_tokens - kept))
        )
        text = prefix + completion.text
        return completion, parse(text, schema, prompt.codes, truncated=completion.truncated)

    async def _force(
        self, prompt: Prompt, schema: CategorySchema, prefix: str, failed: Answer
    ) -> tuple[Completion, Answer, CodeReading | None]:
        """One token more, where the code must come: the likeliest code is the answer. prefix: up to there."""
        completion = await self._asking.complete(self._continued(prompt, prefix))
        reading = read_code(completion.tokens[0], prompt.codes) if completion.tokens else None
        code = completion.text.strip()
        if code not in prompt.codes and reading and reading.label_mass is not None:
            code = max(prompt.codes, key=lambda c: reading.probabilities[c])
        answer = parse(f"{prefix} {code}", schema, prompt.codes)
        return completion, answer if answer.failure is None else failed, reading

    def _continued(self, prompt: Prompt, prefix: str, max_tokens: int = 1) -> dict[str, Any]:
        partial: ChatMessage = {"role": "assistant", "content": prefix}
        body = self._body(prompt._replace(messages=[*prompt.messages, partial]), max_tokens)
        return body | {"add_generation_prompt": False, "continue_final_message": True}

    def _body(self, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self.form.messages(prompt.messages),
            "temperature": 0,
            "max_tokens": max_tokens,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
            "chat_template_kwargs": TEMPLATE_ARGUMENTS,
            "logprob_token_ids": list(self._token_ids[: len(prompt.codes)]),
            **self.form.ending(),
        }
        return body if self._sending.cache_salt is None else body | {"cache_salt": self._sending.cache_salt}


class _Asked(NamedTuple):
    prompt: Prompt
    schema: CategorySchema
    conversation: Conversation
    says_more: bool = False  # than these two


def _likeliest(shares: dict[str | None, float]) -> str | None:
    return max(shares, key=shares.__getitem__)


def _by_answer(
    reading: CodeReading | None, schema: CategorySchema, codes: tuple[str, ...]
) -> dict[str | None, float] | None:
    if reading is None:
        return None
    pairs = zip(schema.answers, codes, strict=True)
    return {answer: reading.probabilities[code] for answer, code in pairs if code in reading.probabilities}


def usage(made: Sequence[Completion | Prediction]) -> dict[str, int | None]:
    """What they took together. None where one of them was not counted."""
    names = ("prompt_tokens", "completion_tokens", "cached_tokens")
    return {name: _sum([getattr(one, name) for one in made]) for name in names}


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
