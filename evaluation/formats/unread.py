"""What a file holds and nobody reads: counted, so that it can be named."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from evaluation.contract.text import folded, harmless

MAX_NAMED: Final = 50
_MAX_CHARS: Final = 60
_PERHAPS: Final = {
    "category": {
        "label",
        "labels",
        "intent",
        "class",
        "topic",
        "tag",
        "tags",
        "reason",
        "categories",
        "target",
    },
    "text": {"message", "utterance", "body", "content", "query", "question", "sentence", "description"},
    "id": {"conversation_id", "conversation id", "ticket_id", "ticket id", "uuid", "key", "thread_id"},
    "role": {"author", "sender", "speaker", "from"},
    "split": {"set", "fold", "partition"},
}


class Unread:
    """columns, keys: how often each had something in it. other: sentences about what else was left aside."""

    def __init__(self) -> None:
        self.columns: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.other: Counter[str] = Counter()

    def sentences(self) -> Iterator[str]:
        for what, found in (("column", self.columns), ("key", self.keys)):
            for name, count in list(found.items())[:MAX_NAMED]:
                yield f"{what} `{shortened(name)}` is not read ({count} with something in it){_perhaps(name)}"
            if len(found) > MAX_NAMED:
                yield f"{len(found) - MAX_NAMED} more {what}s are not read"
        for sentence, count in self.other.items():
            yield f"{sentence} ({count})"

    def key(self, name: str) -> None:
        if len(self.keys) < 10_000 or name in self.keys:  # a hostile file has as many as it has lines
            self.keys[name[:200]] += 1


def known(
    raw: Mapping[str, Any], fields: Mapping[str, str], unread: Unread, where: str = ""
) -> dict[str, Any]:
    """The part of an object that is read, under our own names; what is not is counted.

    fields: our names by their folded forms. Raises: ValueError where two keys mean one field.
    """
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = key if key in fields else fields.get(folded(key))
        if name is None:
            if value not in (None, "", [], {}):
                unread.key(where + key)
        elif name in found:
            raise ValueError(f"two keys of one object both mean `{name}`")
        else:
            found[name] = value
    return found


def shortened(name: str) -> str:
    name = harmless(" ".join(name.split()))
    return name if len(name) <= _MAX_CHARS else f"{name[:_MAX_CHARS]}…"


def _perhaps(name: str) -> str:
    bare = folded(name.rpartition(".")[2])
    for field, words in _PERHAPS.items():
        if bare in words:
            return f"; if it is the {field}, call it `{field}`"
    return ""
