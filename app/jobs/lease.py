"""What a worker holds while a job is its own, and what it says while it works on it."""

from typing import Any, NamedTuple
from uuid import UUID

from app.infra.db.scope import TenantScope

Event = dict[str, Any]


class Ticket(NamedTuple):
    """Shown with every write of a worker. Another claim of the job raises the row's epoch, and this one is void."""

    scope: TenantScope
    job_id: UUID
    epoch: int


class LeaseLost(Exception):
    """The job is no longer this worker's: it took too long between two heartbeats, or the job has ended."""


class SlotTaken(Exception):
    """Another worker has taken the slot at this very moment."""


class Note(NamedTuple):
    """progress: the newest, or None where nothing changed. events: in the order in which they happened."""

    progress: dict[str, Any] | None = None
    events: tuple[Event, ...] = ()


NOTHING = Note()


def storable(value: Any) -> Any:
    """As JSON that both databases take: what they refuse (NaN, NUL, half a character) becomes readable text.

    A metric that is not a number must not cost the job its heartbeat.
    """
    match value:
        case dict():
            return {_text(str(name)): storable(inner) for name, inner in value.items()}
        case list() | tuple():
            return [storable(inner) for inner in value]
        case bool() | int() | None:
            return value
        case float():
            return value if value - value == 0 else str(value)
        case _:
            return _text(str(value))


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
