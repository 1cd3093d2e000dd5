"""How much of the installation one tenant may hold at once. The ceilings are in Settings, but for its bytes, which an
admin of the platform sets for each tenant.

What is held is counted where it is written: jobs by their rows, bytes by a row for each thing that has some.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, ShareExceeded
from app.infra.db.scope import TenantScope
from app.infra.tables.jobs import JobKind
from app.infra.tables.tenants import HeldKind
from app.jobs import service as jobs
from app.jobs.handlers import Queue, kinds_in
from app.settings import Settings
from app.tenants import repository

_DAY_S = 86_400.0
_RETRY_OPEN_S = 60
_RETRY_GPU_S = 3600


class QuotaExceeded(Conflict):
    """What the tenant keeps would exceed its quota of bytes; delete datasets that are no longer needed."""

    code = "upload_quota_exceeded"


class Open(NamedTuple):
    """Things that a tenant may have several of under way. what: in the plural."""

    kinds: Sequence[JobKind]
    most: int
    what: str


def runs(settings: Settings) -> Open:
    kinds = (JobKind.traces, JobKind.sft, JobKind.distill, JobKind.rl)
    return Open(kinds, settings.tenant_open_runs, "runs")


def gates(settings: Settings) -> Open:
    return Open((JobKind.gate,), settings.tenant_open_gates, "gates")


def files(settings: Settings) -> Open:
    return Open((JobKind.validate_dataset,), settings.tenant_open_files, "files of datasets")


async def check_open(session: AsyncSession, scope: TenantScope, asked: Open) -> None:
    """Before another one is begun: until the transaction ends nobody else begins one. Raises: ShareExceeded."""
    await repository.lock(session, scope)
    have = await jobs.count_open(session, scope, asked.kinds)
    if have >= asked.most:
        raise ShareExceeded(
            f"{have} {asked.what} of the tenant have not ended, and more than {asked.most} are not taken; wait for "
            "one, or cancel it",
            retry_after_s=_RETRY_OPEN_S,
        )


async def check_gpu(session: AsyncSession, scope: TenantScope, settings: Settings) -> None:
    """Before more work is asked of the GPUs. Raises: ShareExceeded."""
    had = await jobs.worked_s(session, scope, kinds_in(Queue.gpu), _DAY_S)
    if had >= settings.tenant_gpu_s_per_day:
        raise ShareExceeded(
            f"the tenant had {had:.0f} s of training and gates within a day, and may have "
            f"{settings.tenant_gpu_s_per_day:.0f} s",
            retry_after_s=_RETRY_GPU_S,
        )


# ----------------------------------------------------------------------------------------------------------- bytes


async def free_bytes(session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID) -> int:
    """That this one may have, with what it has already. Nobody else takes any before the transaction ends."""
    tenant = await repository.lock(session, scope)
    held = await repository.held_bytes(session, scope)
    own = held.get((kind, holder), 0)
    return max(0, tenant.upload_quota_bytes - sum(held.values()) + own)


async def room_bytes(session: AsyncSession, scope: TenantScope) -> int:
    """That nothing has yet. Nobody else takes any before the transaction ends."""
    tenant = await repository.lock(session, scope)
    return max(0, tenant.upload_quota_bytes - sum((await repository.held_bytes(session, scope)).values()))


async def hold(session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID, size: int) -> None:
    """From now on it has so many bytes. Raises: QuotaExceeded."""
    free = await free_bytes(session, scope, kind, holder)
    if size > free:
        raise over_quota(free)
    await repository.set_held(session, scope, kind, holder, size)


async def hold_more(
    session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID, size: int
) -> None:
    """So many bytes more than it had. Raises: QuotaExceeded."""
    room = await room_bytes(session, scope)
    if size > room:
        raise over_quota(room)
    await take(session, scope, kind, holder, size)


async def take(session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID, size: int) -> None:
    """So many bytes more than it had, of the room that `room_bytes` has told of in the same transaction.

    They are added to what is held by then: meanwhile somebody may have given some back, who waits for no lock."""
    if not await repository.change_held(session, scope, kind, holder, size):
        await repository.set_held(session, scope, kind, holder, size)


async def give_back(
    session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID, size: int
) -> None:
    """So many bytes fewer than it had."""
    await repository.change_held(session, scope, kind, holder, -size)


async def release(session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID) -> None:
    await repository.drop_held(session, scope, kind, holder)


def over_quota(free: int) -> QuotaExceeded:
    return QuotaExceeded(f"the tenant has {free} bytes of its quota left; delete what is not needed")


def size_of(content: Any) -> int:
    """Bytes of what is stored as JSON."""
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
