"""One thing after the other, each on its own: what is wrong with one is not a matter of the rest."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import Unavailable
from app.infra.db.outage import is_away

Item = TypeVar("Item")
log = structlog.get_logger()


async def each(what: str, items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Raises: what says that the database is away, at once; that something else is, when all have had their turn."""
    waiting: Unavailable | None = None
    for item in items:
        try:
            await work(item)
        except Unavailable as error:
            waiting = error
        except Exception as error:
            if isinstance(error, SQLAlchemyError | ConnectionError) and is_away(error):
                raise
            log.exception("sweep_item_failed", sweep=what, item=repr(item))
    if waiting is not None:
        raise waiting
