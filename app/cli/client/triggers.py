"""`steerwise triggers`: when runs begin by themselves, and what they would have done in the past."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

from app.cli.client.api import Json, identity
from app.cli.client.call import ApiKey, AsJson, Call, Profile, Tenant, Url, asks, calling
from app.cli.client.lists import All, Limit, OfSchema, listed, schema_id
from app.cli.client.table import Columns, at, details, table, when
from app.cli.endings import session
from app.cli.terminal import Terminal
from app.errors import InputError
from app.runs.presets import Preset
from evaluation.terminal import json_text, say

triggers = typer.Typer(no_args_is_help=True, help="When runs begin by themselves.")
_PATH = "/v1/triggers"
_RULE = "What it waits for"
_LIMITS = "How often it may start"
Named = Annotated[str, typer.Argument(metavar="TRIGGER", help="Id or name.")]
KINDS = ("by_hand", "schedule", "corrections", "drift", "none_rate", "label_mass", "failed_edit")
On = Annotated[
    str | None, typer.Option("--on", metavar="|".join(KINDS), help="The kind.", rich_help_panel=_RULE)
]
Cron = Annotated[
    str | None,
    typer.Option(help='schedule: five fields, in UTC, such as "0 3 * * 1".', rich_help_panel=_RULE),
]
EveryDays = Annotated[
    int | None, typer.Option(help="schedule: days after the run before.", min=1, rich_help_panel=_RULE)
]
Corrections = Annotated[
    int | None,
    typer.Option("--count", help="corrections: how many, in the dataset.", min=1, rich_help_panel=_RULE),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="drift: of the population stability index (0.2); none_rate: points of rise (0.1); label_mass: fall of its "
        "mean (0.05).",
        rich_help_panel=_RULE,
    ),
]
WindowH = Annotated[
    int | None,
    typer.Option(
        help="drift, none_rate, label_mass: the last so many hours are compared. (default: 168)",
        rich_help_panel=_RULE,
    ),
]
MinAnswers = Annotated[
    int | None,
    typer.Option(help="Of them: with so many answers at least. (default: 200)", rich_help_panel=_RULE),
]
CoolDownH = Annotated[
    int | None,
    typer.Option(help="Hours after a start without another. (default: 24)", min=1, rich_help_panel=_LIMITS),
]
BudgetRuns = Annotated[
    int | None, typer.Option(help="So many runs, ... (default: 2)", min=1, rich_help_panel=_LIMITS)
]
BudgetWindowH = Annotated[
    int | None,
    typer.Option(help="... within so many hours. (default: 168)", min=1, rich_help_panel=_LIMITS),
]
BudgetGpuS = Annotated[
    float | None,
    typer.Option(
        help="Seconds of workers that those may have used before another starts.", rich_help_panel=_LIMITS
    ),
]
_THRESHOLD_OF = {"drift": "threshold", "none_rate": "rise", "label_mass": "fall"}
_COMPARING = frozenset(_THRESHOLD_OF)


@triggers.command("create")
@asks
def create_trigger(
    call: Call,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    schema: Annotated[str, typer.Option(help="Id or name.")],
    dataset: Annotated[str, typer.Option(help="Id or name: what its runs learn from.")],
    on: On = "by_hand",
    cron: Cron = None,
    every_days: EveryDays = None,
    count: Corrections = None,
    threshold: Threshold = None,
    window_h: WindowH = None,
    min_answers: MinAnswers = None,
    cool_down_h: CoolDownH = None,
    budget_runs: BudgetRuns = None,
    budget_window_h: BudgetWindowH = None,
    budget_gpu_s: BudgetGpuS = None,
    preset: Annotated[Preset, typer.Option(help="How much work a run is.")] = Preset.standard,
    seed: Annotated[int, typer.Option(help="Of everything random in a run.", min=0)] = 0,
    paused: Annotated[bool, typer.Option("--paused", help="It waits for `triggers resume`.")] = False,
) -> None:
    """Let runs begin by themselves. What it starts counts against the tenant's share."""
    body: Json = {
        "name": name,
        "schema_id": schema_id(call, schema),
        "dataset_id": call.api.find("/v1/datasets", dataset, "dataset"),
        "rule": _rule(on or "by_hand", {}, cron, every_days, count, threshold, window_h, min_answers),
        "preset": preset.value,
        "seed": seed,
        "paused": paused,
    }
    body |= _limits({}, cool_down_h, budget_runs, budget_window_h, budget_gpu_s)
    made = call.api.post_once(_PATH, body)
    call.answer(made, lambda: _shown(made))


