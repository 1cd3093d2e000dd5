"""Conversations answered by what is live, or by the base as it stands. The database is left before a model is asked."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog

from app.answers.writer import AnswerWriter
from app.classify.deadline import each_in_time, in_time
from app.classify.keeping import new_answer
from app.classify.label_codes import CodedSchema, LabelCodes
from app.classify.live import ClassifyCaller, LiveServings, SchemaChoice, Serving, UngatedBase
from app.classify.refusals import ConversationTooLong, ModeNotGated
from app.errors import AppError, Problem, ServingAway
from app.gates.confidence import auto_of
from app.http.limits import RequestLimits
from app.http.turns import Urgency
from app.infra import metrics
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.tracing import HEADER, RequestTrace
from app.serving.replica import Replica
from app.serving.replicas import ONCE_MORE, AskedModel, Replicas
from app.settings import Settings
from app.usage.service import AnswerOf, Meter, outcome_of
from evaluation.contract import budget
from evaluation.contract.mode import ModeChoice
from evaluation.contract.record import Conversation
from evaluation.contract.render import render
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Prediction, PredictorError, Sending

log = structlog.get_logger()
SHORT_CHARS = 20_000  # of what is made a prompt of on the loop
_WHY_NOT = {
    False: "the deployed model has passed no gate in mode {}; ask for one, or leave mode out",
    True: "mode {} needs a model that has passed its gates in both modes, of which that in mode fast found how sure an "
    "answer at once must be; ask for them, or leave mode out",
}


class ServingContext(NamedTuple):
    """What answering needs, once for each process."""

    settings: Settings
    servings: LiveServings
    label_codes: LabelCodes
    replicas: Replicas
    limits: RequestLimits
    meter: Meter
    writer: AnswerWriter  # of answers that are kept


class ClassifyContext(NamedTuple):
    """For whom, as what, and in which trace a request is answered. servings: each where those before it cannot.

    mode: None: the one that a serving answers in by default. explain: what is answered at once gets its reasons too.
    """

    scope: TenantScope
    servings: tuple[Serving, ...]
    trace: RequestTrace
    mode: ModeChoice | None = None
    explain: bool = False

    def model(self, serving: Serving) -> AskedModel:
        mode, live = self.mode or serving.default, serving.live
        sure = auto_of(live.calibrations) if mode is ModeChoice.auto else None
        return AskedModel(live.adapter, serving.page.codes, mode.modes[0], sure, self.explain)

    def sending(self) -> Sending:
        headers = {HEADER: self.trace.traceparent()}
        return ONCE_MORE._replace(cache_salt=self.scope.cache_salt, headers=headers)


class Answered(NamedTuple):
    """prediction: as it is shown, its confidences calibrated.

    latency_s: from the moment it was taken up, the model's time included.
    """

    id: UUID
    serving: Serving
    prediction: Prediction
    latency_s: float

    @property
    def abstained(self) -> bool:
        return self.serving.abstains(self.prediction)


@asynccontextmanager
async def serving_context(
    settings: Settings, database: Database, meter: Meter, writer: AnswerWriter
) -> AsyncIterator[ServingContext]:
    label_codes, replicas, limits = LabelCodes(settings), Replicas(settings), RequestLimits(settings)
    try:
        servings = LiveServings(database, label_codes)
        yield ServingContext(settings, servings, label_codes, replicas, limits, meter, writer)
    finally:
        await limits.close()
        await replicas.aclose()


async def classify_context(
    at: ServingContext,
    caller: ClassifyCaller,
    chosen: SchemaChoice | CategorySchema,
    trace: RequestTrace,
    mode: ModeChoice | None = None,
    *,
    explain: bool = False,
) -> ClassifyContext:
    """What answers by a stored schema, or by categories that came with the request.

    mode: None: that of the deployment, or without one the tenant's.
    Raises: ModeNotGated, NotFound, NothingDeployed, SchemaNotReady, ServingError, UngatedNotAllowed.
    """
    if isinstance(chosen, SchemaChoice):
        first, *instead = await at.servings.of(caller, chosen)
    else:
        first, *instead = await at.servings.of_categories(caller, chosen)
    if not first.may_answer(mode):
        raise ModeNotGated(_WHY_NOT[mode is ModeChoice.auto].format(mode))
    servings = (first, *(one for one in instead if one.may_answer(mode)))
    return ClassifyContext(caller.scope, servings, trace, mode, explain)


async def answer(
    at: ServingContext,
    classify_context: ClassifyContext,
    conversation: Conversation,
    urgency: Urgency = Urgency.interactive,
) -> Answered:
    """Raises: ConversationTooLong, ServingAway, ShareExceeded, Unavailable."""
    async with at.limits.place(classify_context.scope, urgency):
        return await in_time(_answer(at, classify_context, conversation), at.settings.answer_timeout_s)


async def answer_all(
    at: ServingContext, classify_context: ClassifyContext, conversations: Sequence[Conversation | AppError]
) -> list[Answered | AppError]:
    """In their order. What went wrong with one is its result; an error that stands for a conversation stays.

    Raises: ShareExceeded where so much of the tenant waits that nothing of these is begun.
    """
    at.limits.turns.check_line(classify_context.scope.tenant_id)
    places = asyncio.Semaphore(at.settings.tenant_in_flight)

    async def one(conversation: Conversation | AppError) -> Answered | AppError:
        if isinstance(conversation, AppError):
            return conversation
        async with places:
            try:
                return await answer(at, classify_context, conversation, Urgency.batch)
            except AppError as error:
                return error

    return await asyncio.gather(*(one(conversation) for conversation in conversations))


async def stream(
    at: ServingContext, classify_context: ClassifyContext, conversation: Conversation
) -> AsyncGenerator[str | Answered, None]:
    """The reasoning in pieces, then the answer. Close it where it is left early. Raises as `answer`.

    The next replica is asked where one fails before its first piece, and then what may answer instead; what was shown
    is never begun anew.
    """
    async with at.limits.place(classify_context.scope, Urgency.interactive):
        start = time.perf_counter()
        problem, begun = ServingAway("no model server can answer now"), False
        tried: list[tuple[Serving, Replica]] = []
        for serving in (serving for serving in classify_context.servings for _ in at.replicas.all):
            try:
                await check_length(at, serving, conversation)
                async with aclosing(_stream(at, classify_context, serving, conversation, tried)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield (
                            piece
                            if isinstance(piece, str)
                            else _done(at, classify_context, serving, conversation, piece, start)
                        )
                return
            except ServingAway as error:
                problem = error
                if begun:
                    break
            except ConversationTooLong:
                if not serving.degraded:  # only what is deployed says what fits
                    raise
        raise problem


async def _stream(
    at: ServingContext,
    classify_context: ClassifyContext,
    serving: Serving,
    conversation: Conversation,
    tried: list[tuple[Serving, Replica]],
) -> AsyncGenerator[str | Prediction, None]:
    """tried: gets who is asked as what; nobody is asked the same twice."""
    schema = serving.page.schema
    without = [replica for before, replica in tried if before is serving]
    with _failures(), at.replicas.borrowed(serving.live.adapter, without) as replica:
        tried.append((serving, replica))
        predictor = classify_context.model(serving).predictor(replica.client, classify_context.sending())
        async with aclosing(predictor.stream(schema, conversation)) as pieces:
            async for piece in each_in_time(pieces, at.settings.answer_timeout_s):
                yield piece


async def check_length(at: ServingContext, serving: Serving, conversation: Conversation) -> None:
    """Raises: ConversationTooLong."""
    prompt = await prompt_of(serving.page, conversation)
    room = budget.room(await at.label_codes.context())
    if len(prompt.encode()) <= room:  # no token is shorter than a byte
        return
    (tokens,) = await at.label_codes.tokens([prompt])
    if tokens > room:
        message = f"with the schema it has {tokens} tokens, and the model reads {room} at most"
        problem = Problem("messages", f"{message}; leave out older turns")
        raise ConversationTooLong(f"the conversation is too long: {message}", problems=[problem])


async def prompt_of(page: CodedSchema, conversation: Conversation) -> str:
    """All of its text."""
    if sum(len(message.text) for message in conversation.messages) > SHORT_CHARS:
        return await asyncio.to_thread(_prompt, page, conversation)
    return _prompt(page, conversation)


def _prompt(page: CodedSchema, conversation: Conversation) -> str:
    schema, codes = page
    return budget.text_of(codes.form.messages(render(schema, conversation, codes.texts).messages))


async def _answer(
    at: ServingContext, classify_context: ClassifyContext, conversation: Conversation
) -> Answered:
    start = time.perf_counter()
    problem = ServingAway("no model server can answer now")
    for serving in classify_context.servings:
        try:
            await check_length(at, serving, conversation)
            with _failures():
                prediction = await at.replicas.predict(
                    classify_context.model(serving),
                    serving.page.schema,
                    conversation,
                    classify_context.sending(),
                )
            return _done(at, classify_context, serving, conversation, prediction, start)
        except ServingAway as error:
            problem = error
        except ConversationTooLong:
            if not serving.degraded:  # only what is deployed says what fits
                raise
    raise problem


def _done(
    at: ServingContext,
    classify_context: ClassifyContext,
    serving: Serving,
    conversation: Conversation,
    prediction: Prediction,
    start: float,
) -> Answered:
    shown = serving.live.calibrations[prediction.mode].applied(prediction)
    answered = Answered(uuid4(), serving, shown, time.perf_counter() - start)
    metrics.DEGRADED.inc(serving.degraded)
    at.meter.count(classify_context.scope, prediction.prompt_tokens, prediction.completion_tokens)
    _count_answer(at.meter, classify_context.scope, answered)
    outcome = "unparsable" if prediction.failure else "abstained" if answered.abstained else "answered"
    metrics.ANSWERS.labels(outcome).inc()
    metrics.MODEL_SECONDS.observe(prediction.latency_s)
    metrics.TOKENS.labels("prompt").inc(prediction.prompt_tokens or 0)
    metrics.TOKENS.labels("completion").inc(prediction.completion_tokens or 0)
    kept = new_answer(answered.id, classify_context.scope, conversation, serving, shown)
    if kept is not None:
        at.writer.offer(kept)
    return answered


def _count_answer(meter: Meter, scope: TenantScope, answered: Answered) -> None:
    """Of what is deployed alone: what stands in for it answers otherwise, and says nothing of it."""
    live, found = answered.serving.live, answered.prediction
    if isinstance(live, UngatedBase) or answered.serving.degraded:
        return
    by = AnswerOf(scope, live.schema_id, live.version.id, live.model_version_id)
    outcome = outcome_of(found.category, abstained=answered.abstained, failed=found.failure is not None)
    meter.answered(by, outcome, found.label_mass)


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever a model server does wrong, it is ours and not the caller's, and may be over in a moment."""
    try:
        yield
    except PredictorError as error:
        if error.status == 400 and "context length" in str(error):  # our count leaves out the chat template
            raise ConversationTooLong("the conversation is longer than the model can read") from error
        metrics.MODEL_FAILURES.inc()
        # What a server says about a request that it refuses may repeat what the customer wrote.
        log.error(
            "model_gave_no_answer", status=error.status, error=str(error) if error.status is None else None
        )
        raise ServingAway("the model server gave no answer that can be used") from error
    except AppError:
        metrics.MODEL_FAILURES.inc()
        raise
