"""Who is asking."""

from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class Scope(StrEnum):
    classify = "classify"
    playground = "playground"  # what no gate has examined too, where the tenant does not forbid it
    schemas_write = "schemas:write"
    datasets_write = "datasets:write"
    runs_write = "runs:write"
    admin = "admin"


class Principal(NamedTuple):
    """tenant_id: None for a platform admin, who names the tenant in each request (`X-Tenant`)."""

    key_id: UUID
    tenant_id: UUID | None
    scopes: frozenset[Scope]

    def may(self, needed: frozenset[Scope]) -> bool:
        """An admin can make itself a key with any scope, so it has them all."""
        return Scope.admin in self.scopes or needed <= self.scopes

    @property
    def is_platform_admin(self) -> bool:
        return self.tenant_id is None and Scope.admin in self.scopes