@triggers.command("list")
@asks
def list_triggers(call: Call, schema: OfSchema = None, limit: Limit = 50, everything: All = False) -> None:
    """Triggers, the newest first."""
    columns: Columns = {
        "id": "id",
        "name": "name",
        "kind": "kind",
        "state": _state,
        "checked": when("checked_at"),
        "found": "reason",
        "started": when("started_at"),
    }
    listed(call, _PATH, columns, limit, everything, schema_id=schema_id(call, schema))


@triggers.command("show")
@asks
def show_trigger(call: Call, trigger: Named) -> None:
    """One trigger: when it was checked last, what was found, and why it did not start."""
    found = call.api.get(_path(call, trigger))
    call.answer(found, lambda: _shown(found))


@triggers.command("change")
@asks
def change_trigger(
    call: Call,
    trigger: Named,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    cron: Cron = None,
    every_days: EveryDays = None,
    count: Corrections = None,
    threshold: Threshold = None,
    window_h: WindowH = None,
    min_answers: MinAnswers = None,
    cool_down_h: CoolDownH = None,
    budget_runs: BudgetRuns = None,
    budget_window_h: BudgetWindowH = None,
    budget_gpu_s: BudgetGpuS = None,
    preset: Annotated[Preset | None, typer.Option(help="How much work a run is.")] = None,
) -> None:
    """Change what is named; the rest stays as it is. Its kind stays: make another for another."""
    path = _path(call, trigger)
    now = call.api.get(path)
    body: Json = {} if name is None else {"name": name}
    body |= {} if preset is None else {"preset": preset.value}
    rule = _rule(now["kind"], now["rule"], cron, every_days, count, threshold, window_h, min_answers)
    body |= {} if rule == now["rule"] else {"rule": rule}
    limits = _limits(now, cool_down_h, budget_runs, budget_window_h, budget_gpu_s)
    body |= {field: value for field, value in limits.items() if value != now[field]}
    if not body:
        raise InputError("name at least one setting to change; `triggers show` has them as they are")
    _patch(call, path, body)


@triggers.command("pause")
@asks
def pause_trigger(call: Call, trigger: Named) -> None:
    """It is not checked any more, and does not start."""
    _patch(call, _path(call, trigger), {"paused": True})


@triggers.command("resume")
@asks
def resume_trigger(call: Call, trigger: Named) -> None:
    """It is checked again. A schedule counts from now."""
    _patch(call, _path(call, trigger), {"paused": False})


@triggers.command("start")
@asks
def start_trigger(call: Call, trigger: Named) -> None:
    """Start it now, whatever it waits for, within its cool-down and budget."""
    found = call.api.post_once(f"{_path(call, trigger)}/start", None)
    call.answer(found, lambda: _shown(found))


@triggers.command("delete")
@asks
def delete_trigger(call: Call, trigger: Named) -> None:
    """Remove it. Runs that it started stay."""
    path = _path(call, trigger)
    call.api.send("DELETE", path)
    call.answer({"deleted": path.rpartition("/")[2]}, lambda: "deleted")


