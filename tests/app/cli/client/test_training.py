"""Runs, models, gates and deployments: shown, waited for, and told by the exit code."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from app.runs.payloads import RunOut
from evaluation.gating.gate import decide
from evaluation.gating.policy import load_policy
from tests.app.cli.client.conftest import Installation, Shell
from tests.evaluation.evaluation_run import evaluated
from tests.evaluation.models import habit, oracle

RUN: dict[str, Any] = {
    "id": "8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21",
    "state": "running",
    "schema_id": "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01",
    "schema_version": 2,
    "dataset_id": "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20",
    "preset": "smoke",
    "seed": 0,
    "base": "starter",
    "created_at": "2026-01-02T10:30:00Z",
    "finished_at": None,
    "error": None,
    "model_version_id": None,
    "trigger": None,
    "priority": "normal",
    "progress": {"stage": "sft", "done": 24, "total": 60, "message": "training", "eta_s": 41.5},
    "stages": [
        {
            "kind": "sft",
            "state": "running",
            "attempt": 1,
            "done": 24,
            "total": 60,
            "message": "training",
            "eta_s": 41.5,
            "started_at": "2026-01-02T10:30:00Z",
            "finished_at": None,
            "metrics": {"loss": 0.93},
            "error": None,
            "heard_at": "2026-01-02T10:31:00Z",
            "silent_s": 3.2,
            "needs_gib": None,
        }
    ],
}
ERROR = {
    "stage": "sft",
    "code": "non_finite_loss",
    "message": "the loss is not finite",
    "details": ["step 13"],
}

GATE = "8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21"


def training(end: dict[str, Any], *, looks: int = 1) -> FastAPI:
    """A run that is over after so many looks at it."""
    api = FastAPI()
    reads = iter([RUN] * looks)

    @api.get("/v1/runs/{run_id}/events")
    def events(run_id: str) -> StreamingResponse:
        told = 'id: 7\nevent: metric\ndata: {"stage": "sft", "step": 24}\n\nevent: end\ndata: {}\n\n'
        return StreamingResponse(iter([told]), media_type="text/event-stream")

    @api.get("/v1/runs/{run_id}")
    def run(run_id: str) -> Any:
        return RunOut.model_validate(next(reads, {**RUN, **end}))

    return api


def test_a_watched_run_shows_its_stages_and_ends_with_it(asking: Callable[[Any], Shell]) -> None:
    shown = asking(training({"state": "succeeded"})).run("runs", "watch", RUN["id"])
    assert "24/60" in shown.stderr
    assert "succeeded" in shown.stdout
    assert "loss 0.93" in shown.stdout


def test_a_watched_run_that_failed_ends_with_1_and_says_why(asking: Callable[[Any], Shell]) -> None:
    failed = {"state": "failed", "error": ERROR}
    ended = asking(training(failed)).run("runs", "watch", RUN["id"], code=1)
    assert "the loss is not finite" in ended.stderr
    assert "step 13" in ended.stderr


def test_programs_read_the_events_of_a_run_line_by_line(asking: Callable[[Any], Shell]) -> None:
    asked = asking(training({"state": "succeeded"}, looks=0)).lines("runs", "watch", RUN["id"])
    assert asked[0] == {"id": "7", "event": "metric", "stage": "sft", "step": 24}
    assert (asked[1]["event"], len(asked)) == ("end", 2)


def test_runs_and_models_are_shown(tenant: Shell, installation: Installation) -> None:
    run, model = str(installation.told.run.id), str(installation.told.model.id)
    assert {found["id"] for found in tenant.json("runs", "list", "--schema", "support")} >= {run}
    assert run in tenant.run("runs", "list").stdout
    assert "distill" in tenant.run("runs", "show", run).stdout
    assert tenant.json("models", "show", model)["run_id"] == run
    assert model in tenant.run("models", "list").stdout
    assert run in tenant.run("models", "show", model).stdout


def test_a_run_without_enough_data_is_refused_with_what_is_missing(tenant: Shell, tmp_path: Any) -> None:
    refused = tenant.run(
        "runs", "create", "--schema", "support", "--dataset", "march", "--preset", "smoke", code=2
    )
    assert "train" in refused.stderr
    (tmp_path / "stages.json").write_text('[{"kind": "sft", "colour": "red"}]')
    stages = ("--stages", str(tmp_path / "stages.json"))
    refused = tenant.run("runs", "create", "--schema", "support", "--dataset", "march", *stages, code=2)
    assert "colour" in refused.stderr


def test_a_gates_verdict_is_the_exit_code(tenant: Shell, installation: Installation) -> None:
    passed, failed = str(installation.told.gate.id), installation.failed_gate_id
    assert tenant.json("gates", "wait", passed)["verdict"] == "passed"
    ended = tenant.run("gates", "wait", failed, code=3)
    assert "flip accuracy is 0.65" in ended.stdout
    assert {found["id"] for found in tenant.json("gates", "list")} == {passed, failed}
    assert tenant.json("gates", "wait", "--schema", "support", code=3)["id"] == failed  # of the newest model
    assert "say which gate" in tenant.run("gates", "wait", code=2).stderr
    again = tenant.json("gates", "create", str(installation.told.model.id))
    assert again["state"] in ("queued", "done")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"state": "done", "verdict": "incomplete"}, 4),
        ({"state": "failed", "verdict": None}, 1),
        ({"state": "done", "verdict": "passed"}, 0),
    ],
)
def test_a_gate_is_waited_for_though_the_api_is_away_for_a_moment(
    asking: Callable[[Any], Shell], end: dict[str, Any], code: int
) -> None:
    api = FastAPI()
    gate = {
        "id": GATE, "state": "running", "verdict": None, "reasons": [], "model_version_id": "m", "schema_id": "s",
        "schema_version": 2, "policy_sha256": "0" * 64, "created_at": "2026-01-02T10:30:00Z", "finished_at": None,
        "progress": {"done": 840, "total": 2400, "message": "evaluate rl", "waits_for": None},
    }  # fmt: skip
    answers = iter([(200, gate), (503, {"detail": "away", "code": "unavailable"}), (200, gate | end)])

    @api.get(f"/v1/gates/{GATE}")
    def get() -> JSONResponse:
        status, body = next(answers)
        return JSONResponse(body, status, {"Retry-After": "0"})

    ended = asking(api).run("gates", "wait", GATE, code=code)
    assert "840/2400" in ended.stderr


def test_a_gate_is_explained_from_its_report(asking: Callable[[Any], Shell]) -> None:
    api, made = FastAPI(), evaluated({"base": oracle(), "sft": habit()})
    made = made.model_copy(update={"gate": decide(made, load_policy())})

    @api.get(f"/v1/gates/{GATE}/report")
    def report() -> Any:
        return JSONResponse(made.model_dump(mode="json"))

    told = asking(api).run("gates", "explain", GATE).stdout
    assert told.startswith("failed: ") and "What would have to change: train so that" in told
    assert asking(api).json("gate", "explain", GATE)[0]["verdict"] == "failed"


def test_only_a_passed_gate_is_deployed(tenant: Shell, installation: Installation) -> None:
    refused = tenant.run("deployments", "create", installation.failed_gate_id, code=2)
    assert "gate_not_passed" in refused.stderr
    assert "steerwise gates show" in refused.stderr
    made = tenant.json("deployments", "create", str(installation.told.gate.id))
    assert made["state"] == "pending"
    listed = tenant.json("deployments", "list", "--schema", "support")
    assert [found["state"] for found in listed] == ["pending", "live"]
    assert "live" in tenant.run("deployments", "show", installation.deployment_id).stdout
    assert tenant.run("deployments", "rollback", installation.deployment_id, code=2).stderr
