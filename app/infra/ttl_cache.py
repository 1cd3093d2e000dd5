"""What is looked up for every answer and hardly ever changes, kept for a second.

What changes in the database is followed a second later in every process, without a word between them. Of many
requests that find nothing kept one loads it, and the others wait for it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT_S = 1.0
_MOST = 4096


class _Kept(NamedTuple):
    until: float
    value: Any


class TtlCache(Generic[K, V]):
    def __init__(self) -> None:
        self._kept: OrderedDict[K, _Kept] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def of(self, key: K, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Raises: what `load` raises, for everybody who waited for it; an error is not kept."""
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept.until:
            value: V = kept.value
            return value
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(self._load(key, load))
            loading.add_done_callback(lambda done: self._loaded(key, done))
        return await asyncio.shield(
            loading
        )  # that one of those who wait goes away does not concern the others

    async def _load(self, key: K, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        until = (
            time.monotonic() + KEPT_S
        )  # from before the first query on: what changes after it is not older
        self._kept.pop(key, None)
        value = await load()
        self._kept[key] = _Kept(until, value)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return value

    def _loaded(self, key: K, done: asyncio.Task[V]) -> None:
        self._loading.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has it; perhaps nobody waits any more