@triggers.command("simulate")
def simulate_trigger(
    trigger: Annotated[
        str | None,
        typer.Argument(metavar="[TRIGGER]", help="Id or name; what options say takes the place of its own."),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            help="Replay this file (JSONL), here and without the API. (default: what the API keeps)"
        ),
    ] = None,
    schema: Annotated[str | None, typer.Option(help="Without TRIGGER: id or name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Without TRIGGER: id or name.")] = None,
    on: On = None,
    cron: Cron = None,
    every_days: EveryDays = None,
    count: Corrections = None,
    threshold: Threshold = None,
    window_h: WindowH = None,
    min_answers: MinAnswers = None,
    cool_down_h: CoolDownH = None,
    budget_runs: BudgetRuns = None,
    budget_window_h: BudgetWindowH = None,
    budget_gpu_s: BudgetGpuS = None,
    first: Annotated[str | None, typer.Option("--from", help="From then on: 2026-01-31T00:00:00Z.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Until then.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    tenant: Tenant = None,
    profile: Profile = None,
) -> None:
    """What a trigger would have started in the past, and why; checked once an hour. Writes nothing."""
    rule = (cron, every_days, count, threshold, window_h, min_answers)
    limits = (cool_down_h, budget_runs, budget_window_h, budget_gpu_s)
    if history is not None and trigger is None:
        with session():
            found = _replayed(history, _asked({}, on, rule, limits, first, last))
        if as_json:
            say(json_text(found, indent=2))
        else:
            Terminal().print(_simulated(found), markup=False)
        return
    with calling({"url": url, "api_key": api_key, "tenant": tenant, "profile": profile}, as_json) as call:
        known = {} if trigger is None else call.api.get(_path(call, trigger))
        body = _asked(known, on, rule, limits, first, last)
        if history is not None:
            found = _replayed(history, body)
        else:
            found = call.api.post(f"{_PATH}/simulate", body | _whose(call, known, schema, dataset))
        call.answer(found, lambda: _simulated(found))


def _whose(call: Call, known: Json, schema: str | None, dataset: str | None) -> Json:
    """Raises: InputError."""
    if known:
        return {
            "schema_id": known["schema_id"],
            "dataset_id": known["dataset_id"],
            "trigger_id": known["id"],
        }
    if schema is None or dataset is None:
        raise InputError("name a trigger, or a --schema, a --dataset and a kind (--on), or a --history")
    return {
        "schema_id": schema_id(call, schema),
        "dataset_id": call.api.find("/v1/datasets", dataset, "dataset"),
    }


def _asked(
    known: Json,
    on: str | None,
    rule: tuple[Any, ...],
    limits: tuple[Any, ...],
    first: str | None,
    last: str | None,
) -> Json:
    """Of the trigger that is known, with what the options say. Raises: InputError."""
    if on is None and not known:
        raise InputError("say what it waits for: --on " + "|".join(KINDS))
    kind = on or str(known["kind"])
    before = known.get("rule", {}) if kind == known.get("kind") else {}
    ends = {name: value for name, value in (("first", first), ("last", last)) if value is not None}
    return {"rule": _rule(kind, before, *rule)} | _limits(known, *limits) | ends


def _replayed(file: Path, asked: Json) -> Json:
    """Raises: InputError."""
    from pydantic import ValidationError

    from app.triggers import history  # with what knows databases, which no other command here needs
    from app.triggers.payloads import SimulationIn, SimulationOut, limits_of
    from app.triggers.simulation import simulate

    nobodys = dict.fromkeys(("schema_id", "dataset_id"), str(identity("0" * 32)))
    try:
        body = SimulationIn.model_validate(nobodys | asked)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise InputError("there cannot be such a trigger", problems) from None
    limits = limits_of(body.cool_down_h, body.budget)
    found = simulate(body.rule, limits, history.read(file), body.first, body.last)
    return SimulationOut.of(found).model_dump(mode="json")


def _rule(
    kind: str,
    before: Json,
    cron: str | None,
    every_days: int | None,
    count: int | None,
    threshold: float | None,
    window_h: int | None,
    min_answers: int | None,
) -> Json:
    """With what is given in the place of what was. Raises: InputError where something is of another kind."""
    if kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of trigger; these are: {', '.join(KINDS)}")
    given: Json = {"cron": cron, "every_days": every_days, "corrections": count}
    given |= {"window_h": window_h, "min_answers": min_answers}
    if threshold is not None:
        given[_THRESHOLD_OF.get(kind, "threshold")] = threshold
    said = {name: value for name, value in given.items() if value is not None}
    strange = sorted(said.keys() - _fields(kind))
    if strange:
        options = {"corrections": "--count", "rise": "--threshold", "fall": "--threshold"}
        named = ", ".join(options.get(name, f"--{name.replace('_', '-')}") for name in strange)
        raise InputError(f"a trigger of the kind {kind} takes no {named}")
    if kind == "corrections" and "corrections" not in before | said:
        raise InputError("say after how many: --count")
    if kind == "schedule":
        if (cron is None and every_days is None) and not before:
            raise InputError("say when: --cron or --every-days")
        before = {name: value for name, value in before.items() if value is not None} if not said else {}
    return {"kind": kind} | before | said


def _fields(kind: str) -> frozenset[str]:
    if kind in _COMPARING:
        return frozenset({_THRESHOLD_OF[kind], "window_h", "min_answers"})
    own = {"schedule": {"cron", "every_days"}, "corrections": {"corrections"}}
    return frozenset(own.get(kind, ()))


def _limits(
    before: Json,
    cool_down_h: int | None,
    runs: int | None,
    window_h: int | None,
    gpu_s: float | None,
) -> Json:
    """What is not said stays as it was, or is left to the API."""
    said = {"runs": runs, "window_h": window_h, "gpu_s": gpu_s}
    budget = before.get("budget", {}) | {name: value for name, value in said.items() if value is not None}
    found: Json = {"budget": budget} if budget else {}
    hours = before.get("cool_down_h") if cool_down_h is None else cool_down_h
    return found if hours is None else found | {"cool_down_h": hours}


def _path(call: Call, named: str) -> str:
    return f"{_PATH}/{call.api.find(_PATH, named, 'trigger')}"


def _patch(call: Call, path: str, body: Json) -> None:
    found = dict(call.api.send("PATCH", path, json=body).json())
    call.answer(found, lambda: _shown(found))


def _state(found: Json) -> str:
    return "paused" if found["paused"] else found["outcome"] or "not checked yet"


def _shown(found: Json) -> Any:
    budget = found["budget"]
    seconds = "" if budget["gpu_s"] is None else f" and {budget['gpu_s']:g} s of workers"
    rule = {name: value for name, value in found["rule"].items() if value is not None and name != "kind"}
    held = f"{at(found['held_at'])}: {found['held_reason']}" if found["held_at"] else None
    return details(
        {
            "id": found["id"],
            "name": found["name"],
            "kind": found["kind"],
            "rule": ", ".join(f"{name} {value}" for name, value in rule.items()),
            "state": _state(found),
            "checked": at(found["checked_at"]),
            "found": found["reason"],
            "not started": held,
            "started": at(found["started_at"]),
            "run id": found["run_id"],
            "cool-down": f"{found['cool_down_h']} h",
            "budget": f"{budget['runs']} runs{seconds} in {budget['window_h']} h",
            "schema id": found["schema_id"],
            "dataset id": found["dataset_id"],
            "preset": found["preset"],
            "created": at(found["created_at"]),
        }
    )


def _simulated(found: Json) -> Any:
    replayed = ", ".join(f"{count} {name}" for name, count in found["events"].items() if count)
    about = details(
        {
            "replayed": f"{at(found['first'])} to {at(found['last'])}: {replayed or 'nothing'}",
            "checks": f"{found['checks']}, once an hour; met at {found['met']} of them",
            "would have started": len(found["starts"]),
            "at the last check": found["last_reason"],
        }
    )
    parts: list[Any] = [about]
    if found["starts"]:
        parts.append(table(found["starts"], {"start": when("at"), "why": "reason"}))
    if found["held_back"]:
        columns: Columns = {
            "held back by": lambda row: row["brake"].replace("_", " "),
            "checks": "checks",
            "first": when("first_at"),
            "why": "reason",
        }
        parts.append(table(found["held_back"], columns))
    return Group(*parts)
