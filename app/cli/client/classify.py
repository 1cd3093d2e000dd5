"""`steerwise classify` without a model on disk: what is deployed answers."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import typer
from rich.markup import escape

from app.cli.client import events
from app.cli.client.api import Json
from app.cli.client.call import Call
from app.cli.client.refusal import ApiAway, ApiRefused
from app.cli.files import read_file
from app.errors import InputError
from evaluation.contract.mode import ModeChoice
from evaluation.contract.record import Conversation
from evaluation.contract.text import blank
from evaluation.terminal import complain

DRAFT = "draft"
AT_ONCE = 64  # of the 256 that the API takes: the first answers are seen sooner
MAX_BODY_BYTES = (
    900_000  # of the 1 MiB that the API takes, with room for what stands around the conversations
)


class ApiQuestion(NamedTuple):
    """Of text and file one. mode: None: the one that is deployed. version: a number, or `draft`; None: what is live."""

    text: str | None
    file: Path | None
    mode: ModeChoice | None = None
    version: str | None = None
    explain: bool = False


def run(call: Call, schema: str, asked: ApiQuestion, *, stream: bool) -> None:
    """schema: id or name. Raises: ApiAway, ApiRefused, InputError."""
    text, file = asked.text, asked.file
    if (text is None) == (file is None):
        raise InputError("give either --text or --conversation")
    chosen = _choice(schema, asked.version) | ({"explain": True} if asked.explain else {})
    chosen |= {} if asked.mode is None else {"mode": asked.mode.value}
    question: Json = {**chosen, "text": text}
    if file is not None:
        given = read_file(file, None)
        for sentence in given.lost:
            complain(f"{file.name}: {sentence}")
        if len(given.conversations) > 1:
            return _many(call, chosen, given.conversations)
        question = {**chosen, "messages": messages(given.conversations[0])}
    elif blank(text or ""):
        raise InputError("--text is empty: nothing of it can be seen")
    if stream:
        return _streamed(call, question)
    found = call.api.post("/v1/classify", question)
    return call.answer(found, lambda: "\n".join(lines(found)))


def _many(call: Call, chosen: Json, conversations: Sequence[Conversation]) -> None:
    failed = 0
    for part in batches([{"id": one.id, "messages": messages(one)} for one in conversations]):
        for result in _answered(call, chosen, part):
            failed += result["answer"] is None
            if call.as_json:
                call.line(result)
            else:
                call.say("\n".join([f"id:        {result['id']}", *_result(result), ""]))
    if failed:
        raise typer.Exit(1)


def batches(items: Sequence[Json]) -> Iterator[list[Json]]:
    """By their number and by their bytes. What is too large alone is a batch of its own."""
    part: list[Json] = []
    room = MAX_BODY_BYTES
    for item in items:
        size = len(json.dumps(item, ensure_ascii=False).encode()) + 2
        if part and (len(part) == AT_ONCE or size > room):
            yield part
            part, room = [], MAX_BODY_BYTES
        part.append(item)
        room -= size
    if part:
        yield part


def _answered(call: Call, chosen: Json, part: list[Json]) -> Sequence[Json]:
    """What cannot be sent is the problem of that conversation, and of no other."""
    try:
        results: list[Json] = call.api.post("/v1/classify/batch", {**chosen, "items": part})["results"]
    except ApiRefused as error:
        if len(part) > 1 or error.code != "too_large":
            raise
        return [{"id": part[0]["id"], "answer": None, "problem": error.problem}]
    return results


def _streamed(call: Call, question: Json) -> None:
    for event in events.once(call.api, "/v1/classify/stream", question):
        data = json.loads(event.data)
        if event.kind == "problem":
            raise ApiRefused(data["status"], data, {})
        if call.as_json:
            call.line({"event": event.kind} | data)
        elif event.kind == "reasoning":
            call.console.print(escape(data["text"]), end="")
        if event.kind == "answer":
            if not call.as_json:
                call.say("\n" + "\n".join(line for line in lines(data) if not line.startswith("reasoning:")))
            return
    raise ApiAway(call.api.target.url, ConnectionError("the answer broke off"))


def _choice(schema: str, version: str | None) -> Json:
    try:
        named = {"schema_id": str(UUID(schema))}
    except ValueError:
        named = {"schema": schema}
    if version is None:
        return named
    if version != DRAFT and not version.isdecimal():
        raise InputError(f"--version is the number of a published version, or {DRAFT}")
    return named | {"schema_version": version if version == DRAFT else int(version)}


def messages(conversation: Conversation) -> list[Json]:
    return [{"role": message.role.value, "text": message.text} for message in conversation.messages]


def _result(result: Json) -> Iterator[str]:
    if result["answer"] is not None:
        yield from lines(result["answer"])
    else:
        yield f"problem:   {result['problem']['detail']}"


def lines(answer: Json) -> list[str]:
    sure = "" if answer["confidence"] is None else f"  ({answer['confidence']:.0%})"
    why = [] if answer["reasoning"] is None else [f"reasoning: {answer['reasoning'] or '(none)'}"]
    given = [f"answer:    {_named(answer)}{sure}"]
    lines = [*given, *why] if answer["reasoning_order"] == "after" else [*why, *given]
    if answer["decided_by"] is not None:
        lines.append(f"decided:   {answer['decided_by']['kind']}: {answer['decided_by']['text']}")
    notes = [name for name in ("provisional", "degraded", "forced_read") if answer[name]]
    notes = [name.replace("_", " ") for name in notes]
    if answer["gate"] == "none":
        notes.append("no gate has examined it")
    version, model = answer["schema_version"], answer["model_version"]
    by = "what is not published" if version is None else f"schema version {version}"
    lines.append(
        f"by:        {', '.join([by, f'model {model}' if model else 'the base as it stands', *notes])}"
    )
    return lines


def _named(answer: Json) -> str:
    if answer["abstained"]:
        return "abstained: the confidence is below the tenant's threshold"
    if answer["failure"] is not None:
        return f"unreadable ({answer['failure']})"
    return str(answer["category"] or "none of these")
