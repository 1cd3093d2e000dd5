"""`steerwise answers`: those that were kept, what people say of them, and forgetting."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client.api import Json, identity
from app.cli.client.call import Call, asks
from app.cli.client.lists import All, Limit, OfSchema, listed, schema_id
from app.cli.client.table import Columns, details, when
from app.errors import InputError
from evaluation.contract.schema import NONE_WORD

answers = typer.Typer(no_args_is_help=True, help="Answers that were kept (tenants change --keep-answers).")
Identity = Annotated[str, typer.Argument(metavar="ANSWER", help="Its id.", parser=identity)]
Category = Annotated[str | None, typer.Option(help=f"Only with this answer; {NONE_WORD}: none of these.")]
Abstained = Annotated[
    bool | None, typer.Option("--abstained/--decided", help="Only where the model abstained, or where not.")
]
MaxConfidence = Annotated[float | None, typer.Option(help="Only with at most this confidence.", min=0, max=1)]
First = Annotated[str | None, typer.Option("--from", help="Only given then or later: 2026-01-31T00:00:00Z.")]
Last = Annotated[str | None, typer.Option("--to", help="Only given before then.")]
Customer = Annotated[str | None, typer.Option(help="Of this customer: what the sender calls them.")]
Conversation = Annotated[str | None, typer.Option(help="Of this conversation: what the sender calls it.")]
_PATH = "/v1/answers"


@answers.command("list")
@asks
def list_answers(
    call: Call,
    of_schema: OfSchema = None,
    category: Category = None,
    abstained: Abstained = None,
    max_confidence: MaxConfidence = None,
    first: First = None,
    last: Last = None,
    customer: Customer = None,
    conversation: Conversation = None,
    limit: Limit = 50,
    everything: All = False,
) -> None:
    """Kept answers, the newest first."""
    columns: Columns = {
        "id": "id",
        "created": when("created_at"),
        "category": _category,
        "confidence": "confidence",
        "last message": lambda row: row["messages"][-1]["text"],
        "feedback": lambda row: row["feedback"] and ("right" if row["feedback"]["right"] else "wrong"),
    }
    found_id = schema_id(call, of_schema)
    query = _query(found_id, category, abstained, max_confidence, first, last, customer, conversation)
    listed(call, _PATH, columns, limit, everything, **query)


@answers.command("export")
@asks
def export_answers(
    call: Call,
    file: Annotated[Path, typer.Argument(help="Where to: NAME.jsonl or NAME.csv.", dir_okay=False)],
    of_schema: OfSchema = None,
    category: Category = None,
    abstained: Abstained = None,
    max_confidence: MaxConfidence = None,
    first: First = None,
    last: Last = None,
    customer: Customer = None,
    conversation: Conversation = None,
) -> None:
    """All that the options leave, as one file."""
    form = file.suffix.removeprefix(".")
    if form not in ("jsonl", "csv"):
        raise InputError(f"{file} says no form: name it NAME.jsonl or NAME.csv")
    found_id = schema_id(call, of_schema)
    query = _query(found_id, category, abstained, max_confidence, first, last, customer, conversation)
    count = call.api.download(file, f"{_PATH}/export", **query, format=form)
    call.answer({"file": str(file), "bytes": count}, lambda: f"{count} bytes in {file}")


@answers.command("show")
@asks
def show_answer(call: Call, answer: Identity) -> None:
    """One kept answer with its conversation."""
    _show(call, call.api.get(f"{_PATH}/{answer}"))


@answers.command("feedback")
@asks
def give_feedback(
    call: Call,
    answer: Identity,
    category: Annotated[
        str | None, typer.Argument(help=f"Key of the right category, or {NONE_WORD}. (or --right)")
    ] = None,
    right: Annotated[bool, typer.Option("--right", help="The answer was right.")] = False,
    reviewer: Annotated[
        bool, typer.Option("--reviewer", help="Somebody read it; left out, it mends an answer.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="Where the label goes: id or name. (default: the dataset `feedback`)")
    ] = None,
) -> None:
    """Say whether an answer was right, or which category is. It becomes a label."""
    if (category is None) is not right:
        raise InputError("give either the key of the right category or --right")
    body: Json = {"right": right, "source": "reviewer" if reviewer else "correction"}
    if category is not None:
        body["category_key"] = None if category == NONE_WORD else category
    if dataset is not None:
        body["dataset_id"] = call.api.find("/v1/datasets", dataset, "dataset")
    _show(call, call.api.post(f"{_PATH}/{answer}/feedback", body))


@answers.command("forget")
@asks
def forget_answers(call: Call, customer: Customer = None, conversation: Conversation = None) -> None:
    """Remove answers of a customer or a conversation, and the same conversations in all data sets."""
    if customer is None and conversation is None:
        raise InputError("name a --customer or a --conversation")
    named = {"customer_reference": customer, "conversation_reference": conversation}
    asked = {name: value for name, value in named.items() if value is not None}
    gone = dict(call.api.send("DELETE", _PATH, params=asked).json())
    call.answer(
        gone,
        lambda: details(
            {
                "answers": gone["answers"],
                "conversations of datasets": len(gone["conversations"]),
                "runs made with them": gone["runs"],
                "models made with them": gone["model_versions"],
            }
        ),
    )


def _query(
    found_id: str | None,
    category: str | None,
    abstained: bool | None,
    max_confidence: float | None,
    first: str | None,
    last: str | None,
    customer: str | None,
    conversation: str | None,
) -> dict[str, Any]:
    return {
        "schema_id": found_id,
        "category": category,
        "abstained": abstained,
        "max_confidence": max_confidence,
        "from": first,
        "to": last,
        "customer_reference": customer,
        "conversation_reference": conversation,
    }


def _category(row: Json) -> str:
    if row["abstained"]:
        return "(abstained)"
    return str(row["failure"] or row["category"] or NONE_WORD)


def _show(call: Call, found: Json) -> None:
    call.answer(found, lambda: _shown(found))


def _shown(found: Json) -> Any:
    said = found["feedback"]
    return details(
        {
            "id": found["id"],
            "category": _category(found),
            "confidence": found["confidence"],
            "reasoning": found["reasoning"],
            "feedback": None if said is None else _said(said),
            "messages": [f"{message['role']}: {message['text']}" for message in found["messages"]],
        }
    )


def _said(feedback: Json) -> str:
    if feedback["right"]:
        return "right"
    return f"wrong; right is {feedback['category_key'] or NONE_WORD}" if feedback["labelled"] else "wrong"
