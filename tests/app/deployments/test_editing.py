"""A schema that is edited under a live model: when the edit is served, and when it is taken back."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from app.deployments import service, tasks
from app.gates import repository as gate_repository
from app.gates import service as gates
from app.gates.confidence import Fitted
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.gates import GateState
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.tenants import ServeEdits, Tenant
from app.settings import Settings
from evaluation.contract.mode import Mode, ModeChoice
from evaluation.reporting.report import Verdict
from tests.evaluation.shop import SCHEMA
from tests.factories import trained as factory
from tests.factories.serving import activate, gate_on, live, put_live
from tests.factories.trained import Trained, decided, reworded, trained

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Any, database_url: str) -> Settings:
    """No model server: nothing here asks one."""
    return Settings(home=tmp_path / "home", database_url=database_url, storage_url=str(tmp_path / "storage"))


@pytest.fixture
async def told(database: Database, settings: Settings, scope: TenantScope) -> Trained:
    return await trained(database, settings, scope)


async def wish(database: Database, told: Trained, when: ServeEdits) -> None:
    async with transaction(database, told.scope) as session:
        (await session.get_one(Tenant, told.scope.tenant_id)).serve_edits = when


async def edit(database: Database, told: Trained, number: int = 2) -> SchemaVersion:
    return await factory.edited(database, told, reworded(f"The customer wants money back, {number}."))


async def sweep(database: Database, settings: Settings) -> None:
    """Twice: what it has done must not make it do more."""
    for _ in range(2):
        await tasks.sweep_edits(database, settings)


async def serving(client: httpx.AsyncClient, told: Trained) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/schemas/{told.schema_id}/serving")).json()
    return found


async def served(database: Database, told: Trained) -> tuple[int, bool]:
    """Number of the version to answer with, and whether that is provisional."""
    found = await live(database, told)
    return found.version.number, found.provisional


async def judge(
    database: Database, settings: Settings, told: Trained, version: SchemaVersion, verdict: Verdict,
    fitted: Fitted | None = None,
) -> None:  # fmt: skip
    await decided(database, told, (await gate_on(database, told, version.id)).id, verdict, fitted)
    await sweep(database, settings)


async def test_an_edit_waits_for_its_gate_and_is_served_when_it_passes(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    version = await edit(database, told)
    await sweep(database, settings)
    gate = await gate_on(database, told, version.id)
    assert gate.state is GateState.queued
    shown = await serving(client, told)
    assert (shown["schema_version"], shown["provisional"]) == (1, False)
    assert (shown["edit"]["state"], shown["edit"]["schema_version"]) == ("waiting", 2)
    assert shown["edit"]["gate_id"] == str(gate.id) and shown["edit"]["gate_state"] == "queued"
    await decided(database, told, gate.id, Verdict.passed)
    assert await served(database, told) == (2, False)  # from the verdict on, before a sweep has seen it
    await sweep(database, settings)
    assert await served(database, told) == (2, False)
    shown = await serving(client, told)
    assert (shown["schema_version"], shown["edit"]["state"], shown["edit"]["verdict"]) == (
        2,
        "confirmed",
        "passed",
    )
    assert shown["deployment"]["schema_version"] == 1  # the pair that was deployed stays what it is


async def test_an_edit_whose_gate_fails_is_never_served(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    version = await edit(database, told)
    await sweep(database, settings)
    await judge(database, settings, told, version, Verdict.failed)
    assert await served(database, told) == (1, False)
    shown = (await serving(client, told))["edit"]
    assert (shown["state"], shown["reasons"]) == ("reverted", ["it is failed"])


async def test_an_incomplete_gate_leaves_the_edit_unserved_and_says_why_until_it_is_repeated(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    version = await edit(database, told)
    await sweep(database, settings)
    await judge(database, settings, told, version, Verdict.incomplete)
    shown = await serving(client, told)
    assert (shown["schema_version"], shown["edit"]["state"]) == (1, "waiting")
    assert (shown["edit"]["verdict"], shown["edit"]["reasons"]) == ("incomplete", ["it is incomplete"])
    body = {"model_version_id": str(told.model.id), "schema_version": 2}
    again = (await client.post("/v1/gates", json=body)).json()
    await sweep(database, settings)
    assert (await serving(client, told))["edit"]["gate_id"] == again["id"]
    await judge(database, settings, told, version, Verdict.passed)
    assert await served(database, told) == (2, False)


async def test_at_once_means_from_the_moment_of_publishing_and_provisionally(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await wish(database, told, ServeEdits.at_once)
    await put_live(database, told)
    version = await edit(database, told)
    assert await served(database, told) == (2, True)  # before any sweep
    await sweep(database, settings)
    assert (await serving(client, told))["edit"]["state"] == "provisional"
    await judge(database, settings, told, version, Verdict.incomplete)
    assert await served(database, told) == (2, True)
    async with transaction(database, told.scope) as session:
        await gates.request(session, told.scope, None, told.model.id, version.id)
    await judge(database, settings, told, version, Verdict.passed)
    assert await served(database, told) == (2, False)


async def test_at_once_is_taken_back_by_a_failed_gate(
    database: Database, settings: Settings, told: Trained
) -> None:
    await wish(database, told, ServeEdits.at_once)
    await put_live(database, told)
    version = await edit(database, told)
    await sweep(database, settings)
    gate = await gate_on(database, told, version.id)
    await decided(database, told, gate.id, Verdict.failed)
    assert await served(database, told) == (1, False)  # by the verdict, not by the sweep


async def test_a_later_edit_takes_the_place_of_one_in_the_balance(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    second = await edit(database, told, 2)
    await sweep(database, settings)
    await judge(database, settings, told, second, Verdict.passed)
    third = await edit(database, told, 3)
    await sweep(database, settings)
    fourth = await edit(database, told, 4)
    await sweep(database, settings)
    await decided(database, told, (await gate_on(database, told, third.id)).id, Verdict.passed)
    await sweep(database, settings)
    assert await served(database, told) == (2, False)  # the newest that passed while it was the newest
    await judge(database, settings, told, fourth, Verdict.failed)
    assert await served(database, told) == (2, False)
    assert (await serving(client, told))["edit"]["schema_version"] == 4


async def test_a_verdict_that_is_known_decides_at_once(
    database: Database, settings: Settings, told: Trained
) -> None:
    await put_live(database, told)
    version = await edit(database, told)
    async with transaction(database, told.scope) as session:
        gate = await gates.request(session, told.scope, None, told.model.id, version.id)
    await decided(database, told, gate.id, Verdict.passed)
    await tasks.sweep_edits(database, settings)
    assert await served(database, told) == (2, False)


async def test_a_tenant_may_change_its_mind_while_an_edit_is_in_the_balance(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    await edit(database, told)
    for when, state in ((ServeEdits.after_gate, "waiting"), (ServeEdits.at_once, "provisional")) * 2:
        await wish(database, told, when)
        await sweep(database, settings)
        shown = await serving(client, told)
        assert (shown["edit"]["state"], shown["provisional"]) == (state, when is ServeEdits.at_once)


async def test_a_model_deployed_after_an_edit_goes_on_to_it(
    database: Database, settings: Settings, told: Trained
) -> None:
    """The schema was edited while the model was trained for the version before."""
    version = await edit(database, told)
    await put_live(database, told)
    await sweep(database, settings)
    await judge(database, settings, told, version, Verdict.passed)
    assert await served(database, told) == (2, False)


async def test_a_new_deployment_ends_what_was_in_the_balance_for_the_old_one(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    version = await edit(database, told)
    await sweep(database, settings)
    other = told._replace(model=await factory.retrained(database, settings, told, number=2))
    await put_live(database, other, version.id)
    await sweep(database, settings)
    assert await served(database, told) == (2, False)
    shown = await serving(client, told)
    assert (shown["deployment"]["schema_version"], shown["edit"]) == (2, None)


async def test_a_step_back_restores_what_was_served_and_is_not_brought_forward_again(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    await put_live(database, told)
    second = await edit(database, told, 2)
    await sweep(database, settings)
    await judge(database, settings, told, second, Verdict.passed)
    third = await edit(database, told, 3)
    other = told._replace(model=await factory.retrained(database, settings, told, number=2))
    replacing = await put_live(database, other, third.id)
    back = (await client.post(f"/v1/deployments/{replacing}/rollback")).json()
    assert (back["schema_version"], back["model_version_id"]) == (2, str(told.model.id))
    await activate(database, told.scope, UUID(back["id"]))
    await sweep(database, settings)
    assert await served(database, told) == (2, False) and (await serving(client, told))["edit"] is None
    await edit(database, told, 4)  # published after the step back: an edit like any other
    await sweep(database, settings)
    assert (await serving(client, told))["edit"]["schema_version"] == 4


async def test_an_edit_is_undone_by_deploying_the_pair_without_it(
    database: Database, settings: Settings, told: Trained
) -> None:
    await put_live(database, told)
    version = await edit(database, told)
    await sweep(database, settings)
    await judge(database, settings, told, version, Verdict.passed)
    await put_live(database, told)
    await sweep(database, settings)
    assert await served(database, told) == (1, False)


async def test_an_edit_is_taken_back_by_publishing_the_old_content_again(
    database: Database, settings: Settings, told: Trained, client: httpx.AsyncClient
) -> None:
    """Back and forth, without measuring again what has a verdict."""
    await put_live(database, told)
    second = await edit(database, told)
    await sweep(database, settings)
    await judge(database, settings, told, second, Verdict.passed)
    for content, number in ((SCHEMA, 1), (reworded("The customer wants money back, 2."), 2)) * 2:
        assert (await factory.edited(database, told, content)).number == number
        await sweep(database, settings)
        assert await served(database, told) == (number, False)
    shown = (await client.get(f"/v1/schemas/{told.schema_id}")).json()
    assert (shown["current_version"], shown["latest_version"]) == (2, 2)
    assert len((await client.get("/v1/gates")).json()["items"]) == 2


async def test_an_edit_whose_gate_failed_is_not_served_by_publishing_it_again(
    database: Database, settings: Settings, told: Trained
) -> None:
    await put_live(database, told)
    second = await edit(database, told)
    await sweep(database, settings)
    await judge(database, settings, told, second, Verdict.failed)
    for content in (SCHEMA, reworded("The customer wants money back, 2.")):
        await factory.edited(database, told, content)
        await sweep(database, settings)
        assert await served(database, told) == (1, False)


async def test_what_one_tenant_edits_changes_nothing_for_another(
    database: Database, settings: Settings, told: Trained, other_scope: TenantScope
) -> None:
    theirs = await trained(database, settings, other_scope)
    for one in (told, theirs):
        await put_live(database, one)
    await wish(database, theirs, ServeEdits.at_once)
    await edit(database, told)
    await sweep(database, settings)
    assert await served(database, theirs) == (1, False)
    assert await served(database, told) == (1, False)
    async with transaction(database, other_scope, read_only=True) as session:
        assert await service.live(session, other_scope, told.schema_id) is None


async def test_an_edit_is_measured_in_both_modes_where_the_tenant_answers_in_mode_auto(
    database: Database, settings: Settings, told: Trained
) -> None:
    await put_live(database, told)
    async with transaction(database, told.scope) as session:
        (await session.get_one(Tenant, told.scope.tenant_id)).mode = ModeChoice.auto
    version = await edit(database, told)
    await sweep(database, settings)
    async with transaction(database, told.scope) as session:
        found = await gate_repository.of_pair(session, told.scope, told.model.id, version.id)
    assert sorted(gate.mode for gate in found) == [Mode.fast, Mode.reasoned]
