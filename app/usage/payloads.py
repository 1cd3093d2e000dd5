from collections.abc import Sequence
from datetime import date

from pydantic import Field

from app.http.payload import ResponseBody
from app.infra.tables.records import UsageDay

_REQUESTS = "Conversations answered; each one of a batch counts."
_PROMPT = "Tokens read by the model, as its server counted them."
_COMPLETION = "Tokens written by the model, as its server counted them."


class UsageDayOut(ResponseBody):
    day: date = Field(description="In UTC.", examples=["2026-01-02"])
    requests: int = Field(description=_REQUESTS, examples=[1200])
    prompt_tokens: int = Field(description=_PROMPT, examples=[840000])
    completion_tokens: int = Field(description=_COMPLETION, examples=[61000])


class UsageOut(ResponseBody):
    days: list[UsageDayOut] = Field(description="Newest first; a day without use is missing.")
    requests: int = Field(description=f"In all these days. {_REQUESTS}", examples=[1200])
    prompt_tokens: int = Field(description=f"In all these days. {_PROMPT}", examples=[840000])
    completion_tokens: int = Field(description=f"In all these days. {_COMPLETION}", examples=[61000])

    @classmethod
    def of(cls, rows: Sequence[UsageDay]) -> "UsageOut":
        return cls(
            days=[UsageDayOut.model_validate(row) for row in rows],
            requests=sum(row.requests for row in rows),
            prompt_tokens=sum(row.prompt_tokens for row in rows),
            completion_tokens=sum(row.completion_tokens for row in rows),
        )
