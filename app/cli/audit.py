"""`steerwise audit verify`: the chains of the audit trail, checked on the server."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.audit import chain
from app.audit.chain import ChainHead, Verified
from app.errors import InputError
from app.infra.db.engine import open_database
from app.infra.outage import said_plainly
from app.settings import Settings


def verify(settings: Settings, against: Path | None) -> Verified:
    """Raises: DatabaseAway, InputError."""
    earlier = {} if against is None else _heads(against)
    with said_plainly():
        return asyncio.run(_verify(settings, earlier))


async def _verify(settings: Settings, earlier: dict[str, ChainHead]) -> Verified:
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        return await chain.verify(database, earlier)
    finally:
        await database.close()


def _heads(path: Path) -> dict[str, ChainHead]:
    try:
        heads = json.loads(path.read_bytes())["heads"]
        return {name: ChainHead(int(head["number"]), str(head["sha256"])) for name, head in heads.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not what an earlier `audit verify --json` wrote: {error}") from None


def as_json(found: Verified) -> dict[str, Any]:
    heads = {name: head._asdict() for name, head in found.heads.items()}
    return {"heads": heads, "waiting": found.waiting, "problems": found.problems}


def lines(found: Verified) -> Iterator[str]:
    for name, head in found.heads.items():
        yield f"{name}: {head.number} events, head {head.sha256}"
    yield f"{found.waiting} events wait to be linked"
    yield from found.problems or ["everything fits together"]
