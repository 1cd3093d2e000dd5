"""`steerwise conversations`: single ones, and what people say about them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client.api import Json, identity
from app.cli.client.call import Call, asks
from app.cli.client.lists import All, Limit, listed
from app.cli.client.table import Columns, details
from app.cli.files import read_object
from app.errors import InputError

conversations = typer.Typer(no_args_is_help=True, help="Single conversations of a dataset, and their labels.")
Dataset = Annotated[str, typer.Argument(help="Id or name of the dataset.")]
Identity = Annotated[str, typer.Argument(metavar="CONVERSATION", help="Its id here.", parser=identity)]
_SHOWN = 60


@conversations.command("list")
@asks
def list_conversations(
    call: Call,
    dataset: Dataset,
    split: Annotated[str | None, typer.Option(help="train, validation, calibration or test.")] = None,
    language: Annotated[str | None, typer.Option(help="Only in this language.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only from this channel.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only of this customer.")] = None,
    limit: Limit = 50,
    everything: All = False,
) -> None:
    """A dataset's conversations, the newest first."""
    columns: Columns = {
        "id": "id",
        "external id": "external_id",
        "split": "split",
        "category": lambda row: (
            None if row["label"] is None else row["label"]["category_key"] or "none of these"
        ),
        "last message": lambda row: _short(row["messages"][-1]["text"]),
    }
    found_id = call.api.find("/v1/datasets", dataset, "dataset")
    attributes = {"language": language, "channel": channel, "customer_reference": customer}
    path = f"/v1/datasets/{found_id}/conversations"
    listed(call, path, columns, limit, everything, split=split, **attributes)


@conversations.command("append")
@asks
def append_conversation(
    call: Call,
    dataset: Dataset,
    file: Annotated[Path, typer.Argument(help="One conversation, JSON: id, messages, category, split.")],
) -> None:
    """Add one conversation. Its id makes it safe to repeat."""
    body = read_object(file)
    found_id = call.api.find("/v1/datasets", dataset, "dataset")
    _show(call, call.api.post(f"/v1/datasets/{found_id}/conversations", body))


@conversations.command("show")
@asks
def show_conversation(call: Call, conversation: Identity) -> None:
    """One conversation with its newest label."""
    _show(call, call.api.get(f"/v1/conversations/{conversation}"))


@conversations.command("label")
@asks
def label_conversation(
    call: Call,
    conversation: Identity,
    version_id: Annotated[
        str, typer.Option(help="Id of the schema version that it is one of: steerwise schemas versions")
    ],
    category: Annotated[str | None, typer.Argument(help="Key of a category. (or --none-of-these)")] = None,
    none_of_these: Annotated[
        bool, typer.Option("--none-of-these", help="It is none of the categories.")
    ] = False,
    correction: Annotated[
        bool,
        typer.Option("--correction", help="It mends an answer; left out, somebody read the conversation."),
    ] = False,
    criterion: Annotated[
        str | None, typer.Option(help="The include or exclude that decides it, word for word.")
    ] = None,
) -> None:
    """Say which category a conversation is. The newest label counts."""
    if (category is None) is not none_of_these:
        raise InputError("give either the key of a category or --none-of-these")
    body = {
        "category_key": category,
        "schema_version_id": version_id,
        "source": "correction" if correction else "reviewer",
        "criterion": criterion,
    }
    _show(call, dict(call.api.send("PUT", f"/v1/conversations/{conversation}/label", json=body).json()))


@conversations.command("delete")
@asks
def delete_conversation(call: Call, conversation: Identity) -> None:
    """Remove a conversation. The answer names the models that were made with it."""
    gone = dict(call.api.send("DELETE", f"/v1/conversations/{conversation}").json())
    made = {"runs made with it": gone["runs"], "models made with it": gone["model_versions"]}
    call.answer(gone, lambda: details({"deleted": gone["id"], **made}))


def _show(call: Call, found: Json) -> None:
    call.answer(found, lambda: _shown(found))


def _shown(found: Json) -> Any:
    label = found["label"]
    told = None if label is None else f"{label['category_key'] or 'none of these'} ({label['source']})"
    return details(
        {
            "id": found["id"],
            "external id": found["external_id"],
            "split": found["split"],
            "category": told,
            "decided by": None if label is None else label["criterion"],
            "messages": [f"{message['role']}: {message['text']}" for message in found["messages"]],
        }
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
