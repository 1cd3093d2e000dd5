"""What is done again and again goes on whatever happens, and the log tells an outage from a mistake of ours."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.errors import Unavailable
from app.infra.periodic import periodically

pytestmark = pytest.mark.anyio


async def lines_of(*errors: Exception) -> list[dict[str, object]]:
    """Of work that fails with one after the other, and then works."""
    waiting, worked = list(errors), asyncio.Event()

    async def work() -> None:
        if waiting:
            raise waiting.pop(0)
        worked.set()

    with capture_logs() as lines:
        async with periodically(0.001, work, "not_done"):
            await asyncio.wait_for(worked.wait(), 10)
    return [dict(line) for line in lines]


async def test_an_outage_is_one_line_without_a_traceback() -> None:
    [line] = await lines_of(Unavailable("away"), Unavailable("still away"))
    assert (line["event"], line["error"], line["exc_info"]) == ("not_done", "Unavailable: away", None)


async def test_a_mistake_of_ours_is_told_with_its_traceback() -> None:
    mistake = KeyError("misspelt")
    [line] = await lines_of(mistake)
    assert line["exc_info"] is mistake
