"""What is remembered for a second: looked up once for all who ask meanwhile, and never in place of an error."""

import asyncio

import pytest

from app.infra.ttl_cache import TtlCache

pytestmark = pytest.mark.anyio


class Source:
    def __init__(self) -> None:
        self.loads, self.open = 0, asyncio.Event()
        self.broken = False

    async def load(self) -> int:
        self.loads += 1
        number = self.loads
        await self.open.wait()
        if self.broken:
            raise LookupError(number)
        return number


async def test_one_looks_and_all_who_ask_meanwhile_have_what_it_finds() -> None:
    known, source = TtlCache[str, int](), Source()
    asking = [asyncio.create_task(known.of("a", source.load)) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the one that began it; the others wait on
    source.open.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [1, 1, 1, 1]
    assert await known.of("a", source.load) == 1
    assert await known.of("b", source.load) == 2


async def test_after_its_time_it_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known, source = TtlCache[str, int](), Source()
    source.open.set()
    monkeypatch.setattr("app.infra.ttl_cache.KEPT_S", 0.0)
    assert [await known.of("a", source.load) for _ in range(3)] == [1, 2, 3]


async def test_an_error_reaches_all_who_waited_and_is_not_remembered() -> None:
    known, source = TtlCache[str, int](), Source()
    source.broken = True
    asking = [asyncio.create_task(known.of("a", source.load)) for _ in range(3)]
    await asyncio.sleep(0)
    source.open.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in found] == [LookupError] * 3 and source.loads == 1
    source.broken = False
    assert await known.of("a", source.load) == 2


async def test_what_was_not_asked_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    known, source = TtlCache[str, int](), Source()
    source.open.set()
    monkeypatch.setattr("app.infra.ttl_cache._MOST", 2)
    for key in ("a", "b", "c"):
        await known.of(key, source.load)
    assert await known.of("c", source.load) == 3
    assert await known.of("a", source.load) == 4
