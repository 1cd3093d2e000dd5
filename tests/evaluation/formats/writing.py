"""The same conversations in every form that is read, written as the programs write that have such files."""

import csv
import gzip
import html
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import openpyxl

from evaluation.contract.record import Conversation

NONE = "(none)"


class Table(NamedTuple):
    delimiter: str
    line_end: str
    header: tuple[str, ...]
    sep: bool
    quote_all: bool


def json_of(one: Conversation) -> dict[str, Any]:
    return one.model_dump(mode="json", exclude_unset=True)


def jsonl(data: Sequence[Conversation], line_end: str) -> str:
    return line_end.join(json.dumps(json_of(one), ensure_ascii=False) for one in data) + line_end


def listed(data: Sequence[Conversation], indent: int | None) -> str:
    return json.dumps([json_of(one) for one in data], ensure_ascii=False, indent=indent)


def objects(data: Sequence[Conversation]) -> str:
    return "\n".join(json.dumps(json_of(one), indent=2) for one in data)


def cells(data: Sequence[Conversation]) -> list[list[str]]:
    """id, role, text, category, split: one row a message; the label on the first of them."""
    rows = []
    for one in data:
        label = (one.category or NONE) if one.labelled else ""
        for number, message in enumerate(one.messages):
            said = (label, str(one.split or "")) if number == 0 else ("", "")
            rows.append([one.id, message.role.value, message.text, *said])
    return rows


def table(data: Sequence[Conversation], how: Table) -> str:
    out = io.StringIO()
    if how.sep:
        out.write(f"sep={how.delimiter}{how.line_end}")
    quoting = csv.QUOTE_ALL if how.quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=how.delimiter, lineterminator=how.line_end, quoting=quoting)
    writer.writerow(how.header)
    writer.writerows(cells(data))
    return out.getvalue()


def workbook(data: Sequence[Conversation]) -> bytes:
    made = openpyxl.Workbook(write_only=False)
    sheet = made.active
    for number, row in enumerate([["id", "role", "text", "category", "split"], *cells(data)], start=1):
        for place, value in enumerate(row, start=1):
            if value:
                cell = sheet.cell(number, place, value)
                cell.data_type = "s"  # what begins with = is no formula here
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def tags(one: Conversation) -> list[str]:
    return ["chat", one.category or NONE] if one.labelled else ["chat"]


def zendesk(data: Sequence[Conversation], wrapped: bool) -> str:
    tickets = []
    for one in data:
        comments = [
            {"author_id": 7 if m.role.value == "customer" else 9, "public": True, "plain_body": m.text}
            for m in one.messages
        ]
        tickets.append({"id": one.id, "requester_id": 7, "tags": tags(one), "comments": comments})
    return (
        json.dumps({"count": len(tickets), "tickets": tickets})
        if wrapped
        else "\n".join(map(json.dumps, tickets))
    )


def intercom(data: Sequence[Conversation]) -> str:
    def said(message: Any) -> dict[str, Any]:
        author = {"type": "user" if message.role.value == "customer" else "admin"}
        body = f"<p>{html.escape(message.text)}</p>".replace("\n", "<br>")
        return {"part_type": "comment", "author": author, "body": body}

    made = [
        {
            "type": "conversation",
            "id": one.id,
            "source": said(one.messages[0]),
            "tags": {"type": "tag.list", "tags": [{"name": tag} for tag in tags(one)]},
            "conversation_parts": {"conversation_parts": [said(message) for message in one.messages[1:]]},
        }
        for one in data
    ]
    return json.dumps({"type": "conversation.list", "conversations": made}, indent=1)


def rasa(data: Sequence[Conversation]) -> str:
    lines = ['version: "3.1"', "nlu:"]
    for one in data:
        text, label = (
            json.dumps(t, ensure_ascii=False) for t in (one.messages[0].text, one.category or NONE)
        )
        lines += [f"- intent: {label}", "  examples:", f"  - text: {text}"]
    return "\n".join(lines) + "\n"


def dialogflow(data: Sequence[Conversation]) -> str:
    intents = [
        {
            "displayName": one.category or NONE,
            "trainingPhrases": [{"type": "EXAMPLE", "parts": [{"text": one.messages[0].text}]}],
        }
        for one in data
    ]
    return json.dumps({"intents": intents})


def encoded(text: str, encoding: str) -> bytes:
    return text.encode("utf-16" if encoding == "utf-16" else encoding)


def packed(content: bytes, gz: bool) -> bytes:
    return gzip.compress(content, compresslevel=1) if gz else content
