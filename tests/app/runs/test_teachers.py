"""A teacher is a name: its address, key, price and budget are the installation's to say, and stay together."""

from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from app.errors import Unavailable
from app.infra.db.session import transaction
from app.infra.tables.jobs import Job, JobState
from app.runs import budgets, repository, supervisor, teachers
from app.runs.budgets import Costs, TeacherBudgetSpent
from app.settings import InstalledTeacher, Settings
from tests.app.runs.conftest import Shop
from training.config import EndpointTeacher, NamedTeacher, PrivilegedTeacher, StageManifest, Traces

pytestmark = pytest.mark.anyio
LARGE = InstalledTeacher.model_validate(
    {
        "base_url": "https://large.example/v1",
        "model": "large",
        "api_key": "key-of-large",
        "prompt_usd_per_million": 1.0,
        "completion_usd_per_million": 10.0,
        "tenant_usd_per_month": 5.0,
    }
)
OTHER = InstalledTeacher.model_validate(
    LARGE.model_dump() | {"base_url": "https://other.example/v1", "api_key": "key-of-other"}
)
ASKED = {"kind": "traces", "teachers": [{"kind": "privileged"}, {"kind": "named", "name": "large"}]}
STAGE = Traces(teachers=(PrivilegedTeacher(), NamedTeacher(name="large")))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"teachers": {"large": LARGE, "other": OTHER}})


async def spent(shop: Shop, run_id: str, usd: float) -> None:
    async with transaction(shop.database, shop.scope) as session:
        await repository.set_spent(session, shop.scope, UUID(run_id), {"large": usd})


async def granted(shop: Shop, run_id: str, stage: Traces = STAGE) -> dict[str, float]:
    async with transaction(shop.database, shop.scope) as session:
        return await budgets.grant(session, shop.scope, UUID(run_id), stage, shop.settings)


async def end_traces(shop: Shop, run_id: str) -> None:
    async with transaction(shop.database, shop.scope) as session:
        job = (await shop.jobs(run_id))[0]
        (await session.get_one(Job, job.id)).state = JobState.succeeded


def test_a_price_needs_a_budget_and_a_key_is_not_shown() -> None:
    with pytest.raises(ValidationError, match="tenant_usd_per_month"):
        InstalledTeacher(
            base_url="https://x/v1", model="m", prompt_usd_per_million=1, completion_usd_per_million=0
        )
    assert "key-of-large" not in repr(Settings(teachers={"large": LARGE})) + repr(LARGE)


def test_the_settings_come_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    given = LARGE.model_dump_json(exclude={"api_key"})
    monkeypatch.setenv("STEERWISE_TEACHERS", f'{{"large": {given}}}')
    assert Settings().teachers["large"].model == "large"


def test_a_name_becomes_the_teacher_with_its_own_address_price_and_key(settings: Settings) -> None:
    found = teachers.resolved(STAGE, settings, {"large": 2.5}).teachers[1]
    assert isinstance(found, EndpointTeacher)
    assert (found.base_url, found.model, found.called) == ("https://large.example/v1", "large", "large")
    assert (found.prompt_usd_per_million, found.completion_usd_per_million, found.max_usd) == (1.0, 10.0, 2.5)
    only = teachers.keys(teachers.resolved(STAGE, settings), settings)
    assert only == {"STEERWISE_TEACHER_LARGE": "key-of-large"} and found.api_key_env in only


