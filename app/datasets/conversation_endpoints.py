from typing import Annotated

from fastapi import Query, Request, Response

from app.auth.dependencies import Caller
from app.auth.route import keyed_router
from app.datasets import conversations, placement, repository, service
from app.datasets.attributes import FilterByAttributes
from app.datasets.conversation_payloads import ConversationIn, ConversationOut, DeletedOut, LabelIn
from app.datasets.conversations import ConversationDiffers, LabelDecision
from app.datasets.dependencies import ConversationId, ConversationReader, DatasetId, Labeller, Writer
from app.datasets.repository import LabelledRow
from app.datasets.service import DatasetBusy
from app.errors import Forbidden, NotFound
from app.http.paging import Page, Paging, Position
from app.http.problems import responses
from app.infra.db.session import Session
from app.tenants.share import QuotaExceeded
from evaluation.contract.record import Split

router = keyed_router("/v1", tags=["conversations"])


@router.post(
    "/datasets/{dataset_id}/conversations",
    status_code=201,
    operation_id="append_conversation",
    responses=responses(Forbidden, NotFound, ConversationDiffers, DatasetBusy, QuotaExceeded)
    | {200: {"model": ConversationOut, "description": "The very same conversation was there already."}},
)
async def append(
    dataset_id: DatasetId,
    body: ConversationIn,
    caller: Caller,
    scope: Writer,
    session: Session,
    request: Request,
    response: Response,
) -> ConversationOut:
    """Add one conversation. Its id makes the request safe to repeat: the same again is answered with 200."""
    prepared = await placement.prepare(request.app.state.database, scope, dataset_id, body.as_record())
    done = await conversations.append(
        session, scope, caller.key_id, dataset_id, prepared, body.schema_version_id
    )
    response.status_code = 201 if done.new else 200
    return ConversationOut.of(done.found)


@router.get(
    "/datasets/{dataset_id}/conversations",
    operation_id="list_conversations",
    responses=responses(NotFound),
)
async def listed(
    dataset_id: DatasetId,
    scope: ConversationReader,
    session: Session,
    paging: Paging,
    attributes: FilterByAttributes,
    split: Annotated[Split | None, Query(description="Only those of this split.", examples=["test"])] = None,
) -> Page[ConversationOut]:
    """A dataset's conversations."""
    await service.get(session, scope, dataset_id)
    paging = paging.shortened(await repository.sizes(session, scope, dataset_id, paging, split, attributes))
    rows = await repository.conversations(session, scope, dataset_id, paging, split, attributes)
    return paging.page(rows, ConversationOut.of, _position)


def _position(found: LabelledRow) -> Position:
    return Position(found.conversation.created_at, found.conversation.id)


@router.get(
    "/conversations/{conversation_id}", operation_id="get_conversation", responses=responses(NotFound)
)
async def get(
    conversation_id: ConversationId, scope: ConversationReader, session: Session
) -> ConversationOut:
    """One conversation with its newest label."""
    return ConversationOut.of(await conversations.get(session, scope, conversation_id))


@router.delete(
    "/conversations/{conversation_id}",
    operation_id="delete_conversation",
    responses=responses(Forbidden, NotFound, DatasetBusy),
)
async def delete(
    conversation_id: ConversationId, caller: Caller, scope: Writer, session: Session
) -> DeletedOut:
    """Remove it with its labels, and from whatever was made with it: files lose it within a minute. The answer names
    the runs and models that were made with it. A run that has not ended and was to learn from it ends."""
    return DeletedOut.of(await conversations.delete(session, scope, caller.key_id, conversation_id))


@router.put(
    "/conversations/{conversation_id}/label",
    operation_id="put_conversation_label",
    responses=responses(Forbidden, NotFound, DatasetBusy),
)
async def put_label(
    conversation_id: ConversationId, body: LabelIn, caller: Caller, scope: Labeller, session: Session
) -> ConversationOut:
    """Say which category it is. The newest label counts, and older ones stay on record."""
    decision = LabelDecision(body.category_key, body.schema_version_id, body.source, body.criterion)
    return ConversationOut.of(
        await conversations.decide(session, scope, caller.key_id, conversation_id, decision)
    )
