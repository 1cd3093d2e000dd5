from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.auth.principal import KeyRole, Principal, Scope
from app.auth.service import KeyOrder, MadeKey
from app.http.payload import Name, RequestBody, ResponseBody
from app.infra.tables.auth import ApiKey

_ID = "0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11"
_TENANT = "7d9f1c2e-5b7a-4c53-9d57-0a4f7c1f2b11"
_KEY = "sw_4fJq0ZcT1x_8Ck2mVb7YtR5wPz9QdLs3NhGx6Ua1EoKj4Fi0TyBe_0aB3cD"


class ApiKeyIn(RequestBody):
    name: Name = Field(
        description="What the key is for. Two live keys may share a name, so that one can replace the other.",
        examples=["ticket router"],
    )
    scopes: list[Scope] = Field(
        [],
        description="What it may do. `X:write` includes `X:read` (and `datasets:write` `labels:write`), `admin` all "
        "the others; words of customers are shown with `conversations:read` alone, and those of kept answers with "
        "`answers:read`.",
        examples=[["classify"]],
        max_length=len(Scope),
    )
    role: KeyRole | None = Field(
        None,
        description="Adds the scopes of a role: `client` classifies, `reviewer` reads conversations and labels them, "
        "`editor` owns schemas, datasets and runs.",
        examples=["reviewer"],
    )
    expires_at: AwareDatetime | None = Field(
        None,
        description="From then on it is refused; null: when the key that makes it ends, which is the latest.",
        examples=["2027-01-01T00:00:00Z"],
    )

    def order(self) -> KeyOrder:
        scopes = {*self.scopes, *(() if self.role is None else self.role.scopes)}
        return KeyOrder(self.name, sorted(scopes), self.expires_at)


class ApiKeyOut(ResponseBody):
    id: UUID = Field(description="The key's id; not a secret.", examples=[_ID])
    tenant_id: UUID | None = Field(description="Whose key it is; null: the platform's.", examples=[_TENANT])
    name: str = Field(description="What the key is for.", examples=["ticket router"])
    prefix: str = Field(description="The readable part of the key: sw_<prefix>_…", examples=["4fJq0ZcT1x"])
    parent_id: UUID | None = Field(
        description="The key that made it, and with which it ends; null: the installation.", examples=[_ID]
    )
    scopes: list[Scope] = Field(description="What it may do.", examples=[["classify"]])
    created_at: datetime = Field(description="When it was made.", examples=["2026-01-01T09:00:00Z"])
    expires_at: datetime | None = Field(
        description="From then on it is refused; null: never.", examples=["2027-01-01T00:00:00Z"]
    )
    revoked_at: datetime | None = Field(description="When it was revoked; null: it was not.", examples=[None])
    last_used_at: datetime | None = Field(
        description="To within a minute; null: never used.", examples=["2026-01-02T10:30:00Z"]
    )

    @classmethod
    def of(cls, row: ApiKey) -> "ApiKeyOut":
        return cls.model_validate(row)


class NewApiKeyOut(ApiKeyOut):
    key: str = Field(description="The key itself. It is shown this once and stored nowhere.", examples=[_KEY])

    @classmethod
    def made(cls, made: MadeKey) -> "NewApiKeyOut":
        return cls(**ApiKeyOut.of(made.row).model_dump(), key=made.text)


class PersonOut(ResponseBody):
    id: UUID = Field(description="Names this person in the audit trail (`actor_key_id`).", examples=[_ID])
    tenant_id: UUID = Field(description="The tenant that the token names.", examples=[_TENANT])
    issuer: str = Field(description="Who vouches for them.", examples=["https://login.example/realm"])
    subject: str = Field(description="Their id at the issuer (`sub`).", examples=["248289761001"])
    name: str | None = Field(
        description="What the installation's name claim says; null: nothing.", examples=["ada@example.com"]
    )
    scopes: list[Scope] = Field(description="What their roles allow.", examples=[["schemas:read"]])
    expires_at: datetime | None = Field(
        description="From then on the token is refused.", examples=["2027-01-01T00:00:00Z"]
    )

    @classmethod
    def of(cls, caller: Principal) -> "PersonOut | None":
        if caller.identity is None:
            return None
        scopes = sorted(caller.scopes)
        return cls(
            id=caller.key_id,
            tenant_id=caller.tenant_id,
            scopes=scopes,
            expires_at=caller.expires_at,
            **caller.identity._asdict(),
        )


class MeOut(ResponseBody):
    key: ApiKeyOut | None = Field(description="The key that this request came with; null: a person's token.")
    person: PersonOut | None = Field(description="Who signed in with the issuer; null: a key.")
    tenant_name: str | None = Field(
        description="The name of its tenant; null for a platform admin.", examples=["Blue Lake Outfitters"]
    )
    platform_admin: bool = Field(description="Whether it administers the whole platform.", examples=[False])
