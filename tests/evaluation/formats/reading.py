"""What a test reads from a file, in short."""

from pathlib import Path
from typing import NamedTuple

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.formats.reader import Reader

SCHEMA = parse_schema(
    {
        "none_of_these": True,
        "categories": [
            {"key": "late_parcel", "name": "Late parcel", "definition": "Asks where a parcel is."},
            {"key": "refund", "name": "Refund", "definition": "Wants money back."},
            {"key": "café", "name": "Café", "definition": "Asks about the café."},
        ],
    }
)
NONE, UNLABELLED = "none of these", "no label"


class Read(NamedTuple):
    reader: Reader
    said: list[tuple[str, str]]
    rejects: list[tuple[int, str]]

    @property
    def lost(self) -> list[str]:
        return list(self.reader.unread.sentences())


def read(
    folder: Path, content: bytes | str, schema: CategorySchema | None = SCHEMA, name: str = "file"
) -> Read:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    reader, said, rejects = Reader(path, schema), [], []
    for one in reader:
        if isinstance(one, Conversation):
            label = one.category or NONE if one.labelled else UNLABELLED
            said.append((" / ".join(m.text for m in one.messages), label))
        else:
            rejects.append((one.line, one.reason))
    return Read(reader, said, rejects)
