"""How a file comes in: block by block to this machine's disk, then whole to the storage, then a job that reads it.

No transaction is open while bytes arrive, and what has arrived survives whatever happens to the request. The length of
the file on disk is the truth about how far it is; the row follows.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.datasets import partial, repository, service
from app.datasets.media import Media, UnsupportedMedia
from app.datasets.partial import Partial
from app.datasets.ranges import Piece
from app.datasets.receiver import Bounds, Receiver
from app.datasets.refusals import DatasetHasContent, FileTooLarge, UploadStalled, WrongOffset
from app.errors import AppError, Conflict, InvalidRequest, NoSpace, Problem, Refused
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.outage import reason
from app.infra.storage import StorageAway
from app.infra.tables.datasets import Dataset, DatasetState, UploadRow
from app.infra.tables.files import FileKind
from app.infra.tables.jobs import JobKind
from app.infra.tables.tenants import HeldKind
from app.jobs import service as jobs
from app.tenants import share
from app.tenants.share import Open, QuotaExceeded
from evaluation.contract.record import MAX_FILE_BYTES

_AHEAD_BYTES = 16 << 20
_OPEN = (DatasetState.empty, DatasetState.uploading, DatasetState.failed)
log = structlog.get_logger()


class UploadLocation(NamedTuple):
    """Where an upload goes, for whom, and what for. folder: of files that are not whole yet.

    waiting: how many files of the tenant may wait to be read. check_only: no row is to be taken yet; the request that
    completes the file decides.
    """

    database: Database
    files: FileDoor
    folder: Path
    scope: TenantScope
    actor_key_id: UUID
    waiting: Open
    check_only: bool = False


class Received(NamedTuple):
    """total_bytes: None while nobody has said. sha256: of the whole file, once it is complete."""

    received_bytes: int
    total_bytes: int | None
    complete: bool
    sha256: str | None
    state: DatasetState


class _Reserved(NamedTuple):
    """old_keys: in the storage, of an earlier file that this one takes the place of. held_bytes: of the quota."""

    upload_id: UUID
    offset: int
    total_bytes: int | None
    free_bytes: int
    old_keys: list[str]
    held_bytes: int


async def state_of(session: AsyncSession, scope: TenantScope, folder: Path, dataset_id: UUID) -> Received:
    """Raises: NotFound."""
    dataset = await service.get(session, scope, dataset_id)
    upload = await repository.upload(session, scope, dataset_id)
    if upload is None:
        return Received(0, None, False, None, dataset.state)
    if upload.completed_at is not None:
        return Received(upload.received_bytes, upload.total_bytes, True, upload.sha256, dataset.state)
    size = await asyncio.to_thread(partial.size_of, partial.path_of(folder, str(dataset_id)))
    return Received(size, upload.total_bytes, False, None, dataset.state)


async def receive(
    place: UploadLocation,
    dataset_id: UUID,
    piece: Piece,
    media: Media | None,
    blocks: AsyncIterator[bytes],
) -> Received:
    """blocks: the body as it arrives; nothing is read from it before the request is known to be acceptable.

    media: None where `piece` brings nothing.

    Raises: DatasetHasContent, FileTooLarge, InvalidRequest, NoSpace, NotFound, QuotaExceeded, Unavailable,
    UnsupportedMedia, UploadInProgress, UploadStalled, WrongOffset.
    """
    _check_size(piece)
    async with transaction(place.database, place.scope, read_only=True) as session:
        _check_open(await service.get(session, place.scope, dataset_id))
    await asyncio.to_thread(partial.remove_abandoned, place.folder)
    with partial.opened(partial.path_of(place.folder, str(dataset_id))) as file:
        async with transaction(place.database, place.scope) as session:
            reserved = await _reserve(session, place.scope, dataset_id, piece, media, file)
        await _forget(place.files, reserved.old_keys)
        await asyncio.to_thread(file.begin, reserved.offset)
        receiver = Receiver(file, _bounds(reserved, piece), _Ahead(place, dataset_id, reserved))
        try:
            await receiver.take(blocks)
            return await _settle(place, dataset_id, piece, receiver, reserved)
        except (QuotaExceeded, FileTooLarge):
            await asyncio.to_thread(file.begin, 0)  # no end of it would be accepted
            raise
        finally:
            await asyncio.to_thread(file.sync)


async def _reserve(
    session: AsyncSession,
    scope: TenantScope,
    dataset_id: UUID,
    piece: Piece,
    media: Media | None,
    file: Partial,
) -> _Reserved:
    """The file's row, with its length taken from the quota as soon as it is known."""
    dataset = await service.get(session, scope, dataset_id, lock=True)
    _check_open(dataset)
    upload = await repository.upload(session, scope, dataset_id)
    going_on = upload is not None and upload.completed_at is None
    offset = file.received_bytes if going_on else 0
    if piece.start != 0 and (not going_on or piece.start not in (None, offset)):
        raise WrongOffset(offset)
    free_bytes = await share.free_bytes(session, scope, HeldKind.upload, dataset_id)
    if max(piece.total_bytes or 0, piece.end or 0) > free_bytes:
        raise share.over_quota(free_bytes)
    old_keys: list[str] = []
    if piece.start == 0:
        assert media is not None
        old_keys = await service.discard_content(session, scope, dataset)
        upload = await _begin(session, scope, dataset, media)
        offset = 0
        file.begin(0)  # before the commit: a new row must never be found with what an older file left
    assert upload is not None  # whoever does not begin goes on with one
    _check_same(upload, piece, media)
    upload.total_bytes = upload.total_bytes or piece.total_bytes
    size = max(offset, upload.total_bytes or 0, piece.end or 0)
    await share.hold(session, scope, HeldKind.upload, dataset_id, size)
    return _Reserved(upload.id, offset, upload.total_bytes, free_bytes, old_keys, size)


