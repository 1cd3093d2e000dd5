"""A model server that was started again gets the adapters of what is live back, and old ones make room."""

import shutil
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from app.deployments import repository, service, tasks
from app.errors import ServingAway, ShareExceeded
from app.gates import service as gates
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.runs import ModelVersion
from app.infra.tables.tenants import Fallback, Tenant
from app.serving.base import STARTER, find_base
from app.settings import Settings
from tests.factories import trained as factory
from tests.factories.serving import activate, passed_gate, put_live
from tests.factories.trained import trained
from tests.servers.vllm import FakeVllm

pytestmark = pytest.mark.anyio


async def test_what_is_live_is_loaded_wherever_it_is_missing(
    database: Database, settings: Settings, scope: TenantScope, other_scope: TenantScope, vllm: FakeVllm
) -> None:
    told, theirs = await trained(database, settings, scope), await trained(database, settings, other_scope)
    theirs = theirs._replace(model=await factory.retrained(database, settings, theirs, number=7))
    for one in (told, theirs):
        await put_live(database, one)
    expected = {told.model.adapter_sha256, theirs.model.adapter_sha256}
    assert len(expected) == 2
    for _ in range(2):
        await tasks.reconcile(database, settings)
        assert set(vllm.adapters) == expected
    vllm.adapters.clear()  # started again
    await tasks.reconcile(database, settings)
    assert set(vllm.adapters) == expected


@pytest.mark.parametrize("fallback", list(Fallback))
async def test_what_was_live_before_is_loaded_again_for_tenants_that_may_need_it(
    fallback: Fallback, database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm
) -> None:
    told = await trained(database, settings, scope)
    now = told._replace(model=await factory.retrained(database, settings, told, number=2))
    for one in (told, now):
        await put_live(database, one)
    async with transaction(database, scope) as session:
        (await session.get_one(Tenant, scope.tenant_id)).fallback = fallback
    await tasks.reconcile(database, settings)
    before = [] if fallback is Fallback.none else [told.model.adapter_sha256]
    assert list(vllm.adapters) == [now.model.adapter_sha256, *before]


async def test_who_went_back_does_not_fall_back_on_what_they_went_back_from(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm
) -> None:
    told = await trained(database, settings, scope)
    later = told._replace(model=await factory.retrained(database, settings, told, number=2))
    async with transaction(database, scope) as session:
        (await session.get_one(Tenant, scope.tenant_id)).fallback = Fallback.previous
    for one in (told, later):
        await put_live(database, one)
    async with transaction(database, scope) as session:
        live = await service.live(session, scope, told.schema_id)
        assert live is not None
        row = await service.roll_back(session, scope, None, live.deployment_id, 8)
    await activate(database, scope, row.id)
    await tasks.reconcile(database, settings)
    assert list(vllm.adapters) == [told.model.adapter_sha256]


async def test_adapters_that_nobody_wants_go_when_room_runs_short_and_the_oldest_first(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm
) -> None:
    told = await trained(database, settings, scope)
    await put_live(database, told)
    judged = told._replace(model=await factory.retrained(database, settings, told, number=2))
    async with transaction(database, scope) as session:
        await gates.request(session, scope, None, judged.model.id, judged.version.id)
    old = [f"{number}" * 64 for number in range(5)]
    vllm.adapters = dict.fromkeys(
        [*old[:3], "t_cafe_somebodys", judged.model.adapter_sha256, *old[3:]], "/old"
    )
    await tasks.reconcile(database, settings)
    kept = settings.vllm_max_adapters - tasks.SPARE
    left = ["t_cafe_somebodys", judged.model.adapter_sha256, *old[3:], told.model.adapter_sha256]
    assert len(left) == kept and list(vllm.adapters) == left


async def test_one_adapter_that_cannot_be_had_does_not_keep_the_others_away(
    database: Database, settings: Settings, scope: TenantScope, other_scope: TenantScope, vllm: FakeVllm
) -> None:
    told, theirs = await trained(database, settings, scope), await trained(database, settings, other_scope)
    theirs = theirs._replace(model=await factory.retrained(database, settings, theirs, number=7))
    for one in (told, theirs):
        await put_live(database, one)
    for path in (settings.home.parent / "storage" / told.model.adapter_key).iterdir():
        path.unlink()
    await tasks.reconcile(database, settings)
    assert list(vllm.adapters) == [theirs.model.adapter_sha256]


