"""`steerwise gates` and `steerwise deployments`: what is allowed to answer, and what does."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client.api import PAGE, Json, identity
from app.cli.client.bar import bar
from app.cli.client.call import Call, asks
from app.cli.client.lists import All, Limit, OfSchema, listed, schema_id
from app.cli.client.table import Columns, at, details, when
from app.cli.client.waiting import until
from app.cli.endings import FAILED, INCOMPLETE
from app.errors import AppError, InputError
from evaluation.contract.mode import Mode

gates = typer.Typer(no_args_is_help=True, help="Verdicts on a model under a schema version.")
deployments = typer.Typer(no_args_is_help=True, help="Which model answers for a schema.")
_GATES, _DEPLOYMENTS = "/v1/gates", "/v1/deployments"
Gate = Annotated[str, typer.Argument(metavar="GATE", help="Its id.", parser=identity)]
Deployment = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its id.", parser=identity)]
GateOrNewest = Annotated[
    str | None, typer.Argument(metavar="[GATE]", help="Its id. (or --schema)", parser=identity)
]
NewestOf = Annotated[
    str | None,
    typer.Option("--schema", help="Id or name: the gate of its newest model under its current version."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")]
_ASKED_WITHIN_S = 60.0  # new models and published edits get their gates by themselves, within seconds


class NotMeasured(AppError):
    """The gate could not be measured."""

    code = "gate_failed"


class NotLive(AppError):
    """The deployment did not become live."""

    code = "deployment_failed"


@gates.command("list")
@asks
def list_gates(
    call: Call,
    model: Annotated[str | None, typer.Option(help="Only those of this model: its id.")] = None,
    limit: Limit = 50,
    everything: All = False,
) -> None:
    """Gates, the newest first."""
    columns: Columns = {
        "id": "id",
        "state": "state",
        "verdict": "verdict",
        "version": "schema_version",
        "mode": "mode",
        "model id": "model_version_id",
        "created": when("created_at"),
    }
    listed(call, _GATES, columns, limit, everything, model_version_id=model)


@gates.command("create")
@asks
def create_gate(
    call: Call,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id of a model version.", parser=identity)],
    version: Annotated[
        int | None, typer.Option(help="Number of the schema version. (default: the model's own)", min=1)
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="How it is asked; each has a gate of its own. (default: the tenant's)")
    ] = None,
    wait: Wait = False,
) -> None:
    """Measure a model. A final verdict that is there already is the answer."""
    made = call.api.post_once(_GATES, {"model_version_id": model, "schema_version": version, "mode": mode})
    _conclude(call, waited(call, made["id"]) if wait else made)


@gates.command("show")
@asks
def show_gate(call: Call, gate: Gate) -> None:
    """One gate: its verdict and the reasons, or how far it is."""
    found = call.api.get(f"{_GATES}/{gate}")
    call.answer(found, lambda: _gate(found))


@gates.command("wait")
@asks
def wait_for_gate(call: Call, gate: GateOrNewest = None, schema: NewestOf = None) -> None:
    """Stay until a gate has ended. Exit 0 passed, 3 failed, 4 incomplete, 1 it could not be measured."""
    _conclude(call, waited(call, _meant(call, gate, schema)))


@gates.command("report")
@asks
def show_report(
    call: Call,
    gate: Gate,
    html: Annotated[bool, typer.Option("--html", help="The page for people. (default: JSON)")] = False,
    output: Annotated[Path | None, typer.Option(help="A file, instead of standard output.")] = None,
) -> None:
    """What was measured."""
    text = call.api.send("GET", f"{_GATES}/{gate}/report{'.html' if html else ''}").text
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
        call.answer({"written": str(output)}, lambda: f"written to {output}")


@gates.command("explain")
@asks
def explain_gate(call: Call, gate: Gate) -> None:
    """Why it passed or not, check by check, and what would have to change."""
    from evaluation.gating import explain  # with numpy and scipy, which no other command here needs
    from evaluation.reporting.report import Report

    made = Report.model_validate(call.api.get(f"{_GATES}/{gate}/report"))
    call.answer([one._asdict() for one in explain.explain(made)], lambda: "\n".join(explain.lines(made)))


@deployments.command("list")
@asks
def list_deployments(call: Call, schema: OfSchema = None, limit: Limit = 50, everything: All = False) -> None:
    """Deployments, the newest first."""
    columns: Columns = {
        "id": "id",
        "state": "state",
        "version": "schema_version",
        "model id": "model_version_id",
        "live since": when("activated_at"),
        "retired": when("retired_at"),
    }
    listed(call, _DEPLOYMENTS, columns, limit, everything, schema_id=schema_id(call, schema))


@deployments.command("create")
@asks
def create_deployment(
    call: Call, gate: GateOrNewest = None, schema: NewestOf = None, wait: Wait = False
) -> None:
    """Deploy the model and schema version of a gate that has passed."""
    made = call.api.post_once(_DEPLOYMENTS, {"gate_id": _meant(call, gate, schema)})
    _settle(call, made, wait=wait)


@deployments.command("show")
@asks
def show_deployment(call: Call, deployment: Deployment) -> None:
    """One deployment, and whether it is live."""
    found = call.api.get(f"{_DEPLOYMENTS}/{deployment}")
    call.answer(found, lambda: _deployment(found))


@deployments.command("rollback")
@asks
def roll_back(call: Call, deployment: Deployment, wait: Wait = False) -> None:
    """Deploy again what this deployment has replaced."""
    made = call.api.post_once(f"{_DEPLOYMENTS}/{deployment}/rollback", None)
    _settle(call, made, wait=wait)


def _meant(call: Call, gate: str | None, schema: str | None) -> str:
    """Raises: InputError where neither or both are said, or the schema has no model."""
    if (gate is None) == (schema is None):
        raise InputError("say which gate: its id, or --schema for that of a schema's newest model")
    return gate if gate is not None else _newest(call, str(schema_id(call, schema)))


def _newest(call: Call, schema: str) -> str:
    """Waits until it has been asked for. Raises: InputError."""
    models = call.api.pages("/v1/model-versions", 1, schema_id=schema)
    if not models:
        raise InputError("no model has been trained for this schema; `steerwise runs create` trains one")
    number = call.api.get(f"/v1/schemas/{schema}")["current_version"]
    deadline = time.monotonic() + _ASKED_WITHIN_S

    def asked(page: Json) -> list[str]:
        return [gate["id"] for gate in page["items"] if gate["schema_version"] == number]

    page = until(
        call.api,
        _GATES,
        lambda page: bool(asked(page)) or time.monotonic() > deadline,
        lambda _: None,
        model_version_id=models[0]["id"],
        limit=str(PAGE),
    )
    if not asked(page):
        raise InputError(
            f"nobody has asked for a gate of this schema's newest model under version {number}; "
            f"`steerwise gates create {models[0]['id']} --version {number}` does"
        )
    return asked(page)[0]


def waited(call: Call, gate_id: str) -> Json:
    """The gate when it has ended. Its progress is shown on the way."""
    with bar(quiet=call.as_json) as shown:

        def seen(found: Json) -> None:
            at_work = found["progress"] or {}
            message = at_work.get("waits_for") or at_work.get("message") or found["state"]
            shown.show("gate", at_work.get("done"), at_work.get("total"), message)

        return until(
            call.api, f"{_GATES}/{gate_id}", lambda found: found["state"] in ("done", "failed"), seen
        )


def _conclude(call: Call, found: Json) -> None:
    """A gate that has ended decides the exit code. Raises: NotMeasured."""
    call.answer(found, lambda: _gate(found))
    measured(found)
    code = {"failed": FAILED, "incomplete": INCOMPLETE}.get(found["verdict"] or "")
    if code is not None:
        raise typer.Exit(code)


def measured(found: Json) -> Json:
    """Raises: NotMeasured."""
    if found["state"] == "failed":
        raise NotMeasured("the gate could not be measured; it may be asked for again", found["reasons"])
    return found


def _settle(call: Call, made: Json, *, wait: bool) -> None:
    """Raises: NotLive."""
    found = settled(call, made["id"]) if wait else made
    call.answer(found, lambda: _deployment(found))
    went_live(found)


def settled(call: Call, deployment_id: str) -> Json:
    """The deployment when it is live, or will not be."""
    with bar(quiet=call.as_json) as shown:
        return until(
            call.api,
            f"{_DEPLOYMENTS}/{deployment_id}",
            lambda found: found["state"] in ("live", "retired", "failed"),
            lambda found: shown.show("deployment", None, None, found["problem"] or found["state"]),
        )


def went_live(found: Json) -> Json:
    """Raises: NotLive."""
    if found["state"] == "failed":
        raise NotLive(
            f"the deployment failed: {found['problem'] or 'nothing more is known'}; what was live stays so"
        )
    return found


def _gate(found: Json) -> Any:
    at_work = found["progress"] or {}
    told = " ".join(
        str(at_work[name]) for name in ("message", "done", "total") if at_work.get(name) is not None
    )
    return details(
        {
            "id": found["id"],
            "state": found["state"],
            "verdict": found["verdict"],
            "reasons": found["reasons"],
            "progress": None if found["state"] in ("done", "failed") else at_work.get("waits_for") or told,
            "model id": found["model_version_id"],
            "schema version": f"{found['schema_version']} of {found['schema_id']}",
            "policy": found["policy_sha256"][:12],
            "created": at(found["created_at"]),
            "finished": at(found["finished_at"]),
        }
    )


def _deployment(found: Json) -> Any:
    return details(
        {
            "id": found["id"],
            "state": found["state"],
            "problem": found["problem"],
            "schema version": f"{found['schema_version']} of {found['schema_id']}",
            "model id": found["model_version_id"],
            "gate id": found["gate_id"],
            "replaces": found["replaces_id"],
            "live since": at(found["activated_at"]),
            "retired": at(found["retired_at"]),
        }
    )
