"""`steerwise runs` and `steerwise models`: what is trained, how far it is, and what came of it."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

from app.cli.client import events
from app.cli.client.api import Json, identity
from app.cli.client.bar import Bar, bar
from app.cli.client.call import Call, asks
from app.cli.client.events import END
from app.cli.client.lists import All, Limit, OfSchema, listed, schema_id
from app.cli.client.refusal import ApiAway
from app.cli.client.table import Columns, at, details, measures, steps, table, when
from app.cli.console import duration
from app.cli.files import read_json
from app.errors import AppError, InputError
from app.jobs.priority import Priority
from app.runs.presets import Preset
from evaluation.terminal import say
from training.protocol import STAGES

runs = typer.Typer(no_args_is_help=True, help="Training runs.")
models = typer.Typer(no_args_is_help=True, help="Model versions: what runs made.")
_PATH = "/v1/runs"
_EVERY_S = 1.0
Identity = Annotated[str, typer.Argument(metavar="RUN", help="Its id.", parser=identity)]


class RunEnded(AppError):
    """It failed, or was cancelled."""

    code = "run_ended"


@runs.command("create")
@asks
def create_run(
    call: Call,
    schema: Annotated[str, typer.Option(help="Id or name.")],
    dataset: Annotated[str, typer.Option(help="Id or name; it must be ready.")],
    version: Annotated[
        int | None, typer.Option(help="Number of the schema version. (default: the current one)", min=1)
    ] = None,
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.standard,
    stages: Annotated[
        Path | None, typer.Option(help='JSON list of stage settings, as [{"kind": "sft", "epochs": 3}].')
    ] = None,
    seed: int = 0,
    base: Annotated[str | None, typer.Option(help="Base model. (default: the installation's)")] = None,
    needs_gib: Annotated[
        float | None,
        typer.Option(help="Memory that a worker must have for it. (default: as runs like it have used)"),
    ] = None,
    priority: Annotated[
        Priority, typer.Option(help="Which of your own begins first where several wait.")
    ] = Priority.normal,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
) -> None:
    """Train a classifier. Everything is checked before the answer: what is missing is named at once."""
    body: Json = {
        "schema_id": schema_id(call, schema),
        "schema_version": version,
        "dataset_id": call.api.find("/v1/datasets", dataset, "dataset"),
        "preset": preset.value,
        "stages": None if stages is None else _stages(stages),
        "seed": seed,
    }
    if base is not None:
        body["base"] = base
    if needs_gib is not None:
        body["needs_gib"] = needs_gib
    if priority is not Priority.normal:
        body["priority"] = priority.value
    made = call.api.post_once(_PATH, body)
    if watch:
        if not call.as_json:
            call.say(f"run {made['id']}")
        _watch(call, made["id"])
    else:
        call.answer(made, lambda: _shown(made))


@runs.command("list")
@asks
def list_runs(call: Call, schema: OfSchema = None, limit: Limit = 50, everything: All = False) -> None:
    """Runs, the newest first."""
    columns: Columns = {
        "id": "id",
        "state": "state",
        "version": "schema_version",
        "preset": "preset",
        "stage": lambda row: row["progress"]["stage"],
        "progress": lambda row: steps(row["progress"]),
        "created": when("created_at"),
        "model id": "model_version_id",
    }
    listed(call, _PATH, columns, limit, everything, schema_id=schema_id(call, schema))


@runs.command("show")
@asks
def show_run(call: Call, run: Identity) -> None:
    """One run with its stages and what they measured."""
    found = call.api.get(f"{_PATH}/{run}")
    call.answer(found, lambda: _shown(found))


@runs.command("watch")
@asks
def watch_run(call: Call, run: Identity) -> None:
    """Stay until a run has ended; with --json, its events, one a line. Exit 0 when it succeeded. Ctrl-C ends the
    watching alone."""
    _watch(call, run)


@runs.command("log")
@asks
def show_log(
    call: Call,
    run: Identity,
    stage: Annotated[str, typer.Argument(metavar="|".join(STAGES), help="Which stage.")],
) -> None:
    """What a stage printed."""
    say(call.api.send("GET", f"{_PATH}/{run}/stages/{stage}/log").text, end="")


@runs.command("cancel")
@asks
def cancel_run(call: Call, run: Identity) -> None:
    """End a run."""
    found = call.api.post(f"{_PATH}/{run}/cancel")
    call.answer(found, lambda: _shown(found))


@runs.command("retry")
@asks
def retry_run(
    call: Call,
    run: Identity,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
) -> None:
    """Let a run that failed go on from the stage that failed."""
    found = call.api.post(f"{_PATH}/{run}/retry")
    if watch:
        _watch(call, run)
    else:
        call.answer(found, lambda: _shown(found))


@runs.command("delete")
@asks
def delete_run(call: Call, run: Identity) -> None:
    """Remove a run that has ended, with its models, their gates and whatever else it left. None of them may be live."""
    gone = dict(call.api.send("DELETE", f"{_PATH}/{run}").json())
    call.answer(gone, lambda: f"{run} is deleted, with {len(gone['model_versions'])} models")


@models.command("list")
@asks
def list_models(call: Call, schema: OfSchema = None, limit: Limit = 50, everything: All = False) -> None:
    """Model versions, the newest first."""
    columns: Columns = {
        "id": "id",
        "run id": "run_id",
        "version": "schema_version",
        "base": "base",
        "adapter": lambda row: row["adapter_sha256"][:12],
        "created": when("created_at"),
    }
    listed(call, "/v1/model-versions", columns, limit, everything, schema_id=schema_id(call, schema))


@models.command("show")
@asks
def show_model(
    call: Call, model: Annotated[str, typer.Argument(metavar="MODEL", help="Its id.", parser=identity)]
) -> None:
    """One model version, with what every stage made and measured."""
    found = call.api.get(f"/v1/model-versions/{model}")
    call.answer(found, lambda: _model(found))


def followed(call: Call, run_id: str) -> Json:
    """The run when it has ended, whatever became of it; its stages are shown on the way."""
    path = f"{_PATH}/{run_id}"
    with bar(quiet=call.as_json) as shown:
        view = _View(call, path, shown)
        for event in events.follow(call.api, f"{path}/events"):
            if event is not None and call.as_json and event.kind != END:
                call.line({"id": event.id, "event": event.kind} | _data(event.data))
            elif not call.as_json:
                view.refresh()
        return call.api.get(path)


def succeeded(found: Json) -> Json:
    """Raises: RunEnded."""
    if found["state"] != "succeeded":
        error = found["error"] or {}
        reason = error.get("message") or "nothing more is known"
        raise RunEnded(f"the run {found['state']}: {reason}", error.get("details") or [])
    return found


def _watch(call: Call, run_id: str) -> None:
    """Raises: RunEnded."""
    found = followed(call, run_id)
    if call.as_json:
        call.line({"event": END, "run": found})
    else:
        call.say(_shown(found))
    succeeded(found)


class _View:
    """The events say that something has happened; the run itself says how far it is."""

    def __init__(self, call: Call, path: str, shown: Bar):
        self._call, self._path, self._shown = call, path, shown
        self._at = 0.0
        self._ended: set[str] = set()

    def refresh(self) -> None:
        if time.monotonic() - self._at < _EVERY_S:
            return
        self._at = time.monotonic()
        try:
            found = self._call.api.get(self._path)
        except ApiAway:
            return  # the events tell when it is back
        for stage in found["stages"]:
            kind, state = stage["kind"], stage["state"]
            if state == "running":
                self._shown.show(kind, stage["done"], stage["total"], steps({**stage, "done": None}))
            elif state in ("succeeded", "failed", "cancelled") and kind not in self._ended:
                self._ended.add(kind)
                self._shown.show(kind, stage["done"], stage["total"] or stage["done"], state)
                self._shown.note(f"{kind:<10} {state}  {measures(stage['metrics'])}".rstrip())


def _shown(found: Json) -> Any:
    error, trigger = found["error"], found["trigger"]
    about = details(
        {
            "id": found["id"],
            "state": found["state"],
            "schema version": f"{found['schema_version']} of {found['schema_id']}",
            "dataset id": found["dataset_id"],
            "preset": f"{found['preset']}, seed {found['seed']}, base {found['base']}",
            "created": at(found["created_at"]),
            "began by": trigger and f"the trigger {trigger['name']}: {trigger['reason']}",
            "finished": at(found["finished_at"]),
            "error": error and f"{error['stage']}: {error['message']}",
            "model id": found["model_version_id"],
        }
    )
    columns: Columns = {
        "stage": "kind",
        "state": "state",
        "attempt": "attempt",
        "progress": steps,
        "last sign of life": _heard,
        "waits for": _waits_for,
        "measured": lambda row: measures(row["metrics"]),
    }
    return Group(about, table(found["stages"], columns))


def _waits_for(stage: Json) -> str | None:
    """Why it has not begun, or not again."""
    return stage["error"]["message"] if stage["error"] and stage["state"] == "queued" else None


def _heard(stage: Json) -> str | None:
    """Of the worker, while the stage runs."""
    silent_s = stage["silent_s"]
    return None if silent_s is None else f"{duration(silent_s)} ago"


def _model(found: Json) -> Any:
    about = details(
        {
            "id": found["id"],
            "run id": found["run_id"],
            "schema version": f"{found['schema_version']} of {found['schema_id']}",
            "base": f"{found['base']} ({found['base_sha256'][:12]})",
            "adapter": found["adapter_sha256"],
            "created": at(found["created_at"]),
        }
    )
    columns: Columns = {
        "stage": "kind",
        "seconds": "seconds",
        "measured": lambda row: measures(row["metrics"]),
    }
    return Group(about, table(found["stages"], columns))


def _stages(file: Path) -> list[Any]:
    """Raises: InputError."""
    found = read_json(file)
    if not isinstance(found, list):
        raise InputError(f"{file} must hold a list of stage settings")
    return found


def _data(text: str) -> Json:
    try:
        found = json.loads(text)
    except ValueError:
        return {"data": text}
    return found if isinstance(found, dict) else {"data": found}
