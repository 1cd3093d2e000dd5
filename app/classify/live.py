"""What a schema, or categories that nobody has stored, are answered with now, and whether they may be."""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, assert_never
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.classify.label_codes import CodedSchema, LabelCodes
from app.classify.refusals import ModelNotServed, NothingDeployed, UngatedNotAllowed
from app.deployments import service as deployments
from app.deployments.service import Live
from app.errors import existing
from app.gates.confidence import NOT_FITTED, Fitted, auto_of
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.schemas import Schema, SchemaVersion
from app.infra.tables.tenants import Fallback, Tenant, Ungated
from app.infra.ttl_cache import TtlCache
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.serving.vllm import BASE_NAME
from app.tenants import service as tenants
from evaluation.contract.mode import Mode, ModeChoice
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Prediction

_NO_GATE: Final[Mapping[Mode, Fitted]] = MappingProxyType(dict.fromkeys(Mode, NOT_FITTED))
_HOW_UNGATED: Final[Mapping[Ungated, str]] = MappingProxyType(
    {
        Ungated.playground: "The base as it stands answers keys with the scope playground; the tenant's setting "
        "`ungated: api` lets it answer this one",
        Ungated.api: "The base as it stands answers where nothing is deployed",
        Ungated.off: "The tenant's setting `ungated: off` lets the base answer nobody",
    }
)


class AnswerGate(StrEnum):
    """What stands behind an answer."""

    passed = "passed"  # the gate on its model, version and mode
    provisional = "provisional"  # the deployed model, under an edit whose own gate has not ended
    none = "none"  # the base as it stands, which nobody has examined


class Draft(StrEnum):
    draft = "draft"


class UngatedBase(NamedTuple):
    """The base as it stands, in the place of a `Live`. deployment_id: of the deployment that it stands in for.

    version: None for a draft and for categories that nobody has stored.
    """

    schema_id: UUID | None
    version: SchemaVersion | None
    mode: Mode
    deployment_id: UUID | None = None
    model_version_id: None = None
    adapter: str = BASE_NAME
    provisional: bool = False
    calibrations: Mapping[Mode, Fitted] = _NO_GATE


class Serving(NamedTuple):
    """default: how it answers unless asked otherwise. degraded: it answers in the place of what is deployed."""

    live: Live | UngatedBase
    page: CodedSchema
    abstain_below: float | None
    default: ModeChoice
    degraded: bool = False

    @property
    def gate(self) -> AnswerGate:
        if isinstance(self.live, UngatedBase):
            return AnswerGate.none
        return AnswerGate.provisional if self.live.provisional else AnswerGate.passed

    def abstains(self, found: Prediction) -> bool:
        """As the gate measures it: an unreadable answer is none, and an unknown confidence is not a low one."""
        least = self.abstain_below
        unsure = least is not None and found.confidence is not None and found.confidence < least
        return unsure and found.failure is None

    def may_answer(self, mode: ModeChoice | None) -> bool:
        if mode is ModeChoice.auto:
            return auto_of(self.live.calibrations) is not None
        return mode is None or Mode(mode) in self.live.calibrations


class ClassifyCaller(NamedTuple):
    """plays: with a key that has the scope `playground`."""

    scope: TenantScope
    plays: bool


class SchemaChoice(NamedTuple):
    """schema: id, or name. version: None: the one that is live; where none is, the one published last, and before the
    first the draft."""

    schema: UUID | str
    version: int | Draft | None = None


class _Asked(NamedTuple):
    caller: ClassifyCaller
    choice: SchemaChoice


class _Deployed(NamedTuple):
    """What is deployed, or stands in for it, and the version that it answers by."""

    live: Live | UngatedBase
    version: SchemaVersion


class _Written(NamedTuple):
    """A schema as it was published, or as its draft is."""

    content: CategorySchema
    version: SchemaVersion | None


