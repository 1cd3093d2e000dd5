from fastapi import APIRouter, Request

from app.classify.deadline import while_wanted
from app.classify.dependencies import Client
from app.classify.live import ClassifyCaller
from app.classify.refusals import ConversationTooLong, ModeNotGated, NothingDeployed, UngatedNotAllowed
from app.classify.service import ServingContext
from app.decisions import error_shapes, repository, service
from app.decisions.compressed import MaybeCompressedRoute
from app.decisions.decisions_payloads import DecisionsIn, DecisionsOut
from app.decisions.models_payloads import ModelsOut
from app.decisions.question import DecisionCall
from app.decisions.reading import Decided
from app.decisions.refusals import ModelNotFound, UnknownEncoding
from app.decisions.standing import DecisionOrigin
from app.decisions.systemone_payloads import SystemOneIn, SystemOneOut
from app.errors import NotFound, ServingAway, ShareExceeded, TooManyRequests
from app.http.problems import ErrorShape, responses
from app.infra.db.session import Session
from app.schemas.service import SchemaNotReady

router = APIRouter(tags=["decisions"], route_class=MaybeCompressedRoute)


def _errors(shape: ErrorShape) -> dict[int | str, dict[str, object]]:
    return responses(
        ModelNotFound,
        NothingDeployed,
        UngatedNotAllowed,
        ModeNotGated,
        SchemaNotReady,
        UnknownEncoding,
        TooManyRequests,
        ShareExceeded,
        ConversationTooLong,
        ServingAway,
        shape=shape,
    )


@router.post(
    error_shapes.SYSTEM_ONE_PATH,
    operation_id="answer_system_one",
    responses=_errors(error_shapes.SYSTEM_ONE),
)
async def system_one(body: SystemOneIn, request: Request, caller: Client) -> SystemOneOut:
    """Answer named questions about one state with probabilities, in the System One wire."""
    return SystemOneOut.of(body, await _decided(request, caller, body.call()))


@router.post(
    error_shapes.DECISIONS_PATH,
    operation_id="answer_decisions",
    responses=_errors(error_shapes.DECISIONS),
)
async def decisions(body: DecisionsIn, request: Request, caller: Client) -> DecisionsOut:
    """Answer a list of questions about one input with probabilities, in the wire of OpenAI's Decisions API."""
    return DecisionsOut.of(body, await _decided(request, caller, body.call()))


@router.get(
    error_shapes.MODELS_PATH,
    operation_id="list_decision_models",
    responses=responses(NotFound, shape=error_shapes.DECISIONS),
)
async def models(caller: Client, session: Session) -> ModelsOut:
    """What a call to either wire may name as its model: `steerwise`, and the tenant's published schemas."""
    return ModelsOut.of(await repository.published(session, caller.scope))


async def _decided(request: Request, caller: ClassifyCaller, call: DecisionCall) -> list[Decided]:
    serving_context: ServingContext = request.app.state.serving_context
    origin = DecisionOrigin(caller, request.state.trace)
    return await while_wanted(request, service.decide(serving_context, origin, call))
