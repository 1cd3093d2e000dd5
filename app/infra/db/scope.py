"""Whose rows a piece of work may see."""

from typing import NamedTuple
from uuid import UUID


class TenantScope(NamedTuple):
    """Made from a checked key or from a job's own row, never from what a request says."""

    tenant_id: UUID
