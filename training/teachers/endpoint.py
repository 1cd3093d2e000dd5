"""A teacher behind an OpenAI-compatible server."""

import asyncio
import os
import time
from typing import Any, NamedTuple, TypeAlias

import httpx

from evaluation.contract.chat import folded, is_about_roles
from evaluation.contract.render import ChatMessage
from evaluation.inference.http import RETRIED_STATUS, Retries, sent
from training.artifacts import StageFailed
from training.config import EndpointTeacher
from training.engine.deadline import NEVER, Deadline
from training.protocol import FailureCode
from training.teachers.paid import Account, PaidAnswers, Reply

_ALSO_RETRIED = frozenset({409, 500})  # of a server elsewhere, both pass


class TeacherRequest(NamedTuple):
    """How every prompt is asked. samples: responses to each."""

    samples: int
    temperature: float
    max_new_tokens: int


class Replies(NamedTuple):
    """What came back for one prompt. errored: responses asked for that never came; unpaid: not asked for.

    tokens: of the responses that came; None where the server did not count those of every one. cached: of them, how
    many had come before. late: responses that had not come by the deadline.
    """

    texts: list[str]
    tokens: int | None
    errored: int
    unpaid: int
    cached: int
    late: int = 0


class _Came(NamedTuple):
    reply: Reply
    cached: bool


class _Unpaid:
    """In the place of a reply that there was no money for."""


class _Late:
    """In the place of a reply that was not waited for."""


_Outcome: TypeAlias = _Came | _Unpaid | _Late | None


class TeacherEndpoint:
    """One for a stage: it remembers when it asked last, and what may still be spent."""

    def __init__(
        self,
        teacher: EndpointTeacher,
        account: Account | None = None,
        answers: PaidAnswers | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ):
        self._teacher, self._transport = teacher, transport
        self._account, self._answers = account or Account(), answers or PaidAnswers(None)
        self._retries = Retries(teacher.attempts, 0.5, 60.0, RETRIED_STATUS | _ALSO_RETRIED)
        self._system_role = True  # until the server refuses one
        self._next_s = 0.0  # by the monotonic clock: when the next request may be sent
        self._refused = 0  # requests that the server calls wrong, and would again

    def answers(
        self, prompts: list[list[ChatMessage]], asked: TeacherRequest, deadline: Deadline = NEVER
    ) -> list[Replies]:
        """Truncated and empty responses are left out, failed requests are counted.

        Raises: StageFailed where the key is missing or refused, or where every single request failed.
        """
        return asyncio.run(self._all(prompts, asked, deadline))

    async def _all(
        self, prompts: list[list[ChatMessage]], asked: TeacherRequest, deadline: Deadline
    ) -> list[Replies]:
        teacher = self._teacher
        places = asyncio.Semaphore(teacher.concurrency)
        async with httpx.AsyncClient(
            base_url=teacher.base_url.rstrip("/") + "/",
            headers=_headers(teacher),
            timeout=teacher.timeout_s,
            transport=self._transport,
        ) as client:

            async def one(messages: list[ChatMessage], number: int) -> _Outcome:
                async with places:
                    if deadline.passed:
                        return _Late()
                    try:
                        async with asyncio.timeout(None if deadline == NEVER else deadline.left_s):
                            return await self._one(client, messages, number, asked)
                    except TimeoutError:
                        return _Late()

            flat = await asyncio.gather(*(one(m, n) for m in prompts for n in range(asked.samples)))
        if flat and all(reply is None for reply in flat):
            refused = self._refused >= len(flat)
            raise StageFailed(
                FailureCode.teacher_refused if refused else FailureCode.teacher_unavailable,
                f"none of {len(flat)} requests to {teacher.called} was answered; check that it runs and serves "
                f"{teacher.model}",
            )
        size = asked.samples
        return [_collected(flat[i * size : (i + 1) * size]) for i in range(len(prompts))]

    async def _one(
        self, client: httpx.AsyncClient, messages: list[ChatMessage], number: int, asked: TeacherRequest
    ) -> _Came | _Unpaid | None:
        body = {
            "model": self._teacher.model,
            "messages": messages,
            "temperature": asked.temperature,
            "max_tokens": asked.max_new_tokens,
        }
        question = body | {"server": self._teacher.base_url, "sample": number}
        found = self._answers.find(question)
        if found is not None:
            return _Came(found, cached=True)
        if self._account.is_empty_for(self._teacher):
            return _Unpaid()
        reply = await self._ask(client, body)
        if reply is None:
            return None
        self._account.pay(self._teacher, reply)
        self._answers.keep(question, reply)
        return _Came(reply, cached=False)

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Reply | None:
        """None after the last try. A text that was cut off comes back empty: its answer is missing."""
        teacher = self._teacher

        async def in_turn() -> httpx.Response:
            await self._turn()
            return await self._post(client, body)

        try:
            response = await sent(in_turn, self._retries)
        except httpx.TransportError:
            return None
        if response.status_code in (401, 403, 404):
            raise StageFailed(
                FailureCode.teacher_refused,
                f"{teacher.called} refused the request with {response.status_code}; check base_url, model and "
                f"the key in {teacher.api_key_env or 'api_key_env (not set)'}",
            )
        if response.is_success:
            return _read(response)
        if response.status_code not in self._retries.statuses:
            self._refused += 1
        return None

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
        """A server that turns out to refuse a system message is sent none from then on."""
        without = body | {"messages": folded(body["messages"])}
        response = await client.post("chat/completions", json=body if self._system_role else without)
        if self._system_role and response.status_code in (400, 422) and is_about_roles(response.text):
            response = await client.post("chat/completions", json=without)
            self._system_role = not response.is_success
        return response

    async def _turn(self) -> None:
        if self._teacher.requests_per_minute is None:
            return
        now = time.monotonic()
        at = max(now, self._next_s)
        self._next_s = at + 60 / self._teacher.requests_per_minute
        await asyncio.sleep(at - now)


def _collected(replies: list[_Outcome]) -> Replies:
    came = [one for one in replies if isinstance(one, _Came)]
    counted = [one.reply.tokens for one in came if one.reply.tokens is not None]
    return Replies(
        texts=[one.reply.text for one in came if one.reply.text],
        tokens=sum(counted) if len(counted) == len(came) else None,
        errored=sum(one is None for one in replies),
        unpaid=sum(isinstance(one, _Unpaid) for one in replies),
        cached=sum(one.cached for one in came),
        late=sum(isinstance(one, _Late) for one in replies),
    )


def _read(response: httpx.Response) -> Reply | None:
    try:
        content = response.json()
        choice = content["choices"][0]
        text = choice["message"]["content"] or ""
        usage = content.get("usage") or {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        read, written = (None if count is None else int(count) for count in counts)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return Reply("" if choice.get("finish_reason") == "length" else str(text), read, written)


def _headers(teacher: EndpointTeacher) -> dict[str, str]:
    if teacher.api_key_env is None:
        return {}
    key = os.environ.get(teacher.api_key_env)
    if not key:
        raise StageFailed(
            FailureCode.teacher_refused,
            f"the environment variable {teacher.api_key_env} is empty; put the teacher's key into it",
        )
    return {"Authorization": f"Bearer {key}"}
