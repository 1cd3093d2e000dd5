"""Places among tenants: nobody holds more than its share, and whose turn it is does not depend on who asked more."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from uuid import UUID, uuid4

import pytest

from app.errors import ShareExceeded, Unavailable
from app.http.turns import WAITING_PER_PLACE, Streams, Turns, Urgency

pytestmark = pytest.mark.anyio
ONE, OTHER = uuid4(), uuid4()


class Holders:
    """Who holds a place gives it back when it is told to; `order` has who got one."""

    def __init__(self, turns: Turns):
        self.turns, self.order, self._ends = turns, list[tuple[UUID, Urgency]](), list[asyncio.Event]()
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, tenant: UUID, urgency: Urgency = Urgency.interactive, wait_s: float = 30) -> None:
        self._tasks.append(asyncio.create_task(self._hold(tenant, urgency, wait_s)))
        await asyncio.sleep(0)

    async def _hold(self, tenant: UUID, urgency: Urgency, wait_s: float) -> None:
        async with self.turns.place(tenant, urgency, wait_s):
            self.order.append((tenant, urgency))
            end = asyncio.Event()
            self._ends.append(end)
            await end.wait()

    async def one_leaves(self) -> None:
        self._ends.pop(0).set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def all_leave(self) -> None:
        while self._ends:
            await self.one_leaves()
        await asyncio.gather(*self._tasks)


async def test_a_tenant_never_holds_more_than_its_share() -> None:
    turns = Turns(4, 2)
    holders = Holders(turns)
    for _ in range(3):
        await holders.come(ONE)
    assert turns.taken == 2  # the third waits, although there are places
    await holders.come(OTHER)
    assert [tenant for tenant, _ in holders.order] == [ONE, ONE, OTHER]
    await holders.all_leave()
    assert turns.taken == 0 and turns._line == {} and turns._held == {}


async def test_tenants_take_turns_however_many_wait_for_one_of_them() -> None:
    holders = Holders(Turns(1, 1))
    for _ in range(4):
        await holders.come(ONE, Urgency.batch)
    await holders.come(OTHER, Urgency.batch)
    await holders.all_leave()
    assert [tenant for tenant, _ in holders.order][:3] == [ONE, OTHER, ONE]


async def test_the_more_urgent_goes_first_and_nothing_waits_for_ever() -> None:
    """Of weights 16, 4 and 1 each gets its part, so that a tenant's gate is not kept out by another's requests."""
    holders = Holders(Turns(1, 1))
    for urgency in [Urgency.gate] * 2 + [Urgency.batch] * 2 + [Urgency.interactive]:
        await holders.come(ONE, urgency)
    await holders.all_leave()
    asked = [urgency for _, urgency in holders.order]
    assert asked[0] is Urgency.gate  # it was there before the others
    assert asked[1:] == [Urgency.interactive, Urgency.batch, Urgency.batch, Urgency.gate]
    turns = Turns(40, 40)
    holders = Holders(turns)
    held = uuid4()
    for _ in range(40):
        await holders.come(held)
    many = {uuid4(): Urgency.interactive, uuid4(): Urgency.batch, uuid4(): Urgency.gate}
    for tenant, urgency in many.items():
        for _ in range(40):
            await holders.come(tenant, urgency)
    for _ in range(40):
        await holders.one_leaves()
    had = Counter(urgency for tenant, urgency in holders.order if tenant in many)
    assert had[Urgency.interactive] > 2 * had[Urgency.batch] > 2 * had[Urgency.gate] > 0
    await holders.all_leave()


async def refusal(asked: Awaitable[None]) -> ShareExceeded | Unavailable:
    with pytest.raises((ShareExceeded, Unavailable)) as caught:
        await asked
    assert isinstance(caught.value, ShareExceeded | Unavailable)
    assert int(caught.value.headers["Retry-After"]) >= 1
    return caught.value


async def test_who_waits_too_long_is_told_whether_it_was_its_own_share() -> None:
    turns = Turns(2, 1)
    holders = Holders(turns)

    async def enter(tenant: UUID) -> None:
        async with turns.place(tenant, Urgency.interactive, 0.02):
            pass

    await holders.come(ONE)
    assert isinstance(await refusal(enter(ONE)), ShareExceeded)
    await holders.come(OTHER)
    assert isinstance(await refusal(enter(uuid4())), Unavailable)
    await holders.all_leave()
    await enter(ONE)
    assert turns.taken == 0 and turns._line == {}


async def test_a_line_has_an_end() -> None:
    turns = Turns(1, 1)
    holders = Holders(turns)
    for _ in range(1 + WAITING_PER_PLACE):
        await holders.come(ONE)
    with pytest.raises(ShareExceeded):
        turns.check_line(ONE)
    turns.check_line(OTHER)
    await holders.all_leave()


async def test_who_goes_away_leaves_its_place_and_its_turn() -> None:
    turns = Turns(1, 1)
    holders = Holders(turns)
    await holders.come(ONE)
    waiting = [asyncio.create_task(holders._hold(OTHER, Urgency.batch, 30)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await holders.one_leaves()
    assert holders.order == [(ONE, Urgency.interactive), (OTHER, Urgency.batch)]
    waiting[1].cancel()  # while it holds one
    await asyncio.gather(*waiting, return_exceptions=True)
    assert turns.taken == 0


async def test_a_place_that_comes_as_its_owner_goes_is_not_lost() -> None:
    turns = Turns(1, 1)
    holders = Holders(turns)
    await holders.come(ONE)
    waiting = asyncio.create_task(holders._hold(OTHER, Urgency.batch, 30))
    await asyncio.sleep(0)
    holders._ends.pop(0).set()
    while turns._held.get(OTHER) is None:
        await asyncio.sleep(0)
        if turns._held.get(OTHER):
            waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert turns.taken == 0


async def test_who_stops_waiting_as_a_place_comes_free_takes_none() -> None:
    """Both in one moment, before the one that waited has run again."""
    turns = Turns(1, 1)
    holders = Holders(turns)
    await holders.come(ONE)
    waiting = [asyncio.create_task(holders._hold(tenant, Urgency.batch, 30)) for tenant in (OTHER, uuid4())]
    await asyncio.sleep(0)
    waiting[0].cancel()
    turns._give_back(ONE)
    assert turns.taken == 1
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert turns.taken == 1 and turns._line == {}
    turns._held[ONE] += 1  # its holder gives back again what was taken from it above
    await holders.one_leaves()
    waiting[1].cancel()
    await asyncio.gather(*waiting, *holders._tasks, return_exceptions=True)
    assert turns.taken == 0


async def test_streams_are_counted_by_tenant_and_in_all() -> None:
    streams = Streams(3, 2)
    async with streams.place(ONE), streams.place(ONE):
        with pytest.raises(ShareExceeded):
            await streams.place(ONE).__aenter__()
        async with streams.place(OTHER):
            with pytest.raises(Unavailable):
                await streams.place(uuid4()).__aenter__()
    async with streams.place(ONE):
        pass
