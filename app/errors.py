"""What can go wrong, as the person at the command line or behind the API hears it.

Each error knows its exit code, the HTTP status and stable code that `app.http.problems` renders, and whose fault it
is. A message of an error below status 500 is written for the caller; one of 500 and above is for our log, unless it is
of what passes by itself or by an operator's hand.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from training.protocol import Fault

Row = TypeVar("Row")


class Problem(NamedTuple):
    """One thing to mend. where: the field or place, as `body.name` or `category 'refund', definition`."""

    where: str
    message: str


class AppError(Exception):
    """`str(error)` is one sentence that says what to do; `details` holds further lines."""

    exit_code = 1
    code = "internal"
    status = 500

    def __init__(
        self,
        message: str,
        details: Sequence[str] = (),
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.details = tuple(details)
        self.problems = tuple(problems)
        self.headers = dict(headers or {})

    @property
    def fault(self) -> Fault:
        return Fault.theirs if self.status < 500 else Fault.ours


class InputError(AppError):
    """What was handed in cannot be used. Nothing has been written."""

    exit_code = 2
    code = "bad_input"
    status = 422


class OutputBusy(InputError):
    """Another process is at work in the same output directory."""

    code = "output_busy"
    status = 409


class NoSpace(AppError):
    """A disk of ours is full. What was sent is not lost where the message says so: the same request goes on later."""

    exit_code = 2  # to be mended on this machine, like bad input
    code = "disk_full"
    status = 507

    @property
    def fault(self) -> Fault:
        return Fault.full


class StageProcessFailed(AppError):
    code = "stage_failed"


class ServingError(AppError):
    """vLLM did not start, died, or refused an adapter; details: the end of its log."""

    exit_code = 2
    code = "serving_failed"
    status = 503


class AdapterRefused(ServingError):
    code = "adapter_refused"


class Refused(AppError):
    """A request that is answered with a 4xx; nothing of it has been done."""

    exit_code = 2
    code = "refused"
    status = 400


class InvalidRequest(Refused):
    """The request cannot be used as it is; `problems` says what to mend, field by field."""

    code = "invalid_request"
    status = 422


class InvalidCursor(InvalidRequest):
    """The cursor was changed, or belongs to another list or to another filter of this one."""

    code = "invalid_cursor"


class IdempotencyKeyReused(InvalidRequest):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


class Unauthorized(Refused):
    """No valid API key came with the request: `Authorization: Bearer sw_…`."""

    code = "unauthorized"
    status = 401

    def __init__(self, message: str):
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Refused):
    """The API key lacks a scope that this needs."""

    code = "forbidden"
    status = 403


class NotFound(Refused):
    """There is no such thing, or it belongs to another tenant."""

    code = "not_found"
    status = 404


def existing(row: Row | None, what: str) -> Row:
    """The row itself. Raises: NotFound."""
    if row is None:
        raise NotFound(f"there is no such {what}")
    return row


class MethodNotAllowed(Refused):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    status = 405


class BodyTooSlow(Refused):
    """The body did not come in within the time that there is for it; send it again over a better connection."""

    code = "body_too_slow"
    status = 408


class Conflict(Refused):
    """What is stored stands against it."""

    code = "conflict"
    status = 409


class NameTaken(Conflict):
    """Another one of the same kind has this name."""

    code = "name_taken"


class RequestInFlight(Conflict):
    """A request with the same Idempotency-Key is still being worked on; ask again a little later."""

    code = "request_in_flight"

    def __init__(self, message: str):
        super().__init__(message, headers={"Retry-After": "1"})


class Stale(Refused):
    """Somebody else changed it first: `If-Match` names a state that is no longer the current one."""

    code = "stale"
    status = 412


class TooLarge(Refused):
    """The body is larger than this endpoint takes."""

    code = "too_large"
    status = 413


class IfMatchMissing(Refused):
    """A change must name the state it was made from: `If-Match` with the ETag that was read."""

    code = "if_match_missing"
    status = 428


class TooManyRequests(Refused):
    """The tenant's own limit is reached; `Retry-After` says when to come back."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, retry_after_s: int = 1):
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class ShareExceeded(TooManyRequests):
    """The tenant holds as much of the installation as one tenant may; `Retry-After` says when to come back."""

    code = "share_exceeded"


class Unavailable(AppError):
    """Something of ours is down or overloaded; `Retry-After` says when to come back."""

    code = "unavailable"
    status = 503

    def __init__(self, message: str, retry_after_s: int = 5):
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})

    @property
    def fault(self) -> Fault:
        return Fault.away


class ServingAway(Unavailable):
    """No model server can answer this now: it is starting, overloaded or down. `Retry-After` says when to come back."""

    code = "serving_away"


class ServingLost(ServingAway):
    """A model server ended under what it was asked. Nobody's fault once; a job that does it again and again ends."""

    code = "serving_lost"


class ServingFull(Unavailable):
    """The model server has as many adapters as it was started for; STEERWISE_VLLM_MAX_ADAPTERS sets how many."""

    code = "serving_full"