async def _begin(session: AsyncSession, scope: TenantScope, dataset: Dataset, media: Media) -> UploadRow:
    upload = UploadRow(
        tenant_id=scope.tenant_id,
        dataset_id=dataset.id,
        media_type=media.media_type,
        encoding=media.encoding,
        received_bytes=0,
        key="",
    )
    session.add(upload)
    dataset.state = DatasetState.uploading
    await session.flush()
    return upload


class _Ahead:
    """Takes of the quota before it is written to: of a file whose length nobody has said, a piece after another, so
    that several of those at once cannot together become longer than the quota.
    """

    def __init__(self, place: UploadLocation, dataset_id: UUID, reserved: _Reserved):
        self._place, self._dataset_id = place, dataset_id
        self._held_bytes = reserved.held_bytes

    async def __call__(self, length: int) -> None:
        """Raises: QuotaExceeded."""
        if length <= self._held_bytes:
            return
        place = self._place
        async with transaction(place.database, place.scope) as session:
            free = await share.free_bytes(session, place.scope, HeldKind.upload, self._dataset_id)
            wanted = max(length, min(length + _AHEAD_BYTES, free))
            await share.hold(session, place.scope, HeldKind.upload, self._dataset_id, wanted)
        self._held_bytes = wanted


def _bounds(reserved: _Reserved, piece: Piece) -> Bounds:
    said = piece.end if piece.end is not None else reserved.total_bytes
    if reserved.free_bytes < MAX_FILE_BYTES:
        return Bounds(said, reserved.free_bytes, share.over_quota(reserved.free_bytes))
    return Bounds(said, MAX_FILE_BYTES, _too_large())


async def _settle(
    place: UploadLocation, dataset_id: UUID, piece: Piece, receiver: Receiver, reserved: _Reserved
) -> Received:
    received, total = receiver.file.received_bytes, reserved.total_bytes
    if received and received == (total if total is not None else _end_of_whole(piece, receiver)):
        state = await _complete(place, dataset_id, receiver.file, reserved.upload_id)
        return Received(received, received, True, receiver.file.sha256, state)
    async with transaction(place.database, place.scope) as session:
        dataset = await service.get(session, place.scope, dataset_id, lock=True)
        upload = await _same_upload(session, place.scope, dataset, reserved.upload_id)
        upload.received_bytes = received
        await share.hold(session, place.scope, HeldKind.upload, dataset_id, max(received, total or 0))
    if receiver.stalled:
        raise UploadStalled(received)
    return Received(received, total, False, None, dataset.state)


