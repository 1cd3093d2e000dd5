"""How much one tenant may ask for, and how much we take on at once.

The tenant's bucket is kept in Redis, so that several API processes share it; with Redis away each process keeps its
own, which is generous but never closed.
"""

import math
import time
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.errors import TooManyRequests
from app.http.turns import Turns, Urgency
from app.infra.db.scope import TenantScope
from app.settings import Settings

log = structlog.get_logger()
_TIMEOUT_S = 0.25  # Redis is beside us, or it is away
_AWAY_S = 2.0  # before it is asked again
_MANY_BUCKETS = 10_000
TURN_S = 1.0  # as long somebody who waits for one answer waits for a turn

# Seconds to wait, as text: 0 where the tokens were taken. The clock is the server's own.
_TAKE = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local passed = math.max(0, now - (tonumber(held[2]) or now))
local tokens = math.min(burst, (tonumber(held[1]) or burst) + passed * rate)
local wait = 0
if tokens >= cost then tokens = tokens - cost else wait = (cost - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return tostring(wait)
"""


class RequestLimits:
    def __init__(self, settings: Settings):
        self.rate_per_s, self.burst = settings.tenant_rate_per_s, settings.tenant_burst
        self.turns = Turns(settings.max_in_flight, settings.tenant_in_flight)
        self._batch_wait_s = settings.answer_timeout_s
        self._own = OwnBuckets(self.rate_per_s, self.burst)
        self._redis = None if settings.redis_url is None else _connect(settings.redis_url)
        self._take = None if self._redis is None else self._redis.register_script(_TAKE)
        self._away_until = 0.0

    async def take(self, scope: TenantScope, cost: int = 1) -> None:
        """cost: conversations, at most the burst. Raises: TooManyRequests."""
        wait_s = await self._shared(scope.tenant_id, cost)
        if wait_s is None:
            wait_s = self._own.take(scope.tenant_id, cost)
        if wait_s > 0:
            raise TooManyRequests(
                f"the tenant may have {self.rate_per_s:g} conversations a second answered, {self.burst} at once; "
                f"try again in {wait_s:.1f} s",
                retry_after_s=math.ceil(wait_s),
            )

    def place(self, scope: TenantScope, urgency: Urgency) -> AbstractAsyncContextManager[None]:
        """Among the conversations under way. Entering it raises: ShareExceeded, Unavailable."""
        wait_s = TURN_S if urgency is Urgency.interactive else self._batch_wait_s
        return self.turns.place(scope.tenant_id, urgency, wait_s)

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _shared(self, tenant_id: UUID, cost: int) -> float | None:
        """Seconds to wait; None where Redis does not say."""
        if self._take is None or time.monotonic() < self._away_until:
            return None
        try:
            waited = await self._take([f"steerwise:rate:{tenant_id}"], [self.rate_per_s, self.burst, cost])
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY_S
            log.warning("limits_without_redis", error=repr(error))
            return None
        return float(waited)


class OwnBuckets:
    """Of this process. One that is full again is forgotten: it is what a new one would be."""

    def __init__(self, rate_per_s: float, burst: float):
        self.rate_per_s, self.burst = rate_per_s, burst
        self._held: dict[UUID, tuple[float, float]] = {}  # tokens, and when they were counted

    def take(self, tenant_id: UUID, cost: float) -> float:
        """Seconds to wait; 0 where the tokens were taken."""
        now = time.monotonic()
        if len(self._held) > _MANY_BUCKETS:
            self._held = {k: v for k, v in self._held.items() if self._now(k, now) < self.burst}
        tokens = self._now(tenant_id, now)
        wait_s = 0.0 if tokens >= cost else (cost - tokens) / self.rate_per_s
        self._held[tenant_id] = (tokens if wait_s else tokens - cost, now)
        return wait_s

    def _now(self, tenant_id: UUID, now: float) -> float:
        tokens, at = self._held.get(tenant_id, (self.burst, now))
        return min(self.burst, tokens + (now - at) * self.rate_per_s)


def _connect(url: str) -> Redis:
    return Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )
