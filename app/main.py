"""The API as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

import httpx
from fastapi import FastAPI

import app.answers.endpoints
import app.audit.endpoints
import app.auth.endpoints
import app.classify.endpoints
import app.datasets.conversation_endpoints
import app.datasets.endpoints
import app.decisions.endpoints
import app.deployments.endpoints
import app.erasure.endpoints
import app.gates.endpoints
import app.operations.endpoints
import app.runs.endpoints
import app.runs.model_endpoints
import app.schemas.endpoints
import app.tenants.endpoints
import app.triggers.endpoints
import app.usage.endpoints
from app.answers.writer import keeping
from app.audit import operations
from app.auth.principal import Principal
from app.auth.refusals import watching
from app.auth.route import KeyedRoute
from app.auth.tokens import PersonTokens
from app.classify.service import serving_context
from app.decisions import error_shapes
from app.erasure.tidying import kept_tidy
from app.http import documentation, openapi, problems, server
from app.http.bodies import BodyCap
from app.http.fitness import DatabaseFits, DatabaseWatch
from app.http.idempotency import reservation
from app.http.middleware import AnswerHeaders, RequestContext
from app.http.signing_secret import signing_secret
from app.infra.db.engine import Database, open_database
from app.infra.db.isolation import check_at_start
from app.infra.logging import configure
from app.infra.private import keep_files_private, private_home
from app.infra.storage import open_storage
from app.infra.ttl_cache import TtlCache
from app.jobs.background import load_handlers
from app.operations.readiness import Readiness
from app.runs.feed import RunFeeds
from app.settings import Settings, load_settings
from app.usage.service import metering

ROUTERS = (
    app.operations.endpoints.router,
    documentation.router,
    app.auth.endpoints.router,
    app.tenants.endpoints.router,
    app.schemas.endpoints.router,
    app.datasets.endpoints.router,
    app.datasets.conversation_endpoints.router,
    app.classify.endpoints.router,
    app.answers.endpoints.router,
    app.decisions.endpoints.router,
    app.usage.endpoints.router,
    app.audit.endpoints.router,
    app.runs.endpoints.router,
    app.runs.model_endpoints.router,
    app.triggers.endpoints.router,
    app.gates.endpoints.router,
    app.deployments.endpoints.router,
    app.erasure.endpoints.router,
)


def from_environment() -> FastAPI:
    """For `uvicorn --factory app.main:from_environment`, where the API is a process of its own."""
    settings = load_settings()
    keep_files_private()
    configure(settings.log_level)
    api = create_app(settings)
    server.leave_the_start_alone()
    return api


def create_app(settings: Settings, database: Database | None = None) -> FastAPI:
    """database: one that the caller opened and will close; by default the one of the settings."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        private_home(settings.home)
        opened = (
            open_database(settings.database_url, settings.platform_database_url)
            if database is None
            else database
        )
        api.state.settings = settings
        api.state.database = opened
        api.state.database_watch = DatabaseWatch()
        api.state.storage = open_storage(settings.storage_url)
        api.state.secret = signing_secret(settings)
        api.state.before_commit, api.state.after_reading = operations.record, operations.record_reading
        api.state.callers = TtlCache[bytes, Principal]()  # by the digest of their key
        api.state.standing = TtlCache[
            UUID, None
        ]()  # by the id of a key that was good when it was last looked at
        oidc = settings.oidc
        api.state.tokens = None if oidc is None else PersonTokens(oidc, httpx.AsyncClient())
        try:
            await check_at_start(opened)
            async with (
                metering(opened) as meter,
                watching(opened) as api.state.refused_keys,
                keeping(opened) as writer,
                serving_context(settings, opened, meter, writer) as api.state.serving_context,
            ):
                api.state.meter, api.state.answer_writer = meter, writer
                api.state.run_feeds = RunFeeds(opened, settings)
                replicas = api.state.serving_context.replicas
                api.state.readiness = Readiness(settings, api.state.storage, replicas)
                async with aclosing(api.state.readiness), kept_tidy(opened, settings):
                    yield
        finally:
            if api.state.tokens is not None:
                await api.state.tokens.close()
            if database is None:
                await opened.close()

    load_handlers()
    api = FastAPI(
        title="Steerwise",
        version="1",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # see app.http.documentation; theirs also load scripts from elsewhere
        docs_url=None,
        redoc_url=None,
    )
    api.router.route_class = KeyedRoute  # whatever else is added says who may come in, too
    for router in ROUTERS:
        # As they are: include_router would build each route a second time, 0.2 s in all, and adds nothing here.
        api.router.routes.extend(router.routes)
    problems.install(api, error_shapes.SHAPES)
    reservation.install(api)
    openapi.install(api, *error_shapes.BODIES)
    api.add_middleware(DatabaseFits)
    api.add_middleware(BodyCap)
    api.add_middleware(RequestContext, also=error_shapes.REQUEST_ID_HEADERS)
    api.add_middleware(AnswerHeaders)  # added last, so it is the outermost
    return api
