import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple
from uuid import UUID

from fastapi import BackgroundTasks, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.auth.dependencies import Caller
from app.auth.route import keyed_router
from app.datasets import media, partial, ranges, repository, service, uploads
from app.datasets.dependencies import ConversationReader, DatasetId, OnceForWriter, Reader, Writer
from app.datasets.media import UnsupportedMedia
from app.datasets.partial import BLOCK_BYTES, UploadInProgress
from app.datasets.payloads import DatasetIn, DatasetOut, UploadOut
from app.datasets.refusals import (
    DatasetHasContent,
    FileTooLarge,
    NothingToTake,
    UploadStalled,
    WrongOffset,
)
from app.datasets.service import DatasetBusy, DatasetInUse
from app.datasets.uploads import Received, UploadLocation
from app.errors import (
    Forbidden,
    IdempotencyKeyReused,
    NoSpace,
    NotFound,
    RequestInFlight,
    ShareExceeded,
    Unavailable,
)
from app.http.bodies import lift_body_cap
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.session import Session
from app.infra.files import door
from app.infra.files.door import FileDoor
from app.infra.storage import Storage
from app.infra.tables.datasets import DatasetState
from app.tenants import share
from app.tenants.share import QuotaExceeded

router = keyed_router("/v1/datasets", tags=["datasets"])
ContentRange = Annotated[
    str | None,
    Header(
        description="Which part of the file the body is, as `bytes first-last/total` (total may be `*`); left out: all "
        "of it. `bytes */total` with an empty body asks how far the file is, and finishes it if all is there.",
        max_length=100,
        examples=["bytes 0-1048575/5000000"],
    ),
]
ContentEncoding = Annotated[
    str | None, Header(description="gzip, where the file is packed.", max_length=50, examples=["gzip"])
]
Check = Annotated[
    bool,
    Query(
        description="Only read the file and say what is in it, as the dataset's `findings`; "
        "`POST /v1/datasets/{id}/content` then takes its rows. The request that completes the file decides.",
        examples=[True],
    ),
]


class AsSent(NamedTuple):
    """What a request says about the file beside it."""

    content_range: str | None
    content_encoding: str | None
    check: bool


def _as_sent(
    content_range: ContentRange = None, content_encoding: ContentEncoding = None, check: Check = False
) -> AsSent:
    return AsSent(content_range, content_encoding, check)


Sent = Annotated[AsSent, Depends(_as_sent)]
_OFFSET = {
    "Upload-Offset": {
        "description": "Bytes that have arrived: where to go on.",
        "schema": {"type": "integer"},
    },
    "Upload-Complete": {
        "description": "`?1` once the whole file has arrived.",
        "schema": {"type": "string", "enum": ["?0", "?1"]},
    },
}
_BODY = {
    "requestBody": {
        "required": False,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media.FORMS},
    }
}
_REJECTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line: `line` of the file, and the `reason` why it is no conversation.",
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
    }
}


@router.post(
    "",
    status_code=201,
    operation_id="create_dataset",
    responses=responses(Forbidden, NotFound, RequestInFlight, IdempotencyKeyReused),
)
async def create(
    body: DatasetIn, caller: Caller, scope: Writer, session: Session, request_once: OnceForWriter
) -> DatasetOut:
    """Make an empty dataset for the labels of one schema."""
    row = await service.create(session, scope, caller.key_id, body.name, body.schema_id)
    return await request_once.keep(session, 201, DatasetOut.of(row))


@router.get("", operation_id="list_datasets", responses=responses(NotFound))
async def listed(
    scope: Reader,
    session: Session,
    paging: Paging,
    schema_id: Annotated[
        UUID | None,
        Query(description="Only those of this schema.", examples=["3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"]),
    ] = None,
) -> Page[DatasetOut]:
    """The tenant's datasets."""
    return paging.page(await repository.datasets(session, scope, paging, schema_id), DatasetOut.of)


@router.get("/{dataset_id}", operation_id="get_dataset", responses=responses(NotFound))
async def get(dataset_id: DatasetId, scope: Reader, session: Session) -> DatasetOut:
    """One dataset: how far it is, and what is in it."""
    row = await service.get(session, scope, dataset_id)
    return DatasetOut.of(row, await service.validation(session, scope, row), whole=True)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    operation_id="delete_dataset",
    responses=responses(Forbidden, NotFound, DatasetBusy, DatasetInUse),
)
async def delete(
    dataset_id: DatasetId,
    caller: Caller,
    scope: Writer,
    session: Session,
    request: Request,
    later: BackgroundTasks,
) -> None:
    """Remove it with its file, conversations and labels, unless runs were made from it: those are deleted first. Its
    bytes count no longer."""
    keys = await service.remove(session, scope, caller.key_id, dataset_id)
    state = request.app.state
    # After the commit: a file must not be gone for a removal that was rolled back.
    later.add_task(door.remove, state.storage, state.database, keys)
    later.add_task(partial.path_of(_folder(request), str(dataset_id)).unlink, missing_ok=True)


