from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, model_validator

from app.http.payload import Name, RequestBody, ResponseBody
from app.infra.tables.tenants import DEFAULT_QUOTA_BYTES, Fallback, ServeEdits, Tenant, Ungated
from evaluation.contract.mode import ModeChoice

_MAX_QUOTA_BYTES = 1 << 50
_EDITS = (
    "When a published edit of a live schema is served: `after_gate`, once its gate has passed; `at_once`, from the "
    "moment of publishing, marked provisional, and taken back if its gate fails."
)
_ABSTAIN = "Answers with a lower confidence become `category: null, abstained: true`; null: never."
_FALLBACK = (
    "What answers, marked `degraded`, where the deployed model cannot: `none` (a 503 says so), `previous`, the "
    "deployment before it, under its own schema version; `base`, that one too, and at last the base model, which was "
    "never trained or judged for this tenant."
)
_UNGATED = (
    "Who may be answered by the base as it stands, which no gate has examined (`gate: none`): `playground`, keys with "
    "that scope; `api`, the scope `classify` too, for categories in the request and for schemas that have no live "
    "deployment; `off`, nobody."
)
_MODE = (
    "How a model is measured, and so served, unless a request says otherwise: `reasoned`; `fast`, the code at once; or "
    "`auto`, measured in both, and served at once where that is sure enough (in the mode of its own gate until both "
    "have passed)."
)
_REDACT = (
    "Take e-mail addresses, telephone, card and account numbers out of conversations as they come in, and remove a "
    "file once its rows are taken. What is there already stays as it is."
)
_REDACT_NAMES = (
    "Take names too, wherever personal data is taken out (with `redact` from conversations, and from answers that are "
    "kept): those that their place tells, as behind `Mr` or `my name is`, in a salutation or a signature. Others stay."
)
_KEEP = (
    "For how many days an answer is kept with its conversation, without e-mail addresses, telephone, card and account "
    "numbers; null: not at all. Fewer days than before hold for those that are there too; with null they stay until "
    "their time is over. They are part of the quota of bytes: one for which there is no room is not kept."
)
_KEEP_CONVERSATIONS = (
    "For how many days after it came a conversation of a dataset is kept; then it is deleted, as if somebody had done "
    "it: from whatever was made of it too. null: until somebody deletes it."
)
_KEEP_FILES = (
    "For how many days files are kept that were made on the way: uploads, rejected rows, traces, what stages printed, "
    "checkpoints, reports, what teachers answered. Frozen datasets and adapters stay with their runs, and everything "
    "with a run that has not ended. null: for as long as what they belong to."
)
_MAX_DAYS = 3650
_QUOTA = "How many bytes of uploads the tenant may keep."


class TenantIn(RequestBody):
    name: Name = Field(description="What the tenant is called; unique.", examples=["Blue Lake Outfitters"])
    serve_edits: ServeEdits = Field(ServeEdits.after_gate, description=_EDITS, examples=["after_gate"])
    fallback: Fallback = Field(Fallback.none, description=_FALLBACK, examples=["none"])
    ungated: Ungated = Field(Ungated.playground, description=_UNGATED, examples=["playground"])
    mode: ModeChoice = Field(ModeChoice.reasoned, description=_MODE, examples=["reasoned"])
    redact: bool = Field(False, description=_REDACT, examples=[True])
    redact_names: bool = Field(False, description=_REDACT_NAMES, examples=[False])
    abstain_below: float | None = Field(None, description=_ABSTAIN, examples=[0.4], ge=0, le=1)
    keep_answers_days: int | None = Field(None, description=_KEEP, examples=[30], ge=1, le=_MAX_DAYS)
    keep_conversations_days: int | None = Field(
        None, description=_KEEP_CONVERSATIONS, examples=[365], ge=1, le=_MAX_DAYS
    )
    keep_files_days: int | None = Field(None, description=_KEEP_FILES, examples=[90], ge=1, le=_MAX_DAYS)
    upload_quota_bytes: int = Field(
        DEFAULT_QUOTA_BYTES, description=_QUOTA, examples=[DEFAULT_QUOTA_BYTES], ge=0, le=_MAX_QUOTA_BYTES
    )


class TenantPatch(RequestBody):
    """Fields that are left out stay as they are."""

    serve_edits: ServeEdits = Field(ServeEdits.after_gate, description=_EDITS, examples=["at_once"])
    fallback: Fallback = Field(Fallback.none, description=_FALLBACK, examples=["previous"])
    ungated: Ungated = Field(Ungated.playground, description=_UNGATED, examples=["api"])
    mode: ModeChoice = Field(ModeChoice.reasoned, description=_MODE, examples=["reasoned"])
    redact: bool = Field(False, description=_REDACT, examples=[True])
    redact_names: bool = Field(False, description=_REDACT_NAMES, examples=[False])
    abstain_below: float | None = Field(None, description=_ABSTAIN, examples=[0.4], ge=0, le=1)
    keep_answers_days: int | None = Field(None, description=_KEEP, examples=[30], ge=1, le=_MAX_DAYS)
    keep_conversations_days: int | None = Field(
        None, description=_KEEP_CONVERSATIONS, examples=[365], ge=1, le=_MAX_DAYS
    )
    keep_files_days: int | None = Field(None, description=_KEEP_FILES, examples=[90], ge=1, le=_MAX_DAYS)
    upload_quota_bytes: int = Field(
        DEFAULT_QUOTA_BYTES,
        description=f"{_QUOTA} Only an admin of the platform may change it.",
        examples=[DEFAULT_QUOTA_BYTES],
        ge=0,
        le=_MAX_QUOTA_BYTES,
    )

    @model_validator(mode="after")
    def _changes_something(self) -> "TenantPatch":
        if not self.model_fields_set:
            raise ValueError("name at least one setting to change")
        return self

    def changes(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class TenantOut(ResponseBody):
    id: UUID = Field(description="The tenant's id.", examples=["7d9f1c2e-5b7a-4c53-9d57-0a4f7c1f2b11"])
    name: str = Field(description="What the tenant is called.", examples=["Blue Lake Outfitters"])
    serve_edits: ServeEdits = Field(description=_EDITS, examples=["after_gate"])
    fallback: Fallback = Field(description=_FALLBACK, examples=["none"])
    ungated: Ungated = Field(description=_UNGATED, examples=["playground"])
    mode: ModeChoice = Field(description=_MODE, examples=["reasoned"])
    redact: bool = Field(description=_REDACT, examples=[False])
    redact_names: bool = Field(description=_REDACT_NAMES, examples=[False])
    abstain_below: float | None = Field(description=_ABSTAIN, examples=[0.4])
    keep_answers_days: int | None = Field(description=_KEEP, examples=[30])
    keep_conversations_days: int | None = Field(description=_KEEP_CONVERSATIONS, examples=[365])
    keep_files_days: int | None = Field(description=_KEEP_FILES, examples=[90])
    upload_quota_bytes: int = Field(description=_QUOTA, examples=[DEFAULT_QUOTA_BYTES])
    created_at: datetime = Field(description="When it was made.", examples=["2026-01-01T09:00:00Z"])

    @classmethod
    def of(cls, row: Tenant) -> "TenantOut":
        return cls.model_validate(row)
