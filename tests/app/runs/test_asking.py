"""Asking for a run: what is checked before anything is written, and what is there afterwards."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.auth.principal import Scope
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobState
from app.runs import service
from app.runs.presets import Plan, Preset, plan
from tests.app.runs.conftest import DRAFT, STAGES, Shop

pytestmark = pytest.mark.anyio


async def refused(shop: Shop, **changes: Any) -> dict[str, Any]:
    answer = await shop.client.post("/v1/runs", json=await shop.order(**changes))
    assert answer.status_code == 422, answer.text
    assert (await shop.get("runs"))["items"] == []
    body: dict[str, Any] = answer.json()
    return body


async def stored(shop: Shop, run_id: str) -> Plan:
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        return Plan.model_validate((await service.get(session, shop.scope, UUID(run_id))).settings)


async def test_a_run_begins_with_a_frozen_dataset_and_four_jobs_of_which_the_first_may_start(
    shop: Shop,
) -> None:
    dataset_id = await shop.dataset()
    made = await shop.run(dataset_id=dataset_id, seed=7, priority="high")
    assert made["state"] == "queued" and made["priority"] == "high" and made["schema_version"] == 1
    assert (made["dataset_id"], made["preset"], made["seed"], made["base"]) == (
        dataset_id,
        "smoke",
        7,
        "starter",
    )
    assert [stage["kind"] for stage in made["stages"]] == STAGES
    assert [stage["state"] for stage in made["stages"]] == ["queued", "blocked", "blocked", "blocked"]
    assert made["progress"] == {
        "stage": "traces",
        "done": None,
        "total": None,
        "message": None,
        "eta_s": None,
    }
    assert [(job.seq, job.priority) for job in await shop.jobs(made["id"])] == [(n, 1) for n in range(1, 5)]
    assert await shop.get(f"runs/{made['id']}") == made
    assert (await shop.get("runs"))["items"] == [made]
    assert (await shop.get("model-versions"))["items"] == []
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        run = await service.get(session, shop.scope, UUID(made["id"]))
    with shop.storage.open_read(run.snapshot_key) as file:
        assert len([json.loads(line) for line in file]) == 54
    removed = await shop.client.delete(f"/v1/datasets/{dataset_id}")
    assert removed.json()["code"] == "dataset_in_use"


async def test_a_stage_that_is_given_takes_the_place_of_the_presets(shop: Shop) -> None:
    given = {"kind": "sft", "epochs": 3.0, "batch_size": 8, "micro_batch_size": 4}
    made = await shop.run(stages=[given])
    kept, preset = await stored(shop, made["id"]), plan(Preset.smoke)
    assert (kept.sft.epochs, kept.sft.max_steps) == (3.0, None)
    assert (kept.traces, kept.distill, kept.rl) == (preset.traces, preset.distill, preset.rl)


BAD_STAGES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a setting that does not exist": ([{"kind": "sft", "epoch": 3}], "epoch"),
    "a kind that does not exist": ([{"kind": "merge"}], "body.stages.0"),
    "settings that contradict each other": (
        [{"kind": "sft", "batch_size": 8, "micro_batch_size": 3}],
        "multiple of micro_batch_size",
    ),
    "a stage twice": ([{"kind": "rl"}, {"kind": "rl"}], "more than one stage"),
    "an adapter that is too wide to be served": (
        [{"kind": "sft", "lora": {"rank": 256}}],
        "lora.rank",
    ),
    "a teacher's address, which is the installation's to say": (
        [
            {
                "kind": "traces",
                "teachers": [{"kind": "endpoint", "base_url": "http://10.0.0.1/v1", "model": "m"}],
            }
        ],
        "teachers[0].kind",
    ),
    "a key out of the worker's environment": (
        [
            {
                "kind": "traces",
                "teachers": [
                    {"kind": "privileged"},
                    {
                        "kind": "endpoint",
                        "base_url": "http://10.0.0.1/v1",
                        "model": "m",
                        "api_key_env": "AWS_SECRET_ACCESS_KEY",
                    },
                ],
            }
        ],
        "teachers[1].kind",
    ),
    "a folder of the worker as a teacher": (
        [{"kind": "traces", "teachers": [{"kind": "privileged", "model": "../elsewhere"}]}],
        "teachers[0].model",
    ),
    "a folder of the worker as the teacher of distillation": (
        [{"kind": "distill", "teacher": "external", "teacher_model": "../elsewhere"}],
        "teacher_model",
    ),
    "a file of the worker as prompts": (
        [{"kind": "distill", "teacher": "base", "hint": "none", "prompts": "/var/lib/other.jsonl"}],
        "prompts",
    ),
    "a file of the worker as text": ([{"kind": "sft", "text": "/var/lib/other.jsonl"}], "text"),
    "a whole model": ([{"kind": "sft", "tuning": "full"}], "tuning"),
    "a file of this machine": ([{"kind": "traces", "files": ["/etc/passwd"]}], "files"),
    "a vLLM beside the training": ([{"kind": "rl", "sampler": "vllm", "sampler_memory": 0.9}], "sampler"),
}


@pytest.mark.parametrize("case", BAD_STAGES)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_stage_settings_are_checked_in_the_request(shop: Shop, case: str) -> None:
    stages, said = BAD_STAGES[case]
    body = await refused(shop, stages=stages)
    assert said in json.dumps(body["problems"]), body


async def test_too_little_data_is_said_at_once_with_what_is_missing(shop: Shop) -> None:
    body = await refused(shop, dataset_id=await shop.dataset(train=6, test=4))
    assert body["code"] == "dataset_not_enough"
    assert [problem["message"] for problem in body["problems"]] == [
        "the split train has 6 labelled conversations and needs 20",
        "the split test has 4 labelled conversations and needs 20",
    ]


async def test_an_empty_dataset_and_an_unpublished_schema_are_said_at_once(shop: Shop) -> None:
    body = {"name": "empty", "schema_id": shop.schema_id}
    empty = (await shop.client.post("/v1/datasets", json=body)).json()["id"]
    assert "the dataset is empty, not ready" in (await refused(shop, dataset_id=empty))["detail"]
    draft = (await shop.client.post("/v1/schemas", json={"name": "new", "draft": DRAFT})).json()["id"]
    assert "never published" in (await refused(shop, schema_id=draft))["detail"]


async def test_another_base_than_the_one_that_is_served_is_refused(shop: Shop) -> None:
    assert (await refused(shop, base="owner/model"))["code"] == "base_not_served"


async def test_what_is_not_there_is_not_found(shop: Shop) -> None:
    order = await shop.order()
    for change in ({"schema_id": str(uuid4())}, {"dataset_id": str(uuid4())}, {"schema_version": 2}):
        answer = await shop.client.post("/v1/runs", json=order | change)
        assert answer.status_code == 404, answer.text


async def test_a_request_that_is_sent_again_makes_one_run(shop: Shop) -> None:
    order, headers = await shop.order(), {"Idempotency-Key": "spring-1"}
    first = await shop.client.post("/v1/runs", json=order, headers=headers)
    again = await shop.client.post("/v1/runs", json=order, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json() and again.headers["Idempotency-Replayed"] == "true"
    assert len((await shop.get("runs"))["items"]) == 1
    other = await shop.client.post("/v1/runs", json=order | {"seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_two_requests_at_once_with_one_key_make_one_run(shop: Shop) -> None:
    order, headers = await shop.order(), {"Idempotency-Key": "at once"[:7].replace(" ", "-")}
    answers = await asyncio.gather(
        *(shop.client.post("/v1/runs", json=order, headers=headers) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len((await shop.get("runs"))["items"]) == 1


async def test_nothing_of_a_run_is_there_for_another_tenant(shop: Shop) -> None:
    order = await shop.order()
    run = await shop.run(dataset_id=order["dataset_id"])
    for path in ("", "/events", "/stages/sft/log"):
        assert (await shop.stranger.get(f"/v1/runs/{run['id']}{path}")).status_code == 404
    assert (await shop.stranger.post(f"/v1/runs/{run['id']}/cancel")).status_code == 404
    assert (await shop.stranger.post("/v1/runs", json=order)).status_code == 404
    assert (await shop.stranger.get("/v1/runs")).json()["items"] == []
    assert (await shop.jobs(run["id"]))[0].state is JobState.queued


async def test_reading_needs_its_scope_and_writing_another(shop: Shop) -> None:
    run = await shop.run()
    client = await shop.callers.of(shop.scope, Scope.runs_read)
    assert (await client.get(f"/v1/runs/{run['id']}")).status_code == 200
    assert (await client.post(f"/v1/runs/{run['id']}/cancel")).status_code == 403
    assert (await client.post("/v1/runs", json={})).status_code == 403


async def test_runs_come_in_pages_and_by_schema(shop: Shop) -> None:
    dataset_id = await shop.dataset()
    ids = [(await shop.run(dataset_id=dataset_id))["id"] for _ in range(3)]
    page = await shop.get("runs?limit=2")
    rest = await shop.get(f"runs?limit=2&cursor={page['next_cursor']}")
    assert [run["id"] for run in [*page["items"], *rest["items"]]] == ids[::-1]
    assert (await shop.get(f"runs?schema_id={uuid4()}"))["items"] == []
    assert len((await shop.get(f"runs?schema_id={shop.schema_id}"))["items"]) == 3
