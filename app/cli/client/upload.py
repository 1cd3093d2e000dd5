"""A file sent so that a break costs nothing: what has arrived stays there, and the rest is sent after it."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from app.cli.client.api import Api, Json, again, pause_s
from app.cli.client.refusal import ApiAway, ApiRefused
from app.errors import InputError

_BLOCK_BYTES = 256 << 10
_TRIES = 8  # in a row without a byte more there
_PASSING = ("upload_in_progress", "upload_stalled", "wrong_offset", "request_in_flight")
_HEADERS = {"Content-Type": "application/octet-stream"}  # the API looks at the bytes

Seen = Callable[[int, int], None]


class UploadSource(NamedTuple):
    path: Path
    size: int


def source(path: Path) -> UploadSource:
    """Raises: InputError."""
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if size == 0:
        raise InputError(f"{path} is empty")
    return UploadSource(path, size)


def send(
    api: Api, dataset_id: str, file: UploadSource, seen: Seen, *, restart: bool = False, check: bool = False
) -> Json:
    """The upload as the API has it at the end. seen: gets how many bytes of how many.

    restart: leave aside what an earlier try has brought there. check: no row is to be taken.
    Raises: ApiAway, ApiRefused, InputError.
    """
    state = _state(api, dataset_id)
    if state["complete"] and state["state"] == "empty" and not check and _is_this(file, state):
        api.post(f"/v1/datasets/{dataset_id}/content")  # it was only checked so far, and is there
        return state
    if state["complete"] and state["state"] not in ("failed", "empty"):
        return _compared(file, state)  # an earlier try ended without hearing so
    at = 0 if restart or state["total_bytes"] not in (None, file.size) else _reached(state)
    tried = 0
    while True:
        try:
            answer = _put(api, dataset_id, file, at, seen, check)
            if answer["complete"]:
                return _compared(file, answer)
            reached = answer["received_bytes"]
        except (ApiAway, ApiRefused) as error:
            if not _may_go_on(error) or tried >= _TRIES:
                raise
            time.sleep(pause_s(error, tried + 1))
            state = _state_at_last(api, dataset_id)
            if state["complete"] and (state["state"] != "failed" or _is_this(file, state)):
                return _compared(file, state)
            reached = _reached(state)
        tried = 0 if reached > at else tried + 1
        at = reached if reached <= file.size else 0


def _put(api: Api, dataset_id: str, file: UploadSource, at: int, seen: Seen, check: bool) -> Json:
    left = file.size - at
    part = f"bytes {at}-{file.size - 1}/{file.size}" if left else f"bytes */{file.size}"
    headers = {**_HEADERS, "Content-Range": part, "Content-Length": str(left)}
    content = _blocks(file, at, seen) if left else b""
    return dict(
        api.send(
            "PUT",
            f"/v1/datasets/{dataset_id}/content",
            headers=headers,
            content=content,
            params={"check": "true"} if check else {},
        ).json()
    )


def _blocks(file: UploadSource, at: int, seen: Seen) -> Iterator[bytes]:
    """No more than was announced, should somebody append to the file meanwhile."""
    with file.path.open("rb") as opened:
        opened.seek(at)
        while at < file.size and (block := opened.read(min(_BLOCK_BYTES, file.size - at))):
            yield block
            at += len(block)
            seen(at, file.size)


def _state(api: Api, dataset_id: str) -> Json:
    return api.get(f"/v1/datasets/{dataset_id}/upload")


def _state_at_last(api: Api, dataset_id: str) -> Json:
    return again(lambda: _state(api, dataset_id), _is_away, _TRIES)


def _is_away(error: BaseException) -> bool:
    return isinstance(error, ApiAway) or (isinstance(error, ApiRefused) and error.status >= 500)


def _reached(state: Json) -> int:
    """A complete one is a file before this one, of which nothing is of use."""
    return 0 if state["complete"] else int(state["received_bytes"])


def _may_go_on(error: ApiAway | ApiRefused) -> bool:
    """Right after a break the API may still be holding the broken request, and say so with 409."""
    if isinstance(error, ApiAway):
        return True
    return error.code in _PASSING or error.status in (502, 503, 504)


def _compared(file: UploadSource, state: Json) -> Json:
    if not _is_this(file, state):
        raise InputError(
            f"the dataset has another file than {file.path} is now, perhaps from an earlier try: "
            "make another dataset for it"
        )
    return state


def _is_this(file: UploadSource, state: Json) -> bool:
    with file.path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == str(state["sha256"])
