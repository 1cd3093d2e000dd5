from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from app.audit.repository import NamedEvent
from app.http.payload import ResponseBody


class AuditEventOut(ResponseBody):
    id: UUID = Field(description="The event's id.", examples=["9b2f6f0c-3f5e-4c0b-9f39-0b0c2a4d5e66"])
    at: datetime = Field(description="When it was done.", examples=["2026-01-02T10:30:00Z"])
    actor_key_id: UUID | None = Field(
        description="Id of the API key or the person that did it; null: the system, or the command line on the server.",
        examples=["0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11"],
    )
    person: str | None = Field(
        description="The person's name or, where the issuer gave none, their `sub`; null: it was no person of this "
        "tenant.",
        examples=["ada@example.com"],
    )
    action: str = Field(description="What was done.", examples=["schema.published"])
    subject: str = Field(description="To what.", examples=["schema:3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"])
    detail: dict[str, Any] = Field(
        description="Ids, settings and counts that belong to it.", examples=[{"number": 2, "new": True}]
    )

    @classmethod
    def of(cls, named: NamedEvent) -> "AuditEventOut":
        shown = {name: getattr(named.event, name) for name in cls.model_fields if name != "person"}
        return cls(**shown, person=named.person)
