"""What answers a question: what is live for a schema, or the base as it stands for what is asked ad hoc."""

from typing import Final, NamedTuple

from app.classify import service as classify
from app.classify.live import AnswerGate, ClassifyCaller, SchemaChoice
from app.classify.service import ClassifyContext, ServingContext
from app.decisions.refusals import ModelNotFound
from app.errors import NotFound
from app.infra.tracing import RequestTrace
from evaluation.contract.mode import ModeChoice
from evaluation.contract.schema import CategorySchema

AD_HOC: Final = "steerwise"  # the model of questions that are no schema's
_PREFIX: Final = "schema:"  # may stand before a schema's name, and must where that could mean something else


class DecisionOrigin(NamedTuple):
    """Who asks, and in which trace."""

    caller: ClassifyCaller
    trace: RequestTrace


def model_of(schema_name: str) -> str:
    """By what a call names the schema; `of_model` reads it."""
    means_more = schema_name == AD_HOC or schema_name.startswith(_PREFIX)
    return _PREFIX + schema_name if means_more else schema_name


async def of_model(
    at: ServingContext, origin: DecisionOrigin, model: str, mode: ModeChoice | None
) -> ClassifyContext | None:
    """None: the questions are ad hoc. The base answers fast where nothing else is said.

    Raises: ModelNotFound, ModeNotGated, NothingDeployed, SchemaNotReady, ServingError, UngatedNotAllowed.
    """
    if model == AD_HOC:
        return None
    chosen = SchemaChoice(model.removeprefix(_PREFIX))
    try:
        context = await classify.classify_context(at, origin.caller, chosen, origin.trace, mode)
    except NotFound:
        raise ModelNotFound(
            f"there is no model {model[:100]!r}: {AD_HOC!r} answers questions that come with their options, and the "
            "name of a schema answers that schema's own question; GET /v1/models lists them"
        ) from None
    ungated = context.servings[0].gate is AnswerGate.none
    return context._replace(mode=mode or ModeChoice.fast) if ungated else context


async def ad_hoc(
    at: ServingContext, origin: DecisionOrigin, schema: CategorySchema, mode: ModeChoice
) -> ClassifyContext:
    """Raises: ServingError, UngatedNotAllowed."""
    return await classify.classify_context(at, origin.caller, schema, origin.trace, mode)
