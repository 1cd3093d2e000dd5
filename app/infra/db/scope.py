"""Whose rows a piece of work may see."""

from typing import NamedTuple
from uuid import UUID


class TenantScope(NamedTuple):
    """Made from a checked key or from a job's own row, never from what a request says."""

    tenant_id: UUID

    @property
    def cache_salt(self) -> str:
        """Keeps what a model server has read for this tenant apart from what it has read for others."""
        return self.tenant_id.hex
