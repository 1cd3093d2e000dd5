"""What the person hands in: a schema and conversations, read from disk before anything is written."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from app.errors import InputError
from app.gunzip import MAGIC, MAX_FILE_BYTES, Limits, NotWhole, UnpacksTooLarge, unpacked
from app.runs.inputs import Inputs, checked
from evaluation.contract.record import Conversation, Reject, parse_csv, parse_jsonl
from evaluation.contract.schema import CategorySchema, SchemaError, parse_schema

_SHOWN = 20


def read_inputs(schema_file: Path, conversations_file: Path, reworded: Sequence[Path] = ()) -> Inputs:
    """Raises: InputError with every problem found, line numbers included."""
    schema = read_schema(schema_file)
    inputs = checked(schema, read_conversations(conversations_file, schema))
    return inputs._replace(rewordings={path.name: read_schema(path) for path in reworded})


def read_schema(path: Path) -> CategorySchema:
    try:
        schema = parse_schema(_content(path))
    except SchemaError as error:
        raise InputError(f"the schema {path} cannot be used", error.problems) from None
    if len(schema.answers) < 2:
        raise InputError(
            f"the schema {path} has one category and no none-of-these: there is nothing to decide"
        )
    return schema


def read_conversations(path: Path, schema: CategorySchema | None) -> list[Conversation]:
    parse = parse_csv if path.name.removesuffix(".gz").endswith(".csv") else parse_jsonl
    parsed = parse(_content(path), schema)
    if parsed.rejects:
        raise InputError(
            f"{path} has {_count(parsed.rejects)} that cannot be used", _lines(path, parsed.rejects)
        )
    if not parsed.conversations:
        raise InputError(f"{path} holds no conversations")
    return parsed.conversations


def read_conversation(path: Path) -> Conversation:
    """A file that holds one JSON object, over as many lines as it likes; its id may be left out."""
    try:
        raw = json.loads(_content(path))
        return Conversation.model_validate({"id": path.stem, **raw})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"{path} is not a conversation: {reason}") from None
    except (ValueError, TypeError, RecursionError):
        raise InputError(
            f"{path} is not one JSON object in UTF-8; for several conversations use JSONL"
        ) from None


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if content[:2] == MAGIC:
        content = _gunzip(path, content)
    if not content.strip():
        raise InputError(f"{path} is empty")
    return content


def _gunzip(path: Path, packed: bytes) -> bytes:
    try:
        return b"".join(unpacked(io.BytesIO(packed), Limits(len(packed), MAX_FILE_BYTES)))
    except NotWhole as error:
        raise InputError(f"{path} is not a whole gzip file: {error}") from None
    except UnpacksTooLarge as error:
        raise InputError(f"{path} {error}") from None


def _lines(path: Path, rejects: Sequence[Reject]) -> list[str]:
    shown = [f"{path.name}, line {reject.line}: {reject.reason}" for reject in rejects[:_SHOWN]]
    return [*shown, f"… and {len(rejects) - _SHOWN} more"] if len(rejects) > _SHOWN else shown


def _count(rejects: Sequence[Reject]) -> str:
    return "1 line" if len(rejects) == 1 else f"{len(rejects)} lines"
