"""What the endpoints of this slice take: ids in paths, filters, and who may write."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Path, Query

from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.http.idempotency.reservation import Once, once
from app.infra.db.scope import TenantScope
from training.protocol import StageKind

RunId = Annotated[UUID, Path(description="Id of a run.", examples=["8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21"])]
ModelId = Annotated[
    UUID, Path(description="Id of a model version.", examples=["b2c1d0e9-6a5b-4c3d-8e2f-1a0b9c8d7e6f"])
]
StageName = Annotated[StageKind, Path(description="One of the run's stages.", examples=["sft"])]
OfSchema = Annotated[
    UUID | None,
    Query(description="Only those of this schema.", examples=["3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"]),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that you have: the stream goes on after it. Left out: from the first.",
        pattern=r"^[0-9]{1,18}$",
        examples=["1042"],
    ),
]
Reader = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_read))]
# A stream asks again every second for as long as it lasts.
Listener = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_read, cached=True))]
Writer = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_write))]
OnceForWriter = Annotated[Once, Depends(once(Scope.runs_write))]
