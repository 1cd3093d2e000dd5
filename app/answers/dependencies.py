"""Who may read kept answers, who may say something of them or have them removed, and which one is meant."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from app.answers.writer import AnswerWriter
from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.http.idempotency.reservation import Once, once
from app.infra.db.scope import TenantScope

AnswerId = Annotated[
    UUID, Path(description="Id of an answer.", examples=["d3b9a3a4-8a52-4a33-9a3c-2f3b7e8c9a10"])
]


async def _reader(
    request: Request, scope: Annotated[TenantScope, Depends(tenant_scope(Scope.answers_read))]
) -> TenantScope:
    await _all_written(request)
    return scope


async def _labeller(
    request: Request,
    scope: Annotated[TenantScope, Depends(tenant_scope(Scope.answers_read, Scope.labels_write))],
) -> TenantScope:
    """Whoever judges an answer is shown it."""
    await _all_written(request)
    return scope


async def _eraser(
    request: Request, scope: Annotated[TenantScope, Depends(tenant_scope(Scope.datasets_write))]
) -> TenantScope:
    await _all_written(request)
    return scope


async def _all_written(request: Request) -> None:
    """What this process still holds is there for whoever asks it."""
    writer: AnswerWriter = request.app.state.answer_writer
    await writer.flush()


Reader = Annotated[TenantScope, Depends(_reader)]
Labeller = Annotated[TenantScope, Depends(_labeller)]
Eraser = Annotated[TenantScope, Depends(_eraser)]
OnceForEraser = Annotated[Once, Depends(once(Scope.datasets_write))]
