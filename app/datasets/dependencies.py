"""What the endpoints of this slice take: ids in paths, and who may write."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.http.idempotency.reservation import Once, once
from app.infra.db.scope import TenantScope

DatasetId = Annotated[
    UUID, Path(description="Id of a dataset.", examples=["5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"])
]
ConversationId = Annotated[
    UUID,
    Path(
        description="Id of a conversation, ours and not the uploader's.",
        examples=["c8b1b3e4-0f0d-4e6a-8a52-6f2f9b7d1e33"],
    ),
]
Reader = Annotated[TenantScope, Depends(tenant_scope(Scope.datasets_read))]
ConversationReader = Annotated[TenantScope, Depends(tenant_scope(Scope.conversations_read))]
Writer = Annotated[TenantScope, Depends(tenant_scope(Scope.datasets_write))]
# Whoever labels a conversation is shown it.
Labeller = Annotated[TenantScope, Depends(tenant_scope(Scope.conversations_read, Scope.labels_write))]
OnceForWriter = Annotated[Once, Depends(once(Scope.datasets_write))]
