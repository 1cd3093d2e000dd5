from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import StreamingResponse

from app.answers import export, repository, service
from app.answers.dependencies import AnswerId, Eraser, Labeller, OnceForEraser, Reader
from app.answers.export import ExportForm
from app.answers.filters import WhichAnswers
from app.answers.payloads import FeedbackIn, ForgottenOut, KeptAnswerOut
from app.answers.service import Feedback, Reference
from app.auth.dependencies import Caller
from app.auth.route import keyed_router
from app.datasets.service import DatasetBusy
from app.errors import (
    Forbidden,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    Problem,
    RequestInFlight,
    existing,
)
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.session import Session
from app.tenants.share import QuotaExceeded

router = keyed_router("/v1/answers", tags=["answers"])
_MEDIA = {ExportForm.jsonl: "application/jsonl", ExportForm.csv: "text/csv; charset=utf-8"}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            "application/jsonl": {"schema": {"type": "string"}, "example": '{"id": "d3b9a3a4-…", …}\n'},
            "text/csv": {"schema": {"type": "string"}, "example": "id,created_at,…\n"},
        },
    }
}


@router.get("", operation_id="list_answers", responses=responses(Forbidden, NotFound))
async def listed(scope: Reader, session: Session, paging: Paging, which: WhichAnswers) -> Page[KeptAnswerOut]:
    """Answers that were kept, as the tenant's `keep_answers_days` says. Other processes may be seconds behind."""
    paging = paging.shortened(await repository.sizes(session, scope, which, paging))
    return paging.page(await repository.listed(session, scope, which, paging), KeptAnswerOut.of)


@router.get(
    "/export",
    operation_id="export_answers",
    response_class=StreamingResponse,
    responses=responses(Forbidden, NotFound) | _FILE,
)
async def exported(
    scope: Reader,
    _session: Session,  # of which nothing is asked; with its end it is noted that an admin of the platform has read
    request: Request,
    which: WhichAnswers,
    form: Annotated[
        ExportForm, Query(alias="format", description="Of the file.", examples=["csv"])
    ] = ExportForm.jsonl,
) -> StreamingResponse:
    """All that the filter leaves, as one file, the newest first. JSONL has everything; in CSV a cell that a spreadsheet
    would calculate begins with a quotation mark."""
    rows = export.exported(request.app.state.database, scope, which, form)
    named = {"Content-Disposition": f'attachment; filename="answers.{form}"', "Cache-Control": "no-store"}
    return StreamingResponse(rows, media_type=_MEDIA[form], headers=named)


@router.get("/{answer_id}", operation_id="get_answer", responses=responses(Forbidden, NotFound))
async def get(answer_id: AnswerId, scope: Reader, session: Session) -> KeptAnswerOut:
    """One answer that was kept."""
    return KeptAnswerOut.of(await service.get(session, scope, answer_id))


@router.post(
    "/{answer_id}/feedback",
    operation_id="give_answer_feedback",
    responses=responses(Forbidden, NotFound, DatasetBusy, QuotaExceeded),
)
async def feedback(
    answer_id: AnswerId,
    body: FeedbackIn,
    caller: Caller,
    scope: Labeller,
    session: Session,
    request: Request,
) -> KeptAnswerOut:
    """Say whether an answer was right, or which category is. The category becomes a label of the conversation, which
    stays in its dataset when the answer's time is over. The newest feedback counts."""
    prepared = await service.prepare(request.app.state.database, scope, answer_id, body.dataset_id)
    row = existing(await repository.one(session, scope, answer_id, lock=True), "kept answer")
    feedback = Feedback(body.verdict(row), prepared, body.dataset_id)
    return KeptAnswerOut.of(await service.give_feedback(session, scope, caller.key_id, row, feedback))


@router.delete(
    "",
    operation_id="forget_answers",
    responses=responses(Forbidden, NotFound, DatasetBusy, RequestInFlight, IdempotencyKeyReused),
)
async def forget(
    caller: Caller,
    scope: Eraser,
    session: Session,
    request_once: OnceForEraser,
    customer_reference: Annotated[
        str | None, Query(description="Everything of this customer.", examples=["customer-5f2c"])
    ] = None,
    conversation_reference: Annotated[
        str | None,
        Query(
            description="Everything of this conversation; in datasets its `external_id` counts too.",
            examples=["chat-20260102-17"],
        ),
    ] = None,
) -> ForgottenOut:
    """Remove what is kept of a customer, or of a conversation: answers, and the conversations in all data sets with
    their labels. The answer names the models that learned from them, and with an `Idempotency-Key` it can be had again.
    Files of which something became no row go whole, since nobody knows of whom that speaks. Answers given in the last
    seconds may still be on their way in another process of ours; ask once more a little later."""
    if customer_reference is None and conversation_reference is None:
        problem = Problem("query", "give `customer_reference`, `conversation_reference`, or both")
        raise InvalidRequest(problem.message, problems=[problem])
    reference = Reference(customer_reference, conversation_reference)
    forgotten = await service.forget(session, scope, caller.key_id, reference)
    return await request_once.keep(session, 200, ForgottenOut.of(forgotten))
