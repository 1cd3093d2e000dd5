"""`steerwise schemas`: drafts are edited, versions are published."""

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client.api import Json
from app.cli.client.call import Call, asks
from app.cli.client.lists import All, Limit, listed
from app.cli.client.refusal import ApiRefused
from app.cli.client.table import Columns, at, details, when
from app.cli.files import read_object
from app.errors import InputError

schemas = typer.Typer(no_args_is_help=True, help="Category schemas: drafts, versions, and what is served.")
_PATH = "/v1/schemas"
Named = Annotated[str, typer.Argument(metavar="SCHEMA", help="Id or name.")]
Publish = Annotated[bool, typer.Option("--publish", help="And publish it.")]


@schemas.command("list")
@asks
def list_schemas(call: Call, limit: Limit = 50, everything: All = False) -> None:
    """Schemas, the newest first."""
    columns: Columns = {
        "id": "id",
        "name": "name",
        "current version": "current_version",
        "latest version": "latest_version",
        "draft revision": "draft_revision",
        "updated": when("updated_at"),
    }
    listed(call, _PATH, columns, limit, everything)


@schemas.command("create")
@asks
def create_schema(
    call: Call,
    file: Annotated[Path, typer.Argument(help="JSON: name, none_of_these, categories.")],
    name: Annotated[str | None, typer.Option(help="Instead of the file's own.")] = None,
    publish: Publish = False,
) -> None:
    """Make a schema with a first draft from a file."""
    draft = read_object(file)
    named = name or draft.get("name") or file.stem
    draft.pop("name", None)
    made = call.api.post_once(_PATH, {"name": named, "draft": draft})
    if publish:
        _publish(call, made["id"], None)
    else:
        _show_draft(call, _draft(call, made["id"])[0])


@schemas.command("show")
@asks
def show_schema(
    call: Call,
    schema: Named,
    version: Annotated[int | None, typer.Option(help="Number. (default: the draft)", min=1)] = None,
) -> None:
    """The draft and what is to be mended in it, or a version."""
    path = f"{_PATH}/{_id(call, schema)}"
    if version is None:
        _show_draft(call, _draft(call, path.rpartition("/")[2])[0])
    else:
        found = call.api.get(f"{path}/versions/{version}")
        call.answer(found, lambda: _pretty(found["content"]))


@schemas.command("edit")
@asks
def edit_schema(
    call: Call,
    schema: Named,
    file: Annotated[
        Path | None,
        typer.Option(help="The new draft, JSON. Left out: $VISUAL or $EDITOR opens the present one."),
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option(
            help="With --file: the revision that it was made from (schemas show --json); refused if stale."
        ),
    ] = None,
    publish: Publish = False,
) -> None:
    """Change the draft. What somebody else has changed meanwhile is not overwritten."""
    found_id = _id(call, schema)
    old, tag = _draft(call, found_id)
    if file is not None:
        content = read_object(file)
        tag = tag if revision is None else f'"{revision}"'
    else:
        file = _edited(old["content"])
        content = read_object(file)
        if content == old["content"] and not publish:
            file.unlink()
            call.answer(old, lambda: "nothing was changed")
            return
    new, tag = _put(call, found_id, content, tag, file)
    if publish:
        _publish(call, found_id, tag)
    else:
        _show_draft(call, new)


@schemas.command("publish")
@asks
def publish_schema(call: Call, schema: Named) -> None:
    """Freeze the draft as the next version. Where a model is live, the edit is served as the tenant's settings say."""
    _publish(call, _id(call, schema), None)


@schemas.command("versions")
@asks
def list_versions(call: Call, schema: Named, limit: Limit = 50, everything: All = False) -> None:
    """The published versions, the newest first."""
    columns: Columns = {
        "version": "number",
        "id": "id",
        "categories": lambda row: len(row["content"]["categories"]),
        "published": when("published_at"),
    }
    listed(call, f"{_PATH}/{_id(call, schema)}/versions", columns, limit, everything)


