"""The first key of the platform."""

from pathlib import Path

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from app.auth import keys
from app.auth.bootstrap import AlreadyBootstrapped, bootstrap
from app.auth.service import TooManyKeys
from app.cli.program import cli
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.auth import ApiKey
from app.infra.tables.records import AuditEvent
from tests.callers import Callers


@pytest.mark.anyio
async def test_the_first_key_administers_the_platform(callers: Callers) -> None:
    made = await bootstrap(callers.database)
    client = await callers.with_key(made.text)
    assert (await client.get("/v1/me")).json()["platform_admin"] is True
    assert (await client.post("/v1/tenants", json={"name": "first"})).status_code == 201
    async with transaction(callers.database) as session:
        [event] = await session.scalars(select(AuditEvent).where(AuditEvent.action == "api_key.created"))
    assert (event.actor_key_id, event.tenant_id, event.subject) == (None, None, f"api_key:{made.row.id}")


@pytest.mark.anyio
async def test_a_second_one_is_made_only_when_asked_for_or_when_none_is_live(database: Database) -> None:
    await bootstrap(database)
    with pytest.raises(AlreadyBootstrapped, match="--new"):
        await bootstrap(database)
    await bootstrap(database, another=True)
    with pytest.raises(TooManyKeys):
        await bootstrap(database, another=True)
    async with transaction(database) as session:
        await session.execute(update(ApiKey).values(revoked_at=utc_now()))
    await bootstrap(database)


def test_the_command_prints_the_key_once_and_refuses_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERWISE_HOME", str(tmp_path / "not made yet"))
    done = CliRunner().invoke(cli, ["admin", "bootstrap"])
    assert done.exit_code == 0, done.output
    assert keys.prefix_of(done.stdout.strip()) is not None
    refused = CliRunner().invoke(cli, ["admin", "bootstrap"])
    assert refused.exit_code == 2
    assert "sw_" not in refused.stdout and "--new" in refused.stderr
    again = CliRunner().invoke(cli, ["admin", "bootstrap", "--new"])
    assert keys.prefix_of(again.stdout.strip()) is not None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://somewhere/steerwise", "postgresql://"),
        ("postgresql://app:hunter2@127.0.0.1:1/steerwise", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_a_sentence(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEERWISE_HOME", str(tmp_path))
    monkeypatch.setenv("STEERWISE_DATABASE_URL", url)
    refused = CliRunner().invoke(cli, ["admin", "bootstrap"])
    assert refused.exit_code == 2
    assert said in refused.stderr and "hunter2" not in refused.stderr