@router.put(
    "/{dataset_id}/content",
    status_code=202,
    operation_id="put_dataset_content",
    openapi_extra=_BODY,
    responses=responses(
        Forbidden,
        NotFound,
        UploadStalled,
        DatasetHasContent,
        UploadInProgress,
        WrongOffset,
        ShareExceeded,
        QuotaExceeded,
        FileTooLarge,
        UnsupportedMedia,
        Unavailable,
        NoSpace,
    )
    | {202: {"headers": _OFFSET}},
)
async def put_content(
    dataset_id: DatasetId,
    caller: Caller,
    scope: Writer,
    request: Request,
    response: Response,
    sent: Sent,
) -> UploadOut:
    """Send the file, packed with gzip or not, at once or in pieces. Its bytes say which of the forms it has: JSONL,
    JSON, CSV, XLSX, or an export of Zendesk, Intercom, Rasa or Dialogflow ES.

    What has arrived is kept when a request is cut off: ask with HEAD how far it is and go on with `Content-Range`.
    A request that begins at 0 begins again. Once the whole file is there a job reads it: see the dataset's state.
    """
    length = request.headers.get("content-length", "")
    piece = ranges.piece_of(
        sent.content_range, int(length) if length.isascii() and length.isdigit() else None
    )
    told = (request.headers.get("content-type"), sent.content_encoding)
    kind = None if piece.start is None else media.media_of(*told)
    state = request.app.state
    lift_body_cap(request)
    place = UploadLocation(
        state.database,
        FileDoor(state.storage, state.database, scope),
        _folder(request),
        scope,
        caller.key_id,
        share.files(state.settings),
        sent.check,
    )
    received = await uploads.receive(place, dataset_id, piece, kind, request.stream())
    _tell(received, response)
    return UploadOut.of(received)


@router.post(
    "/{dataset_id}/content",
    status_code=202,
    operation_id="take_dataset_content",
    responses=responses(Forbidden, NotFound, DatasetBusy, NothingToTake, ShareExceeded),
)
async def take_content(
    dataset_id: DatasetId, caller: Caller, scope: Writer, session: Session, request: Request
) -> DatasetOut:
    """Take the rows of the file that was sent with `?check=true`, without sending it again."""
    await share.check_open(session, scope, share.files(request.app.state.settings))
    row = await service.take(session, scope, caller.key_id, dataset_id)
    return DatasetOut.of(row, await service.validation(session, scope, row), whole=True)


@router.head(
    "/{dataset_id}/content",
    status_code=204,
    operation_id="head_dataset_content",
    responses=responses(NotFound) | {204: {"headers": _OFFSET}},
)
async def head_content(
    dataset_id: DatasetId, scope: Reader, session: Session, request: Request, response: Response
) -> None:
    """How far the file is: `Upload-Offset`."""
    _tell(await uploads.state_of(session, scope, _folder(request), dataset_id), response)


@router.get(
    "/{dataset_id}/upload",
    operation_id="get_dataset_upload",
    responses=responses(NotFound) | {200: {"headers": _OFFSET}},
)
async def upload(
    dataset_id: DatasetId, scope: Reader, session: Session, request: Request, response: Response
) -> UploadOut:
    """How far the file is, for those who would rather read JSON."""
    received = await uploads.state_of(session, scope, _folder(request), dataset_id)
    _tell(received, response)
    return UploadOut.of(received)


@router.get(
    "/{dataset_id}/rejects",
    operation_id="get_dataset_rejects",
    response_class=StreamingResponse,
    responses=responses(NotFound, DatasetBusy) | _REJECTS,
)
async def rejects(
    dataset_id: DatasetId, scope: ConversationReader, session: Session, request: Request
) -> StreamingResponse:
    """Which lines of the file hold no usable conversation, and why. Empty where every line was good."""
    row = await service.get(session, scope, dataset_id)
    if row.state not in (DatasetState.ready, DatasetState.failed):
        raise DatasetBusy(f"the dataset is {row.state.value}: no file has been checked yet")
    storage: Storage = request.app.state.storage
    if row.rejects_uri is None:
        return StreamingResponse(iter(()), media_type="application/jsonl")
    file = await asyncio.to_thread(storage.open_read, row.rejects_uri)
    return StreamingResponse(_blocks(file), media_type="application/jsonl")


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _folder(request: Request) -> Path:
    home: Path = request.app.state.settings.home
    return home / "uploads"


def _tell(received: Received, response: Response) -> None:
    response.headers["Upload-Offset"] = str(received.received_bytes)
    response.headers["Upload-Complete"] = "?1" if received.complete else "?0"
