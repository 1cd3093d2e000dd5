"""What the person hands in: a schema and conversations, read from disk before anything is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import InputError
from app.runs.inputs import Inputs, checked
from evaluation.contract import strict_json
from evaluation.contract.record import Conversation, Reject
from evaluation.contract.schema import CategorySchema, SchemaError, parse_schema
from evaluation.contract.strict_json import NotJson
from evaluation.formats.incoming import Incoming, Unreadable
from evaluation.formats.reader import Reader

MAX_SCHEMA_BYTES = 16 << 20
_SHOWN = 20


def read_inputs(schema_file: Path, conversations_file: Path, reworded: Sequence[Path] = ()) -> Inputs:
    """Raises: InputError with every problem found, line numbers included."""
    schema = read_schema(schema_file)
    given = read_file(conversations_file, schema)
    try:
        inputs = checked(schema, given.conversations)
    except InputError as error:
        lost = [f"{conversations_file.name} is {given.form}", *given.lost]
        raise InputError(str(error), [*error.details, *lost]) from None
    return inputs._replace(
        notices=(*inputs.notices, *given.lost),
        rewordings={path.name: read_schema(path) for path in reworded},
    )


def read_schema(path: Path) -> CategorySchema:
    try:
        schema = parse_schema(_content(path, "the schema"))
    except SchemaError as error:
        raise InputError(f"the schema {path} cannot be used", error.problems) from None
    if len(schema.answers) < 2:
        raise InputError(
            f"the schema {path} has one category and no none-of-these: there is nothing to decide"
        )
    return schema


def read_json(path: Path) -> Any:
    """Of a file that is no schema and holds no conversations, but is a person's too. Raises: InputError."""
    try:
        found = strict_json.parse(strict_json.decoded(_content(path, "the file")))
    except NotJson as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    for problem in strict_json.unusable(found):
        raise InputError(f"{path} cannot be used: {problem.where} {problem.message}")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Raises: InputError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold one JSON object")
    return found


class Given(NamedTuple):
    """A file of conversations. form: what it was taken for. lost: sentences about what of it nobody reads."""

    conversations: list[Conversation]
    form: str
    lost: tuple[str, ...]


def read_file(path: Path, schema: CategorySchema | None) -> Given:
    """Raises: InputError, also where a single row cannot be used."""
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
        reader = Reader(path, schema)
        read = list(reader)
    except Unreadable as error:
        raise InputError(f"{path} {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    rejects = sorted(one for one in read if isinstance(one, Reject))
    lost = tuple(reader.unread.sentences())
    if rejects:
        taken = f"{path.name} was taken for {reader.form}"
        raise InputError(
            f"{path} has {_count(rejects)} that cannot be used", [*_lines(path, rejects), taken, *lost]
        )
    conversations = [one for one in read if isinstance(one, Conversation)]
    if not conversations:
        raise InputError(f"{path} holds no conversations", [f"it was taken for {reader.form}", *lost])
    return Given(conversations, reader.form, lost)


def _content(path: Path, what: str) -> bytes:
    found = bytearray()
    try:
        for block in Incoming(path).blocks():
            found += block
            if len(found) > MAX_SCHEMA_BYTES:
                raise InputError(f"{what} {path} is larger than {MAX_SCHEMA_BYTES >> 20} MiB")
    except Unreadable as error:
        raise InputError(f"{what} {path} {error}") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from None
    if not found.strip():
        raise InputError(f"{what} {path} is empty")
    return bytes(found)


def _lines(path: Path, rejects: Sequence[Reject]) -> list[str]:
    shown = [f"{path.name}, line {reject.line}: {reject.reason}" for reject in rejects[:_SHOWN]]
    return [*shown, f"… and {len(rejects) - _SHOWN} more"] if len(rejects) > _SHOWN else shown


def _count(rejects: Sequence[Reject]) -> str:
    return "1 line" if len(rejects) == 1 else f"{len(rejects)} lines"
