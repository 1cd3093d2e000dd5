"""`login`, `whoami`, `tenants`, `keys`, `usage`, `audit`: who may do what, who did what, and how much."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from app.auth.principal import Scope
from app.cli.client import profile
from app.cli.client.api import Api, Json, identity
from app.cli.client.call import (
    PANEL,
    ApiKey,
    AsJson,
    Call,
    Profile,
    Tenant,
    Url,
    asks,
    asks_platform,
    calling,
    unless_more_is_asked,
)
from app.cli.client.lists import All, Limit, listed
from app.cli.client.table import Columns, at, details, table, when
from app.cli.endings import FAILED, PASSED, session
from app.errors import InputError
from evaluation.contract.mode import ModeChoice
from evaluation.terminal import json_text, say

top = typer.Typer()
tenants = typer.Typer(no_args_is_help=True, help="Tenants; for admins of the platform.")
trail = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="API keys of a tenant, or (without --tenant) of the platform.")

_KEYS = "/v1/api-keys"
_TENANTS = "/v1/tenants"
ServeEdits = Annotated[
    str | None,
    typer.Option(
        help="after_gate (a published edit is served once its gate has passed) or at_once.",
        metavar="after_gate|at_once",
    ),
]
AnswerMode = Annotated[
    ModeChoice | None,
    typer.Option("--mode", help="How models are measured and served unless a gate says otherwise."),
]
Fallback = Annotated[
    str | None,
    typer.Option(
        help="What answers, marked degraded, where the deployed model cannot: none, the deployment before it, or at "
        "last the base.",
        metavar="none|previous|base",
    ),
]
Ungated = Annotated[
    str | None,
    typer.Option(
        help="Who may be answered by the base as it stands (gate: none): keys with the scope playground, the API too "
        "where nothing is deployed, or nobody.",
        metavar="playground|api|off",
    ),
]
AbstainBelow = Annotated[
    float | None, typer.Option(help="Answers with a lower confidence name no category.", min=0, max=1)
]
Redact = Annotated[
    bool | None,
    typer.Option("--redact/--no-redact", help="Take personal data out of conversations that come in."),
]
RedactNames = Annotated[
    bool | None,
    typer.Option(
        "--redact-names/--keep-names",
        help="Take names too, wherever personal data is taken out: those that their place tells.",
    ),
]
KeepAnswers = Annotated[
    int | None,
    typer.Option(
        help="For how many days answers are kept with their conversations; 0: they are not.",
        metavar="DAYS",
        min=0,
    ),
]
KeepConversations = Annotated[
    int | None,
    typer.Option(
        help="After how many days a conversation of a dataset is deleted, and whatever was made of it; 0: never.",
        metavar="DAYS",
        min=0,
    ),
]
KeepFiles = Annotated[
    int | None,
    typer.Option(
        help="After how many days uploads, rejected rows, traces, logs and reports are removed; 0: with what they "
        "belong to.",
        metavar="DAYS",
        min=0,
    ),
]
Quota = Annotated[int | None, typer.Option(help="For uploads, in MiB.", min=0)]


@top.command(rich_help_panel=PANEL)
def login(
    url: Url = None,
    api_key: ApiKey = None,
    tenant: Tenant = None,
    profile_name: Profile = None,
) -> None:
    """Keep an API key for later commands, after trying it.

    It goes to ~/.config/steerwise/config.toml, which nobody else may read. Without --api-key it is asked for."""
    given = api_key or typer.prompt("API key", hide_input=True)
    target = profile.Target(url or profile.DEFAULT_URL, given, tenant)
    where = {"url": target.url, "api_key": given, "tenant": tenant, "profile": None}
    with calling(where, as_json=False) as call:
        me = call.api.get("/v1/me")
        path = profile.save(profile_name, target)
        call.say(f"{_who(me)}; kept in {path}")


@top.command(rich_help_panel=PANEL)
@asks
def whoami(call: Call) -> None:
    """Whose key (or token) this is, and what it may do."""
    me = call.api.get("/v1/me")
    caller = me["key"] or me["person"]
    call.answer(
        me,
        lambda: details(
            {
                **_caller(me),
                "of": _who(me),
                "scopes": ", ".join(caller["scopes"]),
                "expires": at(caller["expires_at"]),
                "at": call.api.target.url,
            }
        ),
    )


def _caller(me: Json) -> dict[str, str]:
    if me["key"] is not None:
        return {"key": f"{me['key']['name']} (sw_{me['key']['prefix']}_…)"}
    person = me["person"]
    return {"person": f"{person['name'] or person['subject']} (by {person['issuer']})"}


@top.command(rich_help_panel=PANEL)
@asks
def usage(
    call: Call,
    first: Annotated[str | None, typer.Option("--from", help="First day, as 2026-01-31.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day.")] = None,
) -> None:
    """What the tenant used, day by day; by default in the last 30 days."""
    found = call.api.get("/v1/usage", **{"from": first, "to": last})
    columns = ("day", "requests", "prompt_tokens", "completion_tokens")
    rows = [*found["days"], {**found, "day": "in all"}]
    call.answer(found, lambda: table(rows, {name.replace("_", " "): name for name in columns}))


@trail.callback(invoke_without_command=True, rich_help_panel=PANEL)
@unless_more_is_asked
@asks
def audit(
    call: Call,
    action: Annotated[str | None, typer.Option(help="Only this one, as schema.published.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this, as schema:ID.")] = None,
    limit: Limit = 50,
    everything: All = False,
) -> None:
    """Who did what in the tenant, or (without --tenant) on the platform; the newest first."""
    columns: Columns = {
        "at": when("at"),
        "action": "action",
        "subject": "subject",
        "by": lambda row: row["person"] or row["actor_key_id"],
        "detail": lambda row: ", ".join(f"{name} {value}" for name, value in row["detail"].items()),
    }
    listed(call, "/v1/audit", columns, limit, everything, action=action, subject=subject)


@trail.command()
def verify(
    against: Annotated[
        Path | None,
        typer.Option(help="What `--json` wrote at an earlier check: so it shows if the end was cut off."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """On the server: whether the audit trail fits together, chain by chain. Exit 0 it does, 3 it does not."""
    from app.cli import audit as checking

    with session() as (settings, _progress):
        found = checking.verify(settings, against)
    say(*([json_text(checking.as_json(found), indent=2)] if as_json else checking.lines(found)))
    raise typer.Exit(FAILED if found.problems else PASSED)


@tenants.command("list")
@asks_platform
def list_tenants(call: Call, limit: Limit = 50, everything: All = False) -> None:
    """All tenants, the newest first."""
    columns: Columns = {
        "id": "id",
        "name": "name",
        "serve edits": "serve_edits",
        "created": when("created_at"),
    }
    listed(call, _TENANTS, columns, limit, everything)


@tenants.command("create")
@asks_platform
def create_tenant(
    call: Call,
    name: str,
    serve_edits: ServeEdits = None,
    fallback: Fallback = None,
    ungated: Ungated = None,
    mode: AnswerMode = None,
    abstain_below: AbstainBelow = None,
    redact: Redact = None,
    redact_names: RedactNames = None,
    keep_answers: KeepAnswers = None,
    keep_conversations: KeepConversations = None,
    keep_files: KeepFiles = None,
    quota_mib: Quota = None,
) -> None:
    """Make a tenant. Its first key: steerwise keys create NAME --tenant TENANT --scope admin"""
    kept = _kept(keep_answers, keep_conversations, keep_files)
    settings = _settings(serve_edits, fallback, ungated, mode, redact, redact_names, abstain_below, quota_mib)
    _show_tenant(call, call.api.post(_TENANTS, {"name": name, **settings, **kept}))


@tenants.command("show")
@asks_platform
def show_tenant(
    call: Call, tenant_named: Annotated[str, typer.Argument(metavar="TENANT", help="Id or name.")]
) -> None:
    """One tenant and its settings."""
    _show_tenant(call, call.api.get(f"{_TENANTS}/{_tenant_id(call.api, tenant_named)}"))


@tenants.command("change")
@asks_platform
def change_tenant(
    call: Call,
    tenant_named: Annotated[str, typer.Argument(metavar="TENANT", help="Id or name.")],
    serve_edits: ServeEdits = None,
    fallback: Fallback = None,
    ungated: Ungated = None,
    mode: AnswerMode = None,
    abstain_below: AbstainBelow = None,
    never_abstain: Annotated[
        bool, typer.Option("--never-abstain", help="Take --abstain-below back.")
    ] = False,
    redact: Redact = None,
    redact_names: RedactNames = None,
    keep_answers: KeepAnswers = None,
    keep_conversations: KeepConversations = None,
    keep_files: KeepFiles = None,
    quota_mib: Quota = None,
) -> None:
    """Change settings; what is not named stays as it is."""
    body = _settings(serve_edits, fallback, ungated, mode, redact, redact_names, abstain_below, quota_mib)
    body |= _kept(keep_answers, keep_conversations, keep_files)
    if never_abstain:
        body["abstain_below"] = None
    if not body:
        raise InputError("name at least one setting to change; --help lists them")
    path = f"{_TENANTS}/{_tenant_id(call.api, tenant_named)}"
    _show_tenant(call, dict(call.api.send("PATCH", path, json=body).json()))


@tenants.command("delete")
@asks_platform
def delete_tenant(
    call: Call,
    tenant_named: Annotated[str, typer.Argument(metavar="TENANT", help="Id or name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask once more.")] = False,
) -> None:
    """Remove a tenant with its keys and all that it owns, for good. `tenants export` first, where that is wanted."""
    tenant_id = _tenant_id(call.api, tenant_named)
    if not yes:
        typer.confirm(f"remove {tenant_named} with everything that it owns?", abort=True, err=True)
    gone = dict(call.api.send("DELETE", f"{_TENANTS}/{tenant_id}").json())
    call.answer(gone, lambda: f"{tenant_named} is gone; its rows and files are erased within minutes")


@tenants.command("export")
@asks
def export_tenant(
    call: Call, file: Annotated[Path, typer.Argument(help="Where to: NAME.tar.", dir_okay=False)]
) -> None:
    """All that the tenant owns as one archive: rows as JSON lines, and files. `tar -xf` reads it."""
    if file.exists():
        raise InputError(f"{file} is there already; name a file that is to be made")
    size = call.api.download(file, "/v1/export")
    call.answer({"file": str(file), "bytes": size}, lambda: f"{file}: {size} bytes")


@keys.command("list")
@asks
def list_keys(call: Call, limit: Limit = 50, everything: All = False) -> None:
    """Keys, the newest first; revoked and expired ones too."""
    columns: Columns = {
        "id": "id",
        "name": "name",
        "prefix": "prefix",
        "scopes": lambda row: ", ".join(row["scopes"]),
        "last used": when("last_used_at"),
        "expires": when("expires_at"),
        "revoked": when("revoked_at"),
    }
    listed(call, _KEYS, columns, limit, everything)


@keys.command("create")
@asks
def create_key(
    call: Call,
    name: str,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(Scope)}; repeatable. To write includes to read, and playground to classify."
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            help="The scopes of one, beside --scope: client classifies, reviewer reads conversations and labels them, "
            "editor owns schemas, datasets and runs.",
            metavar="client|reviewer|editor",
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(help="It expires after so many.", min=1)] = None,
) -> None:
    """Make a key. It is shown this once. It ends no later than the key that it was made with, and with it."""
    expires_at = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    body = {"name": name, "scopes": scope or [], "role": role, "expires_at": expires_at}
    made = call.api.post(_KEYS, body)
    call.answer(made, lambda: made["key"])


@keys.command("revoke")
@asks
def revoke_key(
    call: Call,
    key_id: Annotated[str, typer.Argument(parser=identity)],
    keep_children: Annotated[
        bool,
        typer.Option(
            "--keep-children",
            help="Keys that were made with it stay. Neither it nor one of them can ask for that.",
        ),
    ] = False,
) -> None:
    """From now on the key is refused, and all that were made with it."""
    kept = "?keep_children=true" if keep_children else ""
    gone = call.api.post(f"{_KEYS}/{key_id}/revoke{kept}")
    call.answer(gone, lambda: f"{gone['name']} (sw_{gone['prefix']}_…) is revoked")


def _settings(
    serve_edits: str | None,
    fallback: str | None,
    ungated: str | None,
    mode: ModeChoice | None,
    redact: bool | None,
    redact_names: bool | None,
    abstain_below: float | None,
    quota_mib: int | None,
) -> dict[str, Any]:
    given = {
        "serve_edits": serve_edits,
        "fallback": fallback,
        "ungated": ungated,
        "mode": None if mode is None else mode.value,
        "redact": redact,
        "redact_names": redact_names,
        "abstain_below": abstain_below,
        "upload_quota_bytes": None if quota_mib is None else quota_mib << 20,
    }
    return {name: value for name, value in given.items() if value is not None}


def _kept(answers: int | None, conversations: int | None, files: int | None) -> dict[str, Any]:
    """For how many days; 0 is how a command says that there is no limit, or none at all."""
    days = {"answers": answers, "conversations": conversations, "files": files}
    return {f"keep_{name}_days": value or None for name, value in days.items() if value is not None}


def _tenant_id(api: Api, named: str) -> str:
    return api.find(_TENANTS, named, "tenant")


def _show_tenant(call: Call, tenant: Json) -> None:
    call.answer(
        tenant,
        lambda: details(
            {
                "id": tenant["id"],
                "name": tenant["name"],
                "serve edits": tenant["serve_edits"],
                "fallback": tenant["fallback"],
                "ungated": tenant["ungated"],
                "mode": tenant["mode"],
                "redact": tenant["redact"],
                "redact names": tenant["redact_names"],
                "abstain below": tenant["abstain_below"],
                "answers kept, days": tenant["keep_answers_days"],
                "conversations kept, days": tenant["keep_conversations_days"],
                "files kept, days": tenant["keep_files_days"],
                "upload quota": f"{tenant['upload_quota_bytes'] >> 20} MiB",
                "created": at(tenant["created_at"]),
            }
        ),
    )


def _who(me: Json) -> str:
    return "the platform" if me["platform_admin"] else str(me["tenant_name"])