@schemas.command("diff")
@asks
def diff_schema(
    call: Call,
    schema: Named,
    old: Annotated[int | None, typer.Argument(help="(default: the one before the newer)", min=1)] = None,
    new: Annotated[int | None, typer.Argument(help="(default: the newest)", min=1)] = None,
) -> None:
    """What changed between two versions."""
    found_id = _id(call, schema)
    new = new or call.api.get(f"{_PATH}/{found_id}")["latest_version"]
    if new is None or (old is None and new == 1):
        raise InputError("there are no two versions yet; publish with: steerwise schemas publish")
    found = call.api.get(f"{_PATH}/{found_id}/diff", **{"from": old or new - 1, "to": new})
    call.answer(found, lambda: found["text"] or "nothing differs")


@schemas.command("restore")
@asks
def restore_schema(call: Call, schema: Named, version: Annotated[int, typer.Argument(min=1)]) -> None:
    """Make an old version the draft. Nothing is published by it."""
    found_id = _id(call, schema)
    _, tag = _draft(call, found_id)
    restored = call.api.post(f"{_PATH}/{found_id}/restore", {"number": version}, **{"If-Match": tag})
    _show_draft(call, restored)


@schemas.command("serving")
@asks
def show_serving(call: Call, schema: Named) -> None:
    """What answers for a schema now, with which version, and how its newest edit stands."""
    found = call.api.get(f"{_PATH}/{_id(call, schema)}/serving")
    call.answer(found, lambda: _serving(found))


def _serving(found: Json) -> Any:
    live, edit = found["deployment"], found["edit"]
    pairs: dict[str, Any] = {
        "deployment id": live and live["id"],
        "model id": live and live["model_version_id"],
        "live since": live and at(live["activated_at"]),
        "schema version": found["schema_version"],
        "provisional": found["provisional"],
    }
    if edit is not None:
        verdict = edit["verdict"] or edit["gate_state"] or "no gate yet"
        pairs["edit"] = f"version {edit['schema_version']} is {edit['state']} (gate: {verdict})"
        pairs["gate id"] = edit["gate_id"]
        pairs["reasons"] = edit["reasons"]
    return details(pairs)


def _id(call: Call, named: str) -> str:
    return call.api.find(_PATH, named, "schema")


def _draft(call: Call, schema_id: str) -> tuple[Json, str]:
    """With its ETag."""
    response = call.api.send("GET", f"{_PATH}/{schema_id}/draft")
    return response.json(), response.headers["etag"]


def _put(call: Call, schema_id: str, content: Json, tag: str, file: Path) -> tuple[Json, str]:
    """file: where the text is; kept, and named, where it was refused."""
    try:
        response = call.api.send("PUT", f"{_PATH}/{schema_id}/draft", json=content, headers={"If-Match": tag})
    except ApiRefused as error:
        error.details = (*error.details, f"your text is in {file}")
        raise
    if file.parent == Path(tempfile.gettempdir()):
        file.unlink(missing_ok=True)
    return response.json(), response.headers["etag"]


def _publish(call: Call, schema_id: str, tag: str | None) -> None:
    headers = {} if tag is None else {"If-Match": tag}
    found = call.api.post(f"{_PATH}/{schema_id}/publish", None, **headers)
    call.answer(
        found, lambda: f"version {found['number']} of {found['content']['name']} ({found['sha256'][:12]})"
    )


def _show_draft(call: Call, draft: Json) -> None:
    problems = [f"{problem['where']}: {problem['message']}" for problem in draft["problems"]]
    told = (
        "it can be published"
        if not problems
        else "\n".join(["to be mended before it can be published:", *problems])
    )
    call.answer(draft, lambda: f"{_pretty(draft['content'])}\nrevision {draft['revision']}; {told}")


def _edited(content: Json) -> Path:
    """Raises: InputError."""
    descriptor, name = tempfile.mkstemp(prefix="steerwise-schema-", suffix=".json")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_pretty(content) + "\n")
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        ended = subprocess.run([*editor, name], check=False).returncode
    except OSError as error:
        Path(name).unlink()
        raise InputError(f"the editor {editor[0]} cannot be started ({error.strerror}); set EDITOR") from None
    if ended != 0:
        raise InputError(f"the editor ended with exit code {ended}; nothing was sent. Your text is in {name}")
    return Path(name)


def _pretty(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2)
