"""Who is asking, and what each scope allows."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class Scope(StrEnum):
    """`conversations:read` and `answers:read` are what shows words of customers; nothing but `admin` includes them."""

    classify = "classify"
    playground = "playground"  # what no gate has examined too, where the tenant does not forbid it
    schemas_read = "schemas:read"
    schemas_write = "schemas:write"
    datasets_read = "datasets:read"
    datasets_write = "datasets:write"
    labels_write = "labels:write"
    conversations_read = "conversations:read"
    answers_read = "answers:read"  # likewise, as far as answers are kept
    runs_read = "runs:read"
    runs_write = "runs:write"
    tenant_read = "tenant:read"
    admin = "admin"


_INCLUDED = {
    Scope.playground: frozenset({Scope.classify}),
    Scope.schemas_write: frozenset({Scope.schemas_read}),
    Scope.datasets_write: frozenset({Scope.datasets_read, Scope.labels_write}),
    Scope.runs_write: frozenset({Scope.runs_read}),
    Scope.admin: frozenset(Scope),
}


class KeyRole(StrEnum):
    """What people and programs do, as a set of scopes."""

    client = "client"
    reviewer = "reviewer"
    editor = "editor"

    @property
    def scopes(self) -> frozenset[Scope]:
        return _OF_ROLES[self]


_REVIEWER = frozenset(
    {
        Scope.schemas_read,
        Scope.datasets_read,
        Scope.conversations_read,
        Scope.answers_read,
        Scope.labels_write,
    }
)
_OF_ROLES = {
    KeyRole.client: frozenset({Scope.classify}),
    KeyRole.reviewer: _REVIEWER,
    KeyRole.editor: _REVIEWER
    | {
        Scope.schemas_write,
        Scope.datasets_write,
        Scope.runs_write,
        Scope.tenant_read,
        Scope.classify,
        Scope.playground,
    },
}


class Identity(NamedTuple):
    """Who a person is to the OIDC issuer. name: by which others know them, where the settings name a claim for it."""

    issuer: str
    subject: str
    name: str | None


class Principal(NamedTuple):
    """key_id: of the key, or of the person (`app.infra.tables.auth.Person`) where `identity` is set.

    tenant_id: None for a platform admin, who names the tenant in each request (`X-Tenant`). expires_at: when the key or
    the person's token ends; None: it does not.
    """

    key_id: UUID
    tenant_id: UUID | None
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
    identity: Identity | None = None

    def may(self, needed: frozenset[Scope]) -> bool:
        return needed <= self.scopes.union(*(_INCLUDED.get(scope, ()) for scope in self.scopes))

    @property
    def is_platform_admin(self) -> bool:
        return self.tenant_id is None and Scope.admin in self.scopes
