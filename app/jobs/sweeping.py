"""One thing after the other, each on its own: what is wrong with one is not a matter of the rest."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog

from app.errors import AppError
from app.infra import outage

Item = TypeVar("Item")
log = structlog.get_logger()


async def each(what: str, items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Raises: what says that the database is away, at once; that something else is, when all have had their turn."""
    waiting: AppError | None = None
    for item in items:
        try:
            await work(item)
        except Exception as error:
            if not outage.passes(error):
                log.exception("sweep_item_failed", sweep=what, item=repr(item))
            elif isinstance(error, AppError):
                waiting = error
            else:
                raise
    if waiting is not None:
        raise waiting