async def test_a_model_of_another_base_is_not_put_back_on_this_one(
    database: Database, settings: Settings, scope: TenantScope, other_scope: TenantScope, vllm: FakeVllm
) -> None:
    told, theirs = await trained(database, settings, scope), await trained(database, settings, other_scope)
    theirs = theirs._replace(model=await factory.retrained(database, settings, theirs, number=7))
    for one in (told, theirs):
        await put_live(database, one)
    vllm.adapters.clear()  # started again, after the installation has got another base
    async with transaction(database, scope) as session:
        (await session.get_one(ModelVersion, told.model.id)).base_sha256 = "0" * 64
    await tasks.reconcile(database, settings)
    assert list(vllm.adapters) == [theirs.model.adapter_sha256]


async def test_a_deployment_whose_base_was_changed_says_so_and_proposes_the_retrain(
    client: httpx.AsyncClient, database: Database, settings: Settings, scope: TenantScope, tmp_path: Path
) -> None:
    told = await trained(database, settings, scope)
    identity = await put_live(database, told)
    await tasks.check_fit(database, settings)
    before = (await client.get(f"/v1/deployments/{identity}")).json()
    assert (before["state"], before["problem"], before["retrain"]) == ("live", None, None)
    shutil.copytree(find_base(STARTER).folder, tmp_path / "another")
    (tmp_path / "another" / "generation_config.json").write_text('{"of": "another base"}')
    changed = settings.model_copy(update={"base": str(tmp_path / "another")})
    with capture_logs() as lines:
        for _ in range(3):
            await tasks.check_fit(database, changed)
    assert [line["event"] for line in lines] == ["deployment_not_served"]
    shown = (await client.get(f"/v1/deployments/{identity}")).json()
    assert shown["state"] == "live" and "another base" in shown["problem"]
    asked_for = {"schema_id": str(told.schema_id), "dataset_id": str(told.dataset_id), "preset": "smoke"}
    assert shown["retrain"] == asked_for
    serving = (await client.get(f"/v1/schemas/{told.schema_id}/serving")).json()
    assert serving["deployment"]["retrain"] == asked_for
    done = [event["action"] for event in (await client.get("/v1/audit")).json()["items"]]
    assert done.count("deployment.not_served") == 1
    await tasks.check_fit(database, settings)
    assert (await client.get(f"/v1/deployments/{identity}")).json() == before


async def test_a_model_server_that_is_away_is_told_of_and_nothing_else_happens(
    database: Database, settings: Settings, vllm: FakeVllm
) -> None:
    vllm.status = 503
    with pytest.raises(ServingAway):
        await tasks.reconcile(database, settings)
    await tasks.reconcile(database, settings.model_copy(update={"vllm_urls": ()}))


async def test_where_there_are_fewer_places_than_models_each_tenant_gets_one_first(
    database: Database, settings: Settings, scope: TenantScope, other_scope: TenantScope
) -> None:
    mine = [ModelVersion(tenant_id=scope.tenant_id) for _ in range(3)]
    theirs = [ModelVersion(tenant_id=other_scope.tenant_id) for _ in range(2)]
    assert tasks.in_turns([*mine, *theirs]) == [mine[0], theirs[0], mine[1], theirs[1], mine[2]]


async def test_a_tenant_has_so_many_models_on_the_servers_and_what_it_replaces_does_not_count(
    database: Database, settings: Settings, scope: TenantScope
) -> None:
    told = await trained(database, settings, scope)
    await put_live(database, told)
    later = told._replace(model=await factory.retrained(database, settings, told, number=2))
    gate_id = await passed_gate(database, later)
    with pytest.raises(ShareExceeded) as refused:
        async with transaction(database, scope) as session:
            await service.create(session, scope, None, gate_id, 0)
    assert int(refused.value.headers["Retry-After"]) > 0
    async with transaction(database, scope) as session:
        await service.create(session, scope, None, gate_id, 1)
    async with transaction(database, scope, read_only=True) as session:
        assert await repository.models_held(session, scope) == {told.model.id, later.model.id}
