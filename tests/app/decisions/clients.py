"""The clients that people have, from the package registry, against our API in this process."""

from typing import Any, NamedTuple

import httpx
import httpx2
from langchain_openai.decisions import OpenAIDecisions
from openai import AsyncOpenAI
from typesafe_sdk import AsyncTypeSafeClient, RetryPolicy

from app.auth.principal import Scope
from tests.app.classify.serving_contexts import Live
from tests.callers import Callers

_URL = "http://steerwise.test"


class Clients(NamedTuple):
    """plain: without any library of either wire."""

    plain: httpx.AsyncClient
    openai: AsyncOpenAI
    typesafe: AsyncTypeSafeClient
    langchain: OpenAIDecisions


async def connected(callers: Callers, live: Live) -> Clients:
    """With a key that may classify and nothing else."""
    key = await callers.key_of(live.told.scope, Scope.classify)
    settings: dict[str, Any] = {"api_key": key, "base_url": f"{_URL}/v1", "max_retries": 0}
    return Clients(
        await callers.with_key(key),
        AsyncOpenAI(http_client=_http(callers), **settings),
        typesafe(callers, key),
        OpenAIDecisions(model="steerwise", http_async_client=_http(callers), **settings),
    )


def typesafe(callers: Callers, key: str) -> AsyncTypeSafeClient:
    once = RetryPolicy(max_retries=0)
    return AsyncTypeSafeClient(
        api_key=key, base_url=_URL, model="steerwise", http_client=_http(callers), retry=once
    )


def _http(callers: Callers) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(callers.api))
