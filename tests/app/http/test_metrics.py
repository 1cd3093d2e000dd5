"""What Prometheus reads: figures of requests and answers, without tenants, for an admin of the platform."""

import re

import httpx
import pytest

from tests.callers import Callers

pytestmark = pytest.mark.anyio


def value_of(text: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_requests_are_counted_by_route_and_never_by_what_a_caller_made_up(
    platform: httpx.AsyncClient, callers: Callers
) -> None:
    before = (await platform.get("/metrics")).text
    await platform.get("/v1/schemas/not-an-id")
    await platform.request("BREW", "/coffee-for-me")
    after = await platform.get("/metrics")
    assert after.headers["content-type"].startswith("text/plain")
    name = "steerwise_http_request_duration_seconds_count"
    for labels in (
        'method="GET",route="/v1/schemas/{schema_id}",status="422"',
        'method="other",route="none",status="404"',
    ):
        sample = f"{name}{{{labels}}}"
        assert value_of(after.text, sample) == value_of(before, sample) + 1
    assert "coffee" not in after.text and "BREW" not in after.text
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", after.text)  # no tenant's id, nor any other


async def test_only_an_admin_of_the_platform_reads_them(client: httpx.AsyncClient, callers: Callers) -> None:
    assert (await client.get("/metrics")).status_code == 403
    assert (await (await callers.anonymous()).get("/metrics")).status_code == 401
