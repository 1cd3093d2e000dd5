"""What a schema is answered with now."""

import asyncio
from functools import partial
from typing import NamedTuple
from uuid import UUID

from app.classify import repository
from app.classify.label_codes import CodedSchema, LabelCodes
from app.classify.refusals import ModelNotServed, NothingDeployed
from app.deployments import service as deployments
from app.deployments.service import Live
from app.errors import existing
from app.gates.confidence import NOT_FITTED
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.tenants import Fallback
from app.infra.ttl_cache import TtlCache
from app.schemas import service as schemas
from app.serving.vllm import BASE_NAME
from app.tenants import service as tenants
from evaluation.contract.mode import Mode
from evaluation.inference.predictor import Prediction


class Serving(NamedTuple):
    """degraded: it answers in the place of what is deployed."""

    live: Live
    page: CodedSchema
    abstain_below: float | None
    degraded: bool = False

    def abstains(self, found: Prediction) -> bool:
        """As the gate measures it: an unreadable answer is none, and an unknown confidence is not a low one."""
        least = self.abstain_below
        unsure = least is not None and found.confidence is not None and found.confidence < least
        return unsure and found.failure is None

    def may_answer(self, mode: Mode | None) -> bool:
        return mode is None or mode in self.live.calibrations


class _Asked(NamedTuple):
    """schema: id, or name."""

    scope: TenantScope
    schema: UUID | str


class LiveServings:
    def __init__(self, database: Database, label_codes: LabelCodes):
        self._database, self._codebook = database, label_codes
        self._known = TtlCache[_Asked, tuple[Serving, ...]]()

    async def of(self, scope: TenantScope, schema: UUID | str) -> tuple[Serving, ...]:
        """What is live, and then, as far as the tenant wants, what may answer in its place.

        schema: id, or name. Raises: ModelNotServed, NotFound, NothingDeployed, ServingError.
        """
        asked = _Asked(scope, schema)
        return await self._known.of(asked, partial(self._look, asked))

    async def _look(self, asked: _Asked) -> tuple[Serving, ...]:
        async with transaction(self._database, asked.scope, read_only=True) as session:
            schema_id = asked.schema
            if isinstance(schema_id, str):
                found = existing(await repository.schema_id_of(session, asked.scope, schema_id), "schema")
                schema_id = found
            live = await deployments.live(session, asked.scope, schema_id)
            if live is None:
                await schemas.get(session, asked.scope, schema_id)
                raise NothingDeployed(
                    "the schema has no live deployment; deploy a model that passed its gate"
                )
            tenant = await tenants.get(session, asked.scope)
            instead = []
            if tenant.fallback is not Fallback.none:
                before = await deployments.before(session, asked.scope, live.deployment_id)
                instead = [] if before is None else [before]
            if tenant.fallback is Fallback.base:
                base = live._replace(
                    model=None, adapter=BASE_NAME, calibrations=dict.fromkeys(Mode, NOT_FITTED)
                )
                instead.append(base)
        fit = [one for one in (live, *instead) if await self._misfit(one) is None]
        if not fit:
            raise ModelNotServed(
                f"the schema has a live deployment that must not answer: {await self._misfit(live)}"
            )
        pages = [await self._codebook.page(one.version) for one in fit]
        return tuple(
            Serving(one, page, tenant.abstain_below, one is not live)
            for one, page in zip(fit, pages, strict=True)
        )

    async def _misfit(self, live: Live) -> str | None:
        return None if live.model is None else await asyncio.to_thread(self._codebook.misfit, live.model)