def _end_of_whole(piece: Piece, receiver: Receiver) -> int | None:
    """Where nobody has said how long the file is, the proper end of a request that brings all of it says so."""
    return receiver.file.received_bytes if piece.is_whole_file and receiver.ended else None


async def _complete(place: UploadLocation, dataset_id: UUID, file: Partial, upload_id: UUID) -> DatasetState:
    """The job that reads the file is there exactly if the file is in the storage."""
    key = f"tenants/{place.scope.tenant_id}/datasets/{dataset_id}/uploads/{file.sha256}"
    await asyncio.to_thread(file.sync)
    async with transaction(place.database, place.scope, read_only=True) as session:
        await _same_upload(
            session, place.scope, await service.get(session, place.scope, dataset_id), upload_id
        )
    made = NewFile(key, FileKind.upload, MadeFrom(dataset_id=dataset_id))
    await _store(place.files, file, made)
    try:
        async with transaction(place.database, place.scope) as session:
            dataset = await service.get(session, place.scope, dataset_id, lock=True)
            upload = await _same_upload(session, place.scope, dataset, upload_id)
            await share.check_open(session, place.scope, place.waiting)
            await share.hold(session, place.scope, HeldKind.upload, dataset_id, file.received_bytes)
            upload.received_bytes = upload.total_bytes = file.received_bytes
            upload.key, upload.sha256, upload.completed_at = key, file.sha256, utc_now()
            upload.check_only = place.check_only
            dataset.state = DatasetState.uploaded
            await jobs.enqueue(session, place.scope, JobKind.validate_dataset, dataset_id)
            detail = {"bytes": upload.received_bytes, "sha256": upload.sha256}
            act = Act("dataset.uploaded", f"dataset:{dataset_id}", detail)
            audit.record(session, place.actor_key_id, place.scope.tenant_id, act)
    except Refused:
        await place.files.remove([key])
        raise
    file.remove()
    return dataset.state


async def _forget(files: FileDoor, keys: list[str]) -> None:
    """What cannot be removed now goes with the next sweep, and must not cost the new file."""
    try:
        await files.remove(keys)
    except AppError as error:
        log.warning("old_file_not_removed", keys=keys, error=reason(error))


async def _store(files: FileDoor, file: Partial, made: NewFile) -> None:
    try:
        await files.put(file.path, made)
    except (NoSpace, StorageAway) as error:
        finish = f"Content-Range: bytes */{file.received_bytes}"
        raise type(error)(f"the file has arrived, but {error}; finish later with {finish}") from error


async def _same_upload(
    session: AsyncSession, scope: TenantScope, dataset: Dataset, upload_id: UUID
) -> UploadRow:
    upload = await repository.upload(session, scope, dataset.id)
    if upload is None or upload.id != upload_id:
        raise Conflict("the dataset changed while its file came in; ask for its state")
    return upload


def _check_open(dataset: Dataset) -> None:
    if dataset.state not in _OPEN:
        raise DatasetHasContent(f"the dataset is {dataset.state.value}; make another one for another file")


def _check_size(piece: Piece) -> None:
    if max(piece.total_bytes or 0, piece.end or 0) > MAX_FILE_BYTES:
        raise _too_large()


def _too_large() -> FileTooLarge:
    return FileTooLarge(
        f"a dataset's file may have {MAX_FILE_BYTES >> 20} MiB; pack it with gzip, or make several"
    )


def _check_same(upload: UploadRow, piece: Piece, media: Media | None) -> None:
    """The pieces of one file say the same about it."""
    if media is not None and (upload.media_type, upload.encoding) != media:
        said = f"{upload.media_type}, encoding {upload.encoding or 'none'}"
        raise UnsupportedMedia(f"the pieces before this one were {said}")
    total = upload.total_bytes
    if total is not None and (piece.total_bytes not in (None, total) or (piece.end or 0) > total):
        problem = Problem("header.content-range", f"does not fit: earlier pieces said {total} bytes in all")
        raise InvalidRequest(f"{problem.where} {problem.message}", problems=[problem])
