from app.auth.route import keyed_router
from app.errors import NotFound
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.session import Session
from app.runs import repository, service
from app.runs.dependencies import ModelId, OfSchema, Reader
from app.runs.payloads import ModelOut

router = keyed_router("/v1/model-versions", tags=["models"])


@router.get("", operation_id="list_models", responses=responses(NotFound))
async def listed(
    scope: Reader, session: Session, paging: Paging, schema_id: OfSchema = None
) -> Page[ModelOut]:
    """The tenant's model versions: what its runs made."""
    rows = await repository.models(session, scope, paging, schema_id)
    return paging.page(rows, ModelOut.of, lambda found: repository.position(found.row))


@router.get("/{model_version_id}", operation_id="get_model", responses=responses(NotFound))
async def get(model_version_id: ModelId, scope: Reader, session: Session) -> ModelOut:
    """One model version, with what every stage made and measured."""
    return ModelOut.of(await service.model(session, scope, model_version_id))
