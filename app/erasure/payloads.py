from datetime import datetime
from uuid import UUID

from pydantic import Field

from app.erasure.service import DeletedRun
from app.http.payload import ResponseBody

_RUN = "9b1f6a52-0c3d-4f6e-8a7b-2d5c4e3f1a60"
_MODEL = "6e0e5c8f-3f8c-4f6a-9f52-1a2b3c4d5e6f"
_GATE = "9b2f6d1e-3c47-4f0a-8d55-7e1c2a9b4f60"
_DEPLOYMENT = "d41b7f5c-2a68-4e93-b0c7-91f3a6e85d27"


class DeletedRunOut(ResponseBody):
    id: UUID = Field(description="Of the run that is gone.", examples=[_RUN])
    model_versions: list[UUID] = Field(description="Models that went with it.", examples=[[_MODEL]])
    gates: list[UUID] = Field(description="Gates on them.", examples=[[_GATE]])
    deployments: list[UUID] = Field(
        description="Deployments of them; none of them was live.", examples=[[_DEPLOYMENT]]
    )

    @classmethod
    def of(cls, deleted: DeletedRun) -> "DeletedRunOut":
        return cls(**deleted._asdict())


class DeletedTenantOut(ResponseBody):
    id: UUID = Field(
        description="Of the tenant that is gone.", examples=["7d9f1c2e-5b7a-4c53-9d57-0a4f7c1f2b11"]
    )
    deleted_at: datetime = Field(
        description="Since when. What it owned is erased within minutes.", examples=["2026-01-02T10:30:00Z"]
    )
