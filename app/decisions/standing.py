"""What answers a question, and whether it may: a schema's live deployment, or the base for what is asked ad hoc."""

import asyncio
from typing import Final, NamedTuple
from uuid import UUID

from app.classify.label_codes import CodedSchema
from app.classify.live import Serving
from app.classify.refusals import ModeNotGated
from app.classify.service import ClassifyContext, ServingContext
from app.decisions.refusals import ModelNotFound
from app.deployments.service import Live
from app.errors import NotFound
from app.gates.confidence import NOT_FITTED
from app.infra.db.scope import TenantScope
from app.infra.tables.schemas import SchemaVersion
from app.infra.tracing import RequestTrace
from app.serving.base import codes_for, find_base
from app.serving.vllm import BASE_NAME
from evaluation.contract.mode import Mode
from evaluation.contract.schema import CategorySchema

AD_HOC: Final = "steerwise"  # the model of questions that are no schema's
SCHEMA_PREFIX: Final = "schema:"  # may stand before a schema's name, and must where that is `steerwise`


class Asker(NamedTuple):
    scope: TenantScope
    trace: RequestTrace


async def of_model(at: ServingContext, asker: Asker, model: str, mode: Mode | None) -> ClassifyContext | None:
    """None: the questions are ad hoc. Raises: ModelNotFound, ModeNotGated, NothingDeployed, ServingError."""
    if model == AD_HOC:
        return None
    try:
        live, *instead = await at.servings.of(asker.scope, model.removeprefix(SCHEMA_PREFIX))
    except NotFound:
        raise ModelNotFound(
            f"there is no model {model[:100]!r}: {AD_HOC!r} answers questions that come with their options, and the "
            "name of a schema answers that schema's own question; GET /v1/models lists them"
        ) from None
    if not live.may_answer(mode):
        raise ModeNotGated(
            f"the deployed model has passed no gate in mode {mode}; ask for one, or leave mode out"
        )
    servings = (live, *(one for one in instead if one.may_answer(mode)))
    return ClassifyContext(asker.scope, servings, asker.trace, mode)


async def ad_hoc(at: ServingContext, asker: Asker, schema: CategorySchema, mode: Mode) -> ClassifyContext:
    """Raises: ServingError."""
    folder = find_base(at.settings.base, at.settings.home).folder
    codes = await asyncio.to_thread(codes_for, folder, schema)
    version = SchemaVersion(id=UUID(int=0), number=0)
    calibrations = dict.fromkeys(Mode, NOT_FITTED)
    base = Live(UUID(int=0), UUID(int=0), None, BASE_NAME, version, False, mode, calibrations)
    serving = Serving(base, CodedSchema(schema, codes), None)
    return ClassifyContext(asker.scope, (serving,), asker.trace, mode)


def gate_of(serving: Serving) -> str:
    """What stands behind an answer."""
    if serving.live.model_version_id is None:
        return "none"
    return "provisional" if serving.live.provisional else "passed"