class LiveServings:
    def __init__(self, database: Database, label_codes: LabelCodes):
        self._database, self._label_codes = database, label_codes
        self._known = TtlCache[_Asked, tuple[Serving, ...]]()
        self._tenants = TtlCache[TenantScope, Tenant]()

    async def of(self, caller: ClassifyCaller, choice: SchemaChoice) -> tuple[Serving, ...]:
        """What is live, and then, as far as the tenant wants, what may answer in its place; or the base as it stands,
        where that is asked for or nothing is live.

        Raises: ModelNotServed, NotFound, NothingDeployed, SchemaNotReady, ServingError, UngatedNotAllowed.
        """
        asked = _Asked(caller, choice)
        return await self._known.of(asked, partial(self._look, asked))

    async def of_categories(self, caller: ClassifyCaller, schema: CategorySchema) -> tuple[Serving, ...]:
        """The base as it stands, for categories that came with the request and are stored nowhere.

        Raises: ServingError, UngatedNotAllowed.
        """
        tenant = await self._tenants.of(caller.scope, partial(self._tenant, caller.scope))
        if not _may_be_ungated(tenant, caller):
            raise _not_allowed(tenant)
        return (await self._ungated(tenant, schema, UngatedBase(None, None, _ungated_mode(tenant))),)

    async def _look(self, asked: _Asked) -> tuple[Serving, ...]:
        scope, version = asked.caller.scope, asked.choice.version
        written, found = None, list[_Deployed]()
        async with transaction(self._database, scope, read_only=True) as session:
            tenant = await tenants.get(session, scope)
            schema_id = await _id_of(session, scope, asked.choice.schema)
            live = await deployments.live(session, scope, schema_id)
            if live is not None and version in (None, live.version.number):
                found = [_Deployed(live, live.version), *await _instead(session, scope, tenant, live)]
            else:
                row = await schemas.get(session, scope, schema_id)
                _check(tenant, asked, deployed=live is not None)
                written = await _written(session, scope, row, version)
        if written is not None:
            base = UngatedBase(schema_id, written.version, _ungated_mode(tenant))
            return (await self._ungated(tenant, written.content, base),)
        fit = [one for one in found if await self._misfit(one.live) is None]
        if not fit:
            raise ModelNotServed(
                f"the schema has a live deployment that must not answer: {await self._misfit(found[0].live)}"
            )
        pages = [await self._page(one) for one in fit]
        return tuple(
            Serving(one.live, page, tenant.abstain_below, _default(tenant, one.live), one is not found[0])
            for one, page in zip(fit, pages, strict=True)
        )

    async def _page(self, deployed: _Deployed) -> CodedSchema:
        page = await self._label_codes.page(deployed.version)
        if isinstance(deployed.live, UngatedBase):
            return page
        return await self._label_codes.beside(page, deployed.live.model)

    async def _misfit(self, live: Live | UngatedBase) -> str | None:
        if isinstance(live, UngatedBase):
            return None
        return await asyncio.to_thread(self._label_codes.misfit, live.model)

    async def _ungated(self, tenant: Tenant, schema: CategorySchema, base: UngatedBase) -> Serving:
        page = await self._label_codes.coded(schema)
        return Serving(base, page, tenant.abstain_below, ModeChoice(base.mode))

    async def _tenant(self, scope: TenantScope) -> Tenant:
        async with transaction(self._database, scope, read_only=True) as session:
            return await tenants.get(session, scope)


async def _id_of(session: AsyncSession, scope: TenantScope, schema: UUID | str) -> UUID:
    """Of a schema that was named by its id nobody knows yet whether there is one. Raises: NotFound."""
    if isinstance(schema, UUID):
        return schema
    return existing(await schema_repository.id_of(session, scope, schema), "schema")


async def _instead(session: AsyncSession, scope: TenantScope, tenant: Tenant, live: Live) -> list[_Deployed]:
    """What may answer where the deployed model cannot, as far as the tenant wants."""
    instead: list[_Deployed] = []
    if tenant.fallback is not Fallback.none:
        before = await deployments.before(session, scope, live.deployment_id)
        instead = [] if before is None else [_Deployed(before, before.version)]
    if tenant.fallback is Fallback.base:
        base = UngatedBase(live.schema_id, live.version, live.mode, live.deployment_id)
        instead.append(_Deployed(base, live.version))
    return instead


async def _written(
    session: AsyncSession, scope: TenantScope, schema: Schema, version: int | Draft | None
) -> _Written:
    """Raises: NotFound, SchemaNotReady."""
    if isinstance(version, int):
        row = await schemas.version(session, scope, schema.id, version)
        return _Written(schemas.content_of(row), row)
    current = None if version is Draft.draft else await schemas.current(session, scope, schema.id)
    if current is None:
        return _Written(await schemas.content_of_draft(schema), None)
    return _Written(schemas.content_of(current), current)


def _default(tenant: Tenant, live: Live | UngatedBase) -> ModeChoice:
    """Where the tenant wants auto, that, as soon as both modes have passed."""
    if tenant.mode is ModeChoice.auto and auto_of(live.calibrations) is not None:
        return ModeChoice.auto
    return ModeChoice(live.mode)


def _ungated_mode(tenant: Tenant) -> Mode:
    """Without a gate nobody knows how sure is sure enough for auto."""
    return tenant.mode.modes[-1]


def _check(tenant: Tenant, asked: _Asked, *, deployed: bool) -> None:
    """Raises: NothingDeployed, UngatedNotAllowed."""
    if _may_be_ungated(tenant, asked.caller) and (asked.caller.plays or not deployed):
        return
    if deployed and tenant.ungated is Ungated.api:
        raise UngatedNotAllowed(
            "a deployment of this schema is live, and nothing that no gate has examined is served beside it; leave "
            "schema_version out, or ask with a key that has the scope playground"
        )
    if deployed or asked.choice.version is not None:
        raise _not_allowed(tenant)
    raise NothingDeployed(
        f"the schema has no live deployment; deploy a model that passed its gate. {_HOW_UNGATED[tenant.ungated]}"
    )


def _may_be_ungated(tenant: Tenant, caller: ClassifyCaller) -> bool:
    match tenant.ungated:
        case Ungated.api:
            return True
        case Ungated.playground:
            return caller.plays
        case Ungated.off:
            return False
        case _:
            assert_never(tenant.ungated)


def _not_allowed(tenant: Tenant) -> UngatedNotAllowed:
    return UngatedNotAllowed(f"no gate has examined what would answer. {_HOW_UNGATED[tenant.ungated]}")
