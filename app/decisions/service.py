"""Questions answered over one state: each is shown to the model by itself, so that none leans on another."""

import asyncio
from collections.abc import Sequence
from typing import Final

from app.classify.service import ClassifyContext, ServingContext
from app.decisions import ad_hoc, planning, reading, standing
from app.decisions.question import MAX_READS, DecisionCall, DecisionQuestion, Option, QuestionKind, invalid
from app.decisions.reading import Asking, Decided
from app.decisions.standing import DecisionOrigin
from app.http.turns import Urgency
from evaluation.contract.schema import NONE_WORD, CategorySchema

_NAMED: Final = 5  # in a sentence about options


async def decide(at: ServingContext, origin: DecisionOrigin, call: DecisionCall) -> list[Decided]:
    """One for each question, in their order. What goes wrong with one goes wrong with the call.

    Raises: ConversationTooLong, InvalidRequest, ModeNotGated, ModelNotFound, NothingDeployed, SchemaNotReady,
        ServingAway, ShareExceeded, TooManyRequests, UngatedNotAllowed, Unavailable.
    """
    asked = len(call.questions) * call.orders
    asking = Asking(at, origin, call, asyncio.Semaphore(at.settings.tenant_in_flight), _urgency(asked))
    await _take(asking, "body.orders", 0, asked)
    of_schema = await standing.of_model(at, origin, call.model, call.mode)
    for question in call.questions:
        _check(question, None if of_schema is None else of_schema.servings[0].page.schema)
    whole = [of_schema is not None and _is_the_schemas(question) for question in call.questions]
    with_options = [one for one, is_whole in zip(call.questions, whole, strict=True) if not is_whole]
    plans = await planning.plans(asking, with_options)
    reads = sum(whole) + sum(plan.reads for plan in plans)
    await _take(asking, "body.questions", asked, reads)
    asking, left = asking._replace(urgency=_urgency(reads)), iter(plans)
    return await reading.together(
        [
            _by_schema(asking, of_schema, question)
            if of_schema is not None and is_whole
            else ad_hoc.decide(asking, next(left))
            for question, is_whole in zip(call.questions, whole, strict=True)
        ]
    )


async def _take(asking: Asking, where: str, taken: int, reads: int) -> None:
    """taken: what the call has cost already. Raises: InvalidRequest, ShareExceeded, TooManyRequests."""
    if reads > MAX_READS:
        raise invalid(where, f"asks for {reads} reads, and a call may have {MAX_READS}; ask in several")
    limits, scope = asking.at.limits, asking.origin.caller.scope
    if (more := min(reads, limits.burst) - min(taken, limits.burst)) > 0:
        await limits.take(scope, more)
    if _urgency(reads) is Urgency.batch:
        limits.turns.check_line(scope.tenant_id)


def _urgency(reads: int) -> Urgency:
    return Urgency.interactive if reads == 1 else Urgency.batch


def _is_the_schemas(question: DecisionQuestion) -> bool:
    return question.kind is QuestionKind.choice and all(one.definition is None for one in question.options)


def _check(question: DecisionQuestion, schema: CategorySchema | None) -> None:
    """schema: that the model stands for. Raises: InvalidRequest."""
    if schema is not None and _is_the_schemas(question):
        _check_options(question, schema)
    elif not question.options:
        raise invalid(
            question.where,
            "has nothing to choose from; list its options, or name a schema as the model to be asked its categories",
        )


def _check_options(question: DecisionQuestion, schema: CategorySchema) -> None:
    """A schema is asked as a whole, as its gate measured it. Raises: InvalidRequest."""
    names = [_name(key) for key in schema.answers]
    given = [one.value for one in question.options]
    unknown = [value for value in given if value not in names]
    missing = [key for key in schema.keys if key not in given] if given else []
    if unknown or missing:
        fault = (
            f"{_listed(unknown)} is no category of the schema {schema.name!r}"
            if unknown
            else f"{_listed(missing)} is left out, and the schema {schema.name!r} is asked as a whole"
        )
        raise invalid(
            question.where,
            f"{fault}; list {_listed(names)} without descriptions, or ask the model {standing.AD_HOC!r}",
        )


def _listed(values: Sequence[str | bool]) -> str:
    shown = ", ".join(repr(value)[:60] for value in values[:_NAMED])
    return shown if len(values) <= _NAMED else f"{shown} and {len(values) - _NAMED} more"


async def _by_schema(asking: Asking, context: ClassifyContext, question: DecisionQuestion) -> Decided:
    """In the schema's own words. Raises: ConversationTooLong, ServingAway."""
    async with asking.places:
        answered = await reading.read(asking, context, question)
    schema = answered.serving.page.schema
    shares = reading.shares_of(answered)
    options = tuple(Option(_name(answer), _name(answer), None) for answer in schema.answers)
    probabilities = tuple(shares[answer] for answer in schema.answers)
    hidden = question.text is not None and question.text != schema.question
    live = answered.serving.live
    behind = reading.behind([answered])._replace(
        schema_name=schema.name,
        schema_version=None if live.version is None else live.version.number,
        deployment_id=live.deployment_id,
        model_version_id=live.model_version_id,
        abstained=answered.abstained,
        not_shown=("instructions",) if hidden else (),
    )
    return Decided(options, probabilities, range(len(options)), behind, reading.tokens([answered]))


def _name(answer: str | None) -> str:
    return NONE_WORD if answer is None else answer
