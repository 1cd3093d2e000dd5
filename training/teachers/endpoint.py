"""A teacher behind an OpenAI-compatible server."""

import asyncio
import os
from typing import NamedTuple

import httpx

from evaluation.contract.render import ChatMessage
from training.artifacts import FailureCode, StageFailed
from training.config import EndpointTeacher

_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})


class Replies(NamedTuple):
    """What came back for one prompt. errored: responses asked for that never came.

    tokens: of the responses that came; None where the server did not count those of every one.
    """

    texts: list[str]
    tokens: int | None
    errored: int


class _Reply(NamedTuple):
    text: str
    tokens: int | None


def answers(
    teacher: EndpointTeacher,
    prompts: list[list[ChatMessage]],
    samples: int,
    temperature: float,
    max_new_tokens: int,
    transport: httpx.AsyncBaseTransport | None = None,
) -> list[Replies]:
    """`samples` responses to each prompt. Truncated and empty ones are left out, failed requests are counted.

    Raises: StageFailed where the key is missing or refused, or where every single request failed.
    """
    return asyncio.run(_answers(teacher, prompts, samples, temperature, max_new_tokens, transport))


async def _answers(
    teacher: EndpointTeacher,
    prompts: list[list[ChatMessage]],
    samples: int,
    temperature: float,
    max_new_tokens: int,
    transport: httpx.AsyncBaseTransport | None,
) -> list[Replies]:
    gate = asyncio.Semaphore(teacher.concurrency)
    async with httpx.AsyncClient(
        base_url=teacher.base_url.rstrip("/") + "/",
        headers=_headers(teacher),
        timeout=teacher.timeout_s,
        transport=transport,
    ) as client:

        async def one(messages: list[ChatMessage]) -> _Reply | None:
            body = {
                "model": teacher.model,
                "messages": messages,
                "temperature": temperature,
                "max_tokens": max_new_tokens,
            }
            async with gate:
                return await _ask(client, teacher, body)

        flat = await asyncio.gather(*(one(messages) for messages in prompts for _ in range(samples)))
    if flat and all(reply is None for reply in flat):
        raise StageFailed(
            FailureCode.teacher_unavailable,
            f"none of {len(flat)} requests to {teacher.base_url} was answered; check that it runs and serves "
            f"{teacher.model}",
        )
    return [_collected(flat[i * samples : (i + 1) * samples]) for i in range(len(prompts))]


def _collected(replies: list[_Reply | None]) -> Replies:
    came = [reply for reply in replies if reply is not None]
    counted = [reply.tokens for reply in came if reply.tokens is not None]
    tokens = sum(counted) if len(counted) == len(came) else None
    return Replies([reply.text for reply in came if reply.text], tokens, len(replies) - len(came))


async def _ask(client: httpx.AsyncClient, teacher: EndpointTeacher, body: dict[str, object]) -> _Reply | None:
    """None after the last try. A text that was cut off comes back empty: its answer is missing."""
    for attempt in range(teacher.attempts):
        try:
            response = await client.post("chat/completions", json=body)
        except httpx.TransportError:
            response = None
        if response is not None and response.status_code in (401, 403, 404):
            raise StageFailed(
                FailureCode.teacher_unavailable,
                f"{teacher.base_url} refused the request with {response.status_code}; check base_url, model and the "
                f"key in {teacher.api_key_env or 'api_key_env (not set)'}",
            )
        if response is not None and response.is_success:
            return _read(response)
        if response is not None and response.status_code not in _AGAIN:
            return None
        if attempt + 1 < teacher.attempts:
            await asyncio.sleep(_wait_s(response, attempt))
    return None


def _read(response: httpx.Response) -> _Reply | None:
    try:
        content = response.json()
        choice = content["choices"][0]
        text = choice["message"]["content"] or ""
        total = (content.get("usage") or {}).get("total_tokens")
        tokens = None if total is None else int(total)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return _Reply("" if choice.get("finish_reason") == "length" else str(text), tokens)


def _wait_s(response: httpx.Response | None, attempt: int) -> float:
    asked = response.headers.get("retry-after", "") if response is not None else ""
    return min(float(asked), 60.0) if asked.isdigit() else min(0.5 * 2.0**attempt, 30.0)


def _headers(teacher: EndpointTeacher) -> dict[str, str]:
    if teacher.api_key_env is None:
        return {}
    key = os.environ.get(teacher.api_key_env)
    if not key:
        raise StageFailed(
            FailureCode.teacher_unavailable,
            f"the environment variable {teacher.api_key_env} is empty; put the teacher's key into it",
        )
    return {"Authorization": f"Bearer {key}"}
