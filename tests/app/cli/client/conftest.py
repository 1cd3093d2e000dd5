"""The command line and the API, both real, with a socket between them."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import structlog
from typer.testing import CliRunner, Result

from app.auth import service
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.cli.program import cli
from app.infra.db.engine import open_database
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.infra.tables.jobs import Job, JobKind
from app.main import create_app
from app.settings import OidcIssuer, Settings
from evaluation.reporting.report import Verdict
from tests.factories.rows import Story, deployment_of, gate_of, model_of, run_of, save, story
from tests.servers import databases
from tests.servers.s3 import serving

Env = dict[str, str]


class Shell(NamedTuple):
    """env: where and who. Its commands run in this process."""

    env: Env

    def run(self, *arguments: str, code: int = 0, **more: Any) -> Result:
        ended = CliRunner().invoke(cli, [*arguments], env=self.env, catch_exceptions=False, **more)
        assert ended.exit_code == code, ended.output
        return ended

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def lines(self, *arguments: str, code: int = 0) -> list[Any]:
        return [json.loads(line) for line in self.run(*arguments, "--json", code=code).stdout.splitlines()]

    def within(self, **more: str) -> "Shell":
        return Shell({**self.env, **more})


class Installation(NamedTuple):
    """told: a tenant with a live deployment. failed_gate_id: of another of its models."""

    settings: Settings
    url: str
    told: Story
    deployment_id: str
    failed_gate_id: str
    tenant_key: str
    platform_key: str

    def shell(self, key: str) -> Shell:
        return Shell(
            {
                **nobodys(self.settings.home),
                "STEERWISE_URL": self.url,
                "STEERWISE_API_KEY": key,
            }
        )


class Rows(NamedTuple):
    told: Story
    deployment_id: str
    failed_gate_id: str
    tenant_key: str
    platform_key: str


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """The API of these tests shares our standard output, on which it would write."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    yield
    structlog.reset_defaults()


@pytest.fixture
def model_urls() -> tuple[str, ...]:
    return ()


@pytest.fixture
def oidc() -> OidcIssuer | None:
    return None


@pytest.fixture
def installation(
    tmp_path: Path, model_urls: tuple[str, ...], oidc: OidcIssuer | None
) -> Iterator[Installation]:
    url = databases.sqlite_url(tmp_path)
    settings = Settings(
        home=tmp_path / "home",
        database_url=url,
        storage_url=str(tmp_path / "storage"),
        vllm_urls=model_urls,
        oidc=oidc,
    )
    rows = anyio.run(_fill, url)
    with serving(create_app(settings)) as address:
        yield Installation(settings, address, *rows)


@pytest.fixture
def tenant(installation: Installation) -> Shell:
    """With an admin's key of the tenant."""
    return installation.shell(installation.tenant_key)


@pytest.fixture
def platform(installation: Installation) -> Shell:
    """With a key of an admin of the platform."""
    return installation.shell(installation.platform_key)


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Callable[[Any], Shell]]:
    """A shell whose API is the given ASGI application."""
    with ExitStack() as stack:

        def made(api: Any) -> Shell:
            url = stack.enter_context(serving(api))
            return Shell({**nobodys(tmp_path), "STEERWISE_URL": url, "STEERWISE_API_KEY": "sw_some_key"})

        yield made


def nobodys(folder: Path) -> Env:
    """The profile of whoever runs the tests takes no part."""
    return {"XDG_CONFIG_HOME": str(folder / "config"), "STEERWISE_TENANT": "", "STEERWISE_PROFILE": ""}


async def _fill(url: str) -> Rows:
    database = open_database(url)
    told = story()
    live = deployment_of(told, state=DeploymentState.live)
    other_run = run_of(told.version, told.dataset)
    other = model_of(other_run)
    failed = gate_of(other, told.version, Verdict.failed)
    failed.reasons = ["flip accuracy is 0.65; at least 0.70 is asked"]
    stages = [
        _job(told, run.id, seq, kind) for run in (told.run, other_run) for seq, kind in enumerate(_KINDS)
    ]
    try:
        async with transaction(database) as session:
            await save(session, *told, live, other_run, other, failed, *stages)
            own = await service.create(session, None, told.tenant.id, KeyOrder("cli", [Scope.admin]))
            platform = await service.create(session, None, None, KeyOrder("cli", [Scope.admin]))
        return Rows(told, str(live.id), str(failed.id), own.text, platform.text)
    finally:
        await database.engine.dispose()


_KINDS = (JobKind.traces, JobKind.sft, JobKind.distill, JobKind.rl)


def _job(told: Story, run_id: Any, seq: int, kind: JobKind) -> Job:
    return Job(tenant_id=told.tenant.id, kind=kind, subject_id=run_id, run_id=run_id, seq=seq)
