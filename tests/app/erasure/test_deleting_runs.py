"""A run goes with all that it made, unless that is needed; what it cost stays counted."""

from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app.infra.db.session import transaction
from app.infra.tables.deployments import Deployment, DeploymentState
from app.infra.tables.files import StoredFile
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.jobs import Job, JobEvent
from app.infra.tables.runs import ModelVersion, Run, TeacherSpending
from app.runs.folders import folder_of
from app.serving import adapters
from app.tenants import share
from evaluation.reporting.report import Verdict
from tests.app.erasure import searching
from tests.app.erasure.steps import WORD, lines, swept, trained, upload
from tests.app.runs.conftest import STAGES, Shop

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def count(shop: Shop, table: type) -> int:
    async with transaction(shop.database) as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def deployed(shop: Shop, run_id: str, state: DeploymentState) -> UUID:
    """A deployment of its model, with the passed gate that allows it. Returns the model's id."""
    async with transaction(shop.database, shop.scope) as session:
        model = (await session.scalars(select(ModelVersion).where(ModelVersion.run_id == UUID(run_id)))).one()
        pair = {"model_version_id": model.id, "schema_version_id": model.schema_version_id}
        own = {"tenant_id": shop.scope.tenant_id} | pair
        gate = GateResult(**own, policy_sha256="0" * 64, state=GateState.done, verdict=Verdict.passed)
        session.add(gate)
        await session.flush()
        row = Deployment(**own, gate_result_id=gate.id, schema_id=UUID(shop.schema_id), state=state)
        session.add(row)
        await session.flush()
        return row.id


@pytest.mark.seconds
async def test_a_run_goes_with_its_models_gates_and_files(shop: Shop, tmp_path: Path) -> None:
    run_id = await trained(shop, await upload(shop, lines()))
    deployment = await deployed(shop, run_id, DeploymentState.retired)
    async with transaction(shop.database, shop.scope) as session:
        spent = {"teacher": "large", "month": date(2026, 1, 1), "granted_usd": 5.0, "spent_usd": 4.0}
        session.add(TeacherSpending(tenant_id=shop.scope.tenant_id, run_id=UUID(run_id), **spent))
        before = await share.jobs.worked_s(session, shop.scope, share.runs(shop.settings).kinds, 86_400)
    model = (await shop.get(f"runs/{run_id}"))["model_version_id"]
    assert (await shop.stranger.delete(f"/v1/runs/{run_id}")).status_code == 404
    gone = await shop.client.delete(f"/v1/runs/{run_id}")
    assert gone.status_code == 200, gone.text
    assert (gone.json()["model_versions"], gone.json()["deployments"]) == ([model], [str(deployment)])
    await swept(shop)
    for table in (Run, ModelVersion, GateResult, Deployment):
        assert await count(shop, table) == 0, table
    assert (await shop.client.get(f"/v1/runs/{run_id}")).status_code == 404
    async with transaction(shop.database, shop.scope) as session:
        files = list(await session.scalars(select(StoredFile.key)))
        after = await share.jobs.worked_s(session, shop.scope, share.runs(shop.settings).kinds, 86_400)
    kinds = {key.split("/")[-2] for key in files}
    assert kinds == {"uploads", "rejects", "teachers"} and after == pytest.approx(before)
    assert await count(shop, TeacherSpending) == 1  # else a budget could be had again
    said = searching.in_files(tmp_path / "storage", WORD)
    assert len(said) == 1 and "/uploads/" in said[0]  # the conversations are still there
    assert not folder_of(shop.settings, UUID(run_id)).root.exists()
    dataset = (await shop.get("datasets"))["items"][0]["id"]
    assert (await shop.client.delete(f"/v1/datasets/{dataset}")).status_code == 204


@pytest.mark.seconds
@ON_SQLITE
async def test_a_run_that_goes_on_or_whose_model_is_live_stays(shop: Shop) -> None:
    dataset_id = await upload(shop, lines())
    run = await shop.run(dataset_id=dataset_id)
    refused = await shop.client.delete(f"/v1/runs/{run['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_not_ended")
    for kind in STAGES:
        await shop.work(run["id"], kind)
    await deployed(shop, run["id"], DeploymentState.live)
    refused = await shop.client.delete(f"/v1/runs/{run['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_in_use")
    assert await count(shop, ModelVersion) == 1


@pytest.mark.seconds
@ON_SQLITE
async def test_what_two_runs_have_in_common_stays_until_both_are_gone(shop: Shop) -> None:
    """The quick trainer makes the same adapters again, of the same frozen dataset."""
    dataset_id = await upload(shop, lines())
    first, second = await trained(shop, dataset_id), await trained(shop, dataset_id)
    assert (await shop.client.delete(f"/v1/runs/{first}")).status_code == 200
    await swept(shop)
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        run = await session.get_one(Run, UUID(second))
        model = (await session.scalars(select(ModelVersion))).one()
    for key in (run.snapshot_key, *(model.adapter_key + name for name in adapters.FILES)):
        assert shop.storage.exists(key), key
    assert (await shop.client.delete(f"/v1/runs/{second}")).status_code == 200
    await swept(shop)
    assert not shop.storage.exists(run.snapshot_key)
    assert not shop.storage.exists(model.adapter_key + adapters.WEIGHTS)


@pytest.mark.seconds
@ON_SQLITE
async def test_jobs_of_a_deleted_run_say_nothing_any_more(shop: Shop) -> None:
    run_id = await trained(shop, await upload(shop, lines()))
    jobs = [job.id for job in await shop.jobs(run_id)]
    await shop.client.delete(f"/v1/runs/{run_id}")
    async with transaction(shop.database) as session:
        left = list(await session.scalars(select(Job).where(Job.id.in_(jobs))))
        told = await session.scalar(
            select(func.count()).select_from(JobEvent).where(JobEvent.job_id.in_(jobs))
        )
    assert len(left) == 4 and told == 0
    assert {(job.run_id, job.error, job.progress, job.inputs_hash) for job in left} == {
        (None, None, None, None)
    }


@ON_SQLITE
async def test_a_dataset_that_goes_leaves_what_another_ones_run_has_frozen(shop: Shop) -> None:
    """Equal conversations are frozen under one name."""
    first, second = await upload(shop, lines()), await upload(shop, lines())
    begun = await shop.run(dataset_id=first)
    kept = await shop.run(dataset_id=second)
    assert (await shop.client.post(f"/v1/runs/{begun['id']}/cancel")).status_code == 202
    assert (await shop.client.delete(f"/v1/runs/{begun['id']}")).status_code == 200
    assert (await shop.client.delete(f"/v1/datasets/{first}")).status_code == 204
    await swept(shop)
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        run = await session.get_one(Run, UUID(kept["id"]))
    assert shop.storage.exists(run.snapshot_key)
    assert not any(f"/{first}/" in key for key in shop.storage.listed())