def test_a_stages_process_has_its_own_teachers_key_and_nothing_else_of_the_installation(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def spawn(argv: list[str], log: Path, env: dict[str, str], keep: Any) -> None:
        seen.update(env)
        raise InterruptedError

    monkeypatch.setattr(supervisor, "spawn", spawn)
    monkeypatch.setenv("STEERWISE_DATABASE_URL", "postgresql://app:secret@db/steerwise")
    monkeypatch.setenv("STEERWISE_TEACHERS", "{}")
    manifest = _manifest(tmp_path, teachers.resolved(STAGE, settings))
    with pytest.raises(InterruptedError):
        supervisor.run_stage(manifest, tmp_path, settings, lambda event: None)
    assert seen["STEERWISE_TEACHER_LARGE"] == "key-of-large"
    assert not {"STEERWISE_DATABASE_URL", "STEERWISE_TEACHERS", "STEERWISE_TEACHER_OTHER"} & set(seen)
    assert "key-of-large" not in manifest.read_text()


def _manifest(folder: Path, stage: Traces) -> Path:
    from tests.factories.rows import CONTENT

    content = {"stage": stage.model_dump(), "base": "starter", "category_schema": CONTENT}
    content |= {"conversations": folder / "c.jsonl", "out": folder}
    path = folder / "manifest.json"
    path.write_text(StageManifest.model_validate(content).model_dump_json())
    return path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_tenant_says_a_name_that_exists_and_no_address(shop: Shop) -> None:
    order = await shop.order()
    made = await shop.client.post("/v1/runs", json=order | {"stages": [ASKED]})
    assert made.status_code == 202, made.text
    endpoint = {"kind": "endpoint", "base_url": LARGE.base_url, "model": "large"}
    for teacher, place in (
        ({"kind": "named", "name": "nobody"}, "teachers[0].name"),
        (endpoint, "teachers[0].kind"),
        (endpoint | {"api_key_env": "STEERWISE_TEACHER_OTHER"}, "teachers[0].kind"),
    ):
        asked = {"kind": "traces", "teachers": [teacher]}
        refused = await shop.client.post("/v1/runs", json=order | {"stages": [asked]})
        assert refused.status_code == 422 and place in refused.text, refused.text
    priced = ASKED | {"teachers": [{"kind": "named", "name": "large", "prompt_usd_per_million": 0.0}]}
    assert (await shop.client.post("/v1/runs", json=order | {"stages": [priced]})).status_code == 422


async def test_several_runs_do_not_pass_the_budget_together(shop: Shop) -> None:
    dataset_id = await shop.dataset()
    first, second, third = [(await shop.run(dataset_id=dataset_id, stages=[ASKED]))["id"] for _ in range(3)]
    assert await granted(shop, first, STAGE.model_copy(update={"max_usd": 2.0})) == {"large": 2.0}
    assert await granted(shop, second) == {"large": 3.0}
    with pytest.raises(Unavailable):  # the others may still spend all of it
        await granted(shop, third)
    await spent(shop, first, 0.5)
    await end_traces(shop, first)
    assert await granted(shop, third) == {"large": 1.5}
    assert await granted(shop, second) == {"large": 3.0}  # another attempt of the same run
    await spent(shop, second, 3.0)
    await spent(shop, third, 1.5)
    for run_id in (second, third):
        with pytest.raises((TeacherBudgetSpent, Unavailable)):
            await granted(shop, run_id)
    refused = await shop.client.post("/v1/runs", json=await shop.order(dataset_id=dataset_id, stages=[ASKED]))
    assert (refused.status_code, refused.json()["code"]) == (429, "teacher_budget_spent")
    assert 0 < int(refused.headers["retry-after"]) <= 31 * 86_400
    without = await shop.client.post("/v1/runs", json=await shop.order(dataset_id=dataset_id))
    assert without.status_code == 202


async def test_the_next_month_has_a_budget_of_its_own(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = (await shop.run(stages=[ASKED]))["id"]
    monkeypatch.setattr(budgets, "_month", lambda at: date(2026, 1, 1))
    assert await granted(shop, run_id) == {"large": 5.0}
    await spent(shop, run_id, 5.0)
    with pytest.raises(TeacherBudgetSpent):
        await granted(shop, run_id)
    monkeypatch.setattr(budgets, "_month", lambda at: date(2026, 2, 1))
    assert await granted(shop, run_id) == {"large": 5.0}


def test_costs_of_earlier_attempts_stay() -> None:
    costs = Costs({"large": 1.0})
    costs.heard({"event": "progress", "step": 1, "usd.large": 0.25, "kept": 3})
    costs.heard({"event": "progress", "step": 2, "usd.large": 0.5, "usd.other": 0.1})
    assert costs.usd == {"large": 1.5, "other": 0.1}
