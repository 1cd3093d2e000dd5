"""Places that many tenants want at once: who holds one, who waits, and whose turn it is.

A tenant never holds more than its share. Where all places are taken, the next that becomes free goes to the tenant
that has had least of late (start-time fair queueing): each turn costs a tenant time on a clock of its own, a request
that somebody waits for less than one of a batch. Among one tenant's own the more urgent goes first.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from uuid import UUID

from app.errors import ShareExceeded, Unavailable

WAITING_PER_PLACE = 8  # of a tenant's share: more than that in line is refused, and not kept


class Urgency(StrEnum):
    """In their order. Weight: how many turns it gets while something of weight 1 gets one."""

    interactive = "interactive"
    batch = "batch"
    gate = "gate"

    @property
    def weight(self) -> int:
        return {Urgency.interactive: 16, Urgency.batch: 4, Urgency.gate: 1}[self]


class Turns:
    """places: in all. of_one: of them, the most that one tenant holds."""

    def __init__(self, places: int, of_one: int):
        self.places, self.of_one = places, min(places, of_one)
        self._held = Counter[UUID]()
        self._line: dict[UUID, dict[Urgency, deque[asyncio.Future[None]]]] = {}
        self._clock = 0.0  # of the turn that was given last
        # When, on that clock, a tenant's last turn is over; of one that waits, when its next one begins.
        self._due: dict[UUID, float] = {}

    @property
    def taken(self) -> int:
        return self._held.total()

    def check_line(self, tenant_id: UUID) -> None:
        """Raises: ShareExceeded where the tenant has so many in line that another would only wait in vain."""
        if self._waiting(tenant_id) >= self.of_one * WAITING_PER_PLACE:
            raise ShareExceeded(
                f"{self._waiting(tenant_id)} conversations of the tenant wait for their turn already; "
                "try again when they have been answered"
            )

    @asynccontextmanager
    async def place(self, tenant_id: UUID, urgency: Urgency, wait_s: float) -> AsyncIterator[None]:
        """wait_s: for a turn, at most. Raises: ShareExceeded where the tenant's own share is what is full, Unavailable
        where all is."""
        await self._take(tenant_id, urgency, wait_s)
        try:
            yield
        finally:
            self._give_back(tenant_id)

    async def _take(self, tenant_id: UUID, urgency: Urgency, wait_s: float) -> None:
        # Whoever waits while there are places waits for its own share, so nobody is overtaken here.
        if self._may_begin(tenant_id):
            self._begin(tenant_id, urgency, self._from_now(tenant_id))
            return
        self.check_line(tenant_id)
        if tenant_id not in self._line:
            self._due[tenant_id] = self._from_now(tenant_id)
        turn = asyncio.get_running_loop().create_future()
        self._line.setdefault(tenant_id, {}).setdefault(urgency, deque()).append(turn)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_back(tenant_id)  # it came at the very moment at which we went away
            self._leave(tenant_id, urgency, turn)
            if isinstance(error, TimeoutError):
                raise self._refusal(tenant_id) from None
            raise

    def _refusal(self, tenant_id: UUID) -> ShareExceeded | Unavailable:
        if self._held[tenant_id] >= self.of_one:
            return ShareExceeded(
                f"{self.of_one} conversations of the tenant are being answered, and more are not taken at once"
            )
        return Unavailable("too many conversations are being answered already", retry_after_s=1)

    def _may_begin(self, tenant_id: UUID) -> bool:
        return self.taken < self.places and self._held[tenant_id] < self.of_one

    def _begin(self, tenant_id: UUID, urgency: Urgency, at: float) -> None:
        self._held[tenant_id] += 1
        self._clock = max(self._clock, at)
        self._due[tenant_id] = at + 1 / urgency.weight

    def _from_now(self, tenant_id: UUID) -> float:
        """Who was away has saved nothing up."""
        return max(self._clock, self._due.get(tenant_id, 0.0))

    def _give_back(self, tenant_id: UUID) -> None:
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]
            self._forget(tenant_id)
        while (found := self._next()) is not None:
            tenant_id, urgency = found
            turn = self._line[tenant_id][urgency].popleft()
            self._tidy(tenant_id, urgency)
            if not turn.done():  # whoever waited may be on the way out
                self._begin(tenant_id, urgency, self._due[tenant_id])
                turn.set_result(None)

    def _next(self) -> tuple[UUID, Urgency] | None:
        able = [tenant_id for tenant_id in self._line if self._may_begin(tenant_id)]
        if not able:
            return None
        tenant_id = min(able, key=lambda one: self._due[one] + 1 / self._most_urgent(one).weight)
        return tenant_id, self._most_urgent(tenant_id)

    def _most_urgent(self, tenant_id: UUID) -> Urgency:
        return next(urgency for urgency in Urgency if urgency in self._line[tenant_id])

    def _leave(self, tenant_id: UUID, urgency: Urgency, turn: "asyncio.Future[None]") -> None:
        waiting = self._line.get(tenant_id, {}).get(urgency)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            self._tidy(tenant_id, urgency)

    def _forget(self, tenant_id: UUID) -> None:
        """Nothing is kept of who is gone, but for a turn that is not over: it does not pay to come again."""
        if tenant_id not in self._line and self._due.get(tenant_id, 0.0) <= self._clock:
            self._due.pop(tenant_id, None)
        if not self._held and not self._line:
            self._due.clear()

    def _tidy(self, tenant_id: UUID, urgency: Urgency) -> None:
        """Nothing is kept of who does not wait."""
        if not self._line[tenant_id][urgency]:
            del self._line[tenant_id][urgency]
        if not self._line[tenant_id]:
            del self._line[tenant_id]

    def _waiting(self, tenant_id: UUID) -> int:
        return sum(len(waiting) for waiting in self._line.get(tenant_id, {}).values())


class Streams:
    """Answers that stay open until somebody has seen enough."""

    def __init__(self, places: int, of_one: int):
        self.places, self.of_one = places, of_one
        self._held = Counter[UUID]()

    def check(self, tenant_id: UUID) -> None:
        """Before anything is read for one more. Raises: ShareExceeded, Unavailable."""
        if self._held[tenant_id] >= self.of_one:
            raise ShareExceeded(f"{self.of_one} streams of the tenant are open; close one of them first")
        if self._held.total() >= self.places:
            raise Unavailable("too many streams are open; read without a stream, or try again")

    @asynccontextmanager
    async def place(self, tenant_id: UUID) -> AsyncIterator[None]:
        """Raises as `check`; nobody waits for the end of a stream."""
        self.check(tenant_id)
        self._held[tenant_id] += 1
        try:
            yield
        finally:
            self._held[tenant_id] -= 1
            if not self._held[tenant_id]:
                del self._held[tenant_id]
