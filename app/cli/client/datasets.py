"""`steerwise datasets`: files of labelled conversations, sent and checked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import check
from app.cli.client import upload as uploading
from app.cli.client.api import Api, Json
from app.cli.client.bar import Bar, bar
from app.cli.client.call import Call, asks
from app.cli.client.lists import All, Limit, OfSchema, listed, schema_id
from app.cli.client.table import Columns, at, details, when
from app.cli.client.upload import UploadSource
from app.cli.client.waiting import until
from app.errors import InputError

datasets = typer.Typer(no_args_is_help=True, help="Labelled conversations to learn from.")
_PATH = "/v1/datasets"
_SETTLED = ("ready", "failed")
_CHECKED = ("empty", "failed")
Named = Annotated[str, typer.Argument(metavar="DATASET", help="Id or name.")]
File = Annotated[Path, typer.Argument(help="Of conversations, in any form that is read; gzip allowed.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until the file has been checked.")]


class DatasetFailed(InputError):
    """The file was read, and no dataset could be made of it."""


@datasets.command("list")
@asks
def list_datasets(call: Call, schema: OfSchema = None, limit: Limit = 50, everything: All = False) -> None:
    """Datasets, the newest first."""
    columns: Columns = {
        "id": "id",
        "name": "name",
        "state": "state",
        "conversations": lambda row: row["counts"]["conversations"],
        "labelled": lambda row: row["counts"]["labelled"],
        "created": when("created_at"),
    }
    listed(call, _PATH, columns, limit, everything, schema_id=schema_id(call, schema))


@datasets.command("create")
@asks
def create_dataset(
    call: Call,
    name: str,
    schema: Annotated[str, typer.Option(help="Id or name of the schema whose categories its labels name.")],
    file: Annotated[Path | None, typer.Option(help="Of conversations; uploaded at once.")] = None,
    wait: Wait = True,
) -> None:
    """Make a dataset."""
    source = None if file is None else uploading.source(file)
    made = call.api.post_once(_PATH, {"name": name, "schema_id": schema_id(call, schema)})
    if source is not None:
        made = uploaded(call, made["id"], source, wait=wait, restart=False)
    _show(call, made)


@datasets.command("upload")
@asks
def upload_dataset(
    call: Call,
    dataset: Named,
    file: File,
    wait: Wait = True,
    restart: Annotated[bool, typer.Option("--restart", help="Leave what an earlier try has sent.")] = False,
) -> None:
    """Send a file. After a break, the same command goes on where it stopped."""
    source = uploading.source(file)
    _show(call, uploaded(call, _id(call, dataset), source, wait=wait, restart=restart))


@datasets.command("check")
@asks
def check_dataset(call: Call, dataset: Named, file: File) -> None:
    """Send a file and say what is in it; no row is taken. `take` then takes them, without sending it again."""
    dataset_id, source = _id(call, dataset), uploading.source(file)
    with bar(quiet=call.as_json) as shown:
        uploading.send(
            call.api,
            dataset_id,
            source,
            lambda done, total: shown.show(source.path.name, done, total),
            check=True,
        )
        found = _settled(call.api, dataset_id, shown, _CHECKED)
    told = found["findings"]
    call.answer(told, lambda: "\n".join(check.lines(told)))
    usable(found)


@datasets.command("take")
@asks
def take_dataset(call: Call, dataset: Named, wait: Wait = True) -> None:
    """Take the rows of the file that was sent with `check`."""
    dataset_id = _id(call, dataset)
    made = call.api.post(f"{_PATH}/{dataset_id}/content")
    if wait:
        with bar(quiet=call.as_json) as shown:
            made = _settled(call.api, dataset_id, shown)
    _show(call, made)


@datasets.command("show")
@asks
def show_dataset(call: Call, dataset: Named) -> None:
    """How far a dataset is, and what is in it."""
    call_id = _id(call, dataset)
    found = call.api.get(f"{_PATH}/{call_id}")
    call.answer(found, lambda: _shown(found))


@datasets.command("rejects")
@asks
def show_rejects(call: Call, dataset: Named) -> None:
    """The lines of the file that hold no usable conversation, and why: one JSON object a line."""
    found = call.api.send("GET", f"{_PATH}/{_id(call, dataset)}/rejects").text
    for line in filter(None, found.split("\n")):
        call.line(json.loads(line))


@datasets.command("delete")
@asks
def delete_dataset(call: Call, dataset: Named) -> None:
    """Remove a dataset from which no run was made."""
    found_id = _id(call, dataset)
    call.api.send("DELETE", f"{_PATH}/{found_id}")
    call.answer({"id": found_id, "deleted": True}, lambda: f"{found_id} is deleted")


def _id(call: Call, named: str) -> str:
    return call.api.find(_PATH, named, "dataset")


def uploaded(
    call: Call, dataset_id: str, source: UploadSource, *, wait: bool = True, restart: bool = False
) -> Json:
    """The dataset as it is then."""
    name = source.path.name
    with bar(quiet=call.as_json) as shown:
        uploading.send(
            call.api, dataset_id, source, lambda done, total: shown.show(name, done, total), restart=restart
        )
        if wait:
            return _settled(call.api, dataset_id, shown)
    return call.api.get(f"{_PATH}/{dataset_id}")


def _settled(api: Api, dataset_id: str, shown: Bar, states: Sequence[str] = _SETTLED) -> Json:
    def seen(found: Json) -> None:
        job = found["validation"] or {}
        shown.show("checking", job.get("done"), job.get("total"), job.get("message") or found["state"])

    return until(api, f"{_PATH}/{dataset_id}", lambda found: found["state"] in states, seen)


def _show(call: Call, found: Json) -> None:
    """Raises: DatasetFailed."""
    call.answer(found, lambda: _shown(found))
    usable(found)


def usable(found: Json) -> Json:
    """Raises: DatasetFailed."""
    if found["state"] == "failed":
        problem = found["problem"] or {}
        raise DatasetFailed(
            problem.get("message") or "the file cannot be used",
            [f"line by line: steerwise datasets rejects {found['id']}"],
        )
    return found


def _shown(found: Json) -> Any:
    counts = found["counts"]
    pairs = {
        "id": found["id"],
        "name": found["name"],
        "state": found["state"],
        "problem": (found["problem"] or {}).get("message"),
        "conversations": f"{counts['conversations']} ({counts['labelled']} labelled)",
        "rejected lines": counts["rejected"],
        "duplicates": f"{counts['exact_duplicates']} exact, {counts['near_duplicates']} near",
        "contradicting": counts["contradicting"],
        "moved": counts["moved"],
        "splits": [
            f"{split['split']}: {split['conversations']} ({split['labelled']} labelled)"
            for split in counts["splits"]
        ],
        "not read": (found.get("findings") or {}).get("not_read"),
        "created": at(found["created_at"]),
    }
    return details(pairs)
