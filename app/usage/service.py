"""What tenants used, and what their deployed models answered, counted in memory and added to their days and hours every
few seconds and when the process ends.

A row written for each answer would make every answer wait for the database. A process that is killed loses the count
of its last seconds, in the tenant's favour.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.periodic import flushed_to_the_end
from app.usage import repository
from app.usage.repository import AnsweredHour, Use
from evaluation.contract.schema import NONE_WORD

log = structlog.get_logger()
EVERY_S = 2.0
# What became of an answer, as it is counted: the key of a category, or a word that no key may be.
NONE_OF_THESE = NONE_WORD
ABSTAINED = "(abstained)"
FAILED = "(failed)"
_AT_ONCE = 500


def outcome_of(category: str | None, *, abstained: bool, failed: bool) -> str:
    if failed:
        return FAILED
    if abstained:
        return ABSTAINED
    return NONE_OF_THESE if category is None else category


class _Day(NamedTuple):
    tenant_id: UUID
    day: date


class _Answered(NamedTuple):
    """In the order of what tells rows apart."""

    tenant_id: UUID
    model_version_id: UUID
    schema_version_id: UUID
    hour: datetime
    outcome: str
    schema_id: UUID


class _Mass(NamedTuple):
    """Of answers whose mass on labels is known."""

    answers: int = 0
    total: float = 0.0
    squares: float = 0.0

    def with_more(self, other: "_Mass") -> "_Mass":
        return _Mass(self.answers + other.answers, self.total + other.total, self.squares + other.squares)


class AnswerOf(NamedTuple):
    """Whose answer it was: of a deployed model, under a version of a schema."""

    scope: TenantScope
    schema_id: UUID
    schema_version_id: UUID
    model_version_id: UUID


class Meter:
    def __init__(self, database: Database):
        self._database = database
        self._requests = Counter[_Day]()
        self._prompt = Counter[_Day]()
        self._completion = Counter[_Day]()
        self._answers = Counter[_Answered]()
        self._masses = defaultdict[_Answered, _Mass](_Mass)
        self._writing = asyncio.Lock()

    def count(self, scope: TenantScope, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """One conversation. Tokens are None where the model server did not count them: nothing is added then."""
        day = _Day(scope.tenant_id, utc_now().date())
        self._requests[day] += 1
        self._prompt[day] += prompt_tokens or 0
        self._completion[day] += completion_tokens or 0

    def answered(self, by: AnswerOf, outcome: str, label_mass: float | None) -> None:
        """outcome: as `outcome_of` has it. None of the answer's words are kept."""
        hour = utc_now().replace(minute=0, second=0, microsecond=0)
        row = _Answered(
            by.scope.tenant_id, by.model_version_id, by.schema_version_id, hour, outcome, by.schema_id
        )
        self._answers[row] += 1
        if label_mass is not None:
            self._masses[row] = self._masses[row].with_more(_Mass(1, label_mass, label_mass**2))

    async def flush(self) -> None:
        """What cannot be stored stays counted, and the error is raised."""
        async with self._writing:
            await self._flush_answers()
            taken = self._requests, self._prompt, self._completion
            if not taken[0]:
                return
            self._requests, self._prompt, self._completion = Counter(), Counter(), Counter()
            uses = [Use(*day, taken[0][day], taken[1][day], taken[2][day]) for day in taken[0]]
            try:
                async with transaction(self._database) as session:
                    await repository.add(session, uses)
            except BaseException:
                self._requests += taken[0]
                self._prompt += taken[1]
                self._completion += taken[2]
                raise

    async def _flush_answers(self) -> None:
        answers, masses = self._answers, self._masses
        if not answers:
            return
        self._answers, self._masses = Counter(), defaultdict(_Mass)
        try:
            rows = sorted(AnsweredHour(*row, count, *masses[row]) for row, count in answers.items())
            async with transaction(self._database) as session:
                for first in range(0, len(rows), _AT_ONCE):
                    await repository.add_answers(session, rows[first : first + _AT_ONCE])
        except BaseException:
            self._answers += answers
            for row, mass in masses.items():
                self._masses[row] = self._masses[row].with_more(mass)
            raise


@asynccontextmanager
async def metering(database: Database) -> AsyncIterator[Meter]:
    """At the end what is left is stored; where that fails it is logged, for it is lost."""
    meter = Meter(database)
    async with flushed_to_the_end(EVERY_S, meter.flush, "usage_not_stored", lost="usage_lost"):
        yield meter
