"""One read of the model's probabilities, and what is known of it afterwards."""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from app.classify import service as classify
from app.classify.live import AnswerGate
from app.classify.refusals import ConversationTooLong
from app.classify.service import Answered, ClassifyContext, ServingContext
from app.decisions import standing
from app.decisions.question import DecisionCall, DecisionQuestion, Option
from app.decisions.standing import DecisionOrigin
from app.errors import AppError, Problem, ServingAway
from app.http.turns import Urgency
from evaluation.contract.mode import Mode, ModeChoice
from evaluation.contract.schema import CategorySchema

T = TypeVar("T")


class Behind(NamedTuple):
    """What stands behind an answer. schema_name and what follows up to model_version_id: None where it is no schema's.

    label_mass: the smallest of its reads; None: unknown. not_shown: what was given and the model did not see.
    """

    mode: Mode
    gate: AnswerGate
    schema_name: str | None
    schema_version: int | None
    deployment_id: UUID | None
    model_version_id: UUID | None
    degraded: bool
    abstained: bool
    label_mass: float | None
    reasoning: str | None
    orders: int
    reads: int
    not_shown: tuple[str, ...]


class Tokens(NamedTuple):
    """As the model server counted them. reasoning: of those written."""

    read: int
    cached: int
    written: int
    reasoning: int


class Decided(NamedTuple):
    """probabilities: of each option, in their order; they add up to 1. order: their numbers, as they were shown."""

    options: tuple[Option, ...]
    probabilities: tuple[float, ...]
    order: Sequence[int]
    behind: Behind
    tokens: Tokens

    @property
    def likeliest(self) -> Option:
        """Of equal ones the first that was shown: in which order a caller wrote them decides nothing."""
        return self.options[max(self.order, key=lambda number: self.probabilities[number])]

    @property
    def confidence(self) -> float:
        """1 minus the entropy over that of equal shares: 1 where one option has everything, 0 where all are equal."""
        if len(self.probabilities) == 1:
            return 1.0
        entropy = -sum(p * math.log(p) for p in self.probabilities if p > 0)
        return min(1.0, max(0.0, 1.0 - entropy / math.log(len(self.probabilities))))

    @property
    def expected(self) -> float:
        """Of a score: the levels' numbers, weighted by how likely each is."""
        return sum(level * p for level, p in enumerate(self.probabilities))


class Asking(NamedTuple):
    """places: for the reads of one call that are under way."""

    at: ServingContext
    origin: DecisionOrigin
    call: DecisionCall
    places: asyncio.Semaphore
    urgency: Urgency

    async def ad_hoc(self, schema: CategorySchema) -> ClassifyContext:
        """Raises: ModeNotGated, ServingError, UngatedNotAllowed."""
        return await standing.ad_hoc(self.at, self.origin, schema, self.call.mode or ModeChoice.fast)


async def read(asking: Asking, context: ClassifyContext, question: DecisionQuestion) -> Answered:
    """In one of the places. Raises: ConversationTooLong, ServingAway, ShareExceeded, Unavailable."""
    try:
        return await classify.answer(asking.at, context, asking.call.state, asking.urgency)
    except ConversationTooLong as error:
        raise too_long(question.where, f"{error}; shorten the state or the options") from None


def too_long(where: str, problem: str) -> ConversationTooLong:
    """In the caller's words."""
    return ConversationTooLong(f"{where}: {problem}", problems=[Problem(where, problem)])


def shares_of(answered: Answered) -> dict[str | None, float]:
    """By answer, of all that the schema allows. Raises: ServingAway."""
    found = answered.prediction.probabilities
    if found is None or len(found) < len(answered.serving.page.schema.answers):
        raise ServingAway("the model server did not say how likely each option is")
    return found


def behind(reads: Sequence[Answered], orders: int = 1) -> Behind:
    """Of a question that is no schema's. reads: at least one."""
    last = reads[-1]
    masses = [one.prediction.label_mass for one in reads]
    known = [mass for mass in masses if mass is not None]
    return Behind(
        mode=last.prediction.mode,
        gate=last.serving.gate,
        schema_name=None,
        schema_version=None,
        deployment_id=None,
        model_version_id=None,
        degraded=last.serving.degraded,
        abstained=False,
        label_mass=min(known) if len(known) == len(masses) else None,
        reasoning=last.prediction.reasoning,
        orders=orders,
        reads=len(reads),
        not_shown=(),
    )


def tokens(reads: Sequence[Answered]) -> Tokens:
    made = [one.prediction for one in reads]
    written = [one.completion_tokens or 0 for one in made]
    return Tokens(
        read=sum(one.prompt_tokens or 0 for one in made),
        cached=sum(one.cached_tokens or 0 for one in made),
        written=sum(written),
        reasoning=sum(n - 1 for n, one in zip(written, made, strict=True) if one.mode is not Mode.fast and n),
    )


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """In their order. The first that fails ends the others. Raises: its error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        expected, others = failed.split(AppError)
        if others is not None or expected is None:
            raise
        raise expected.exceptions[0] from None
    return [task.result() for task in tasks]
