"""Rasa's NLU data (YAML): every example of an intent is a conversation of one message, and the intent its label."""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from evaluation.contract.record import Reject, Role, Row
from evaluation.formats.incoming import Unreadable
from evaluation.formats.unread import Unread

MAX_CHARS: Final = 32 << 20  # of a file that is held as a whole
MEANING: Final = (
    "each example is a conversation of one customer message; the intent is the label",
    "of a marked entity, as in `[Berlin](city)`, the words are read and the mark is not",
)
HEAD: Final = re.compile(r"(?m)^(?:version|nlu)\s*:")
_ENTITY = re.compile(r"\[([^\[\]]+)\](?:\([^()]*\)|\{[^{}]*\})")
# YAML 1.1, which the library reads, ends lines at these; nobody who writes a customer's words does.
_HIDDEN: Final = {0x85: 0xFFF85, 0x2028: 0xFFF28, 0x2029: 0xFFF29}
_SEEN: Final = {hidden: shown for shown, hidden in _HIDDEN.items()}
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # every scalar is text: no `no` becomes false


def rows(text: str, unread: Unread) -> Iterator[Row | Reject]:
    """Raises: Unreadable where it is not YAML, or not Rasa's."""
    root = _composed(text.translate(_HIDDEN))
    sections = _mapping(root)
    if "nlu" not in sections:
        named = ", ".join(f"`{name[:60]}`" for name in list(sections)[:12])
        raise Unreadable(
            "unknown_form", f"is YAML without Rasa's section `nlu`; it has {named or 'no sections'}"
        )
    for name in sections.keys() - {"nlu", "version"}:
        unread.key(name)
    entries = sections["nlu"]
    if not isinstance(entries, yaml.SequenceNode):
        raise Unreadable("unknown_form", f"has no list under `nlu`, on line {entries.start_mark.line + 1}")
    for entry in entries.value:
        yield from _entry(entry, unread)


def _composed(text: str) -> Any:
    """Nodes, which know their lines. Aliases are refused: a few lines of them unfold to more than memory holds."""
    try:
        for token in yaml.scan(text, Loader=_LOADER):
            if isinstance(token, yaml.AliasToken):
                raise Unreadable("unknown_form", f"has a YAML alias on line {token.start_mark.line + 1}")
        return yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" on line {mark.line + 1}"
        raise Unreadable(
            "not_yaml", f"is not YAML{where}: {getattr(error, 'problem', None) or 'it is cut off'}"
        ) from None
    except RecursionError:
        raise Unreadable("not_yaml", "is YAML that is nested too deeply") from None


def _entry(node: Any, unread: Unread) -> Iterator[Row | Reject]:
    line = node.start_mark.line + 1
    try:
        fields = _mapping(node)
    except Unreadable as error:
        yield Reject(line, str(error))
        return
    if "intent" not in fields:
        for name in fields.keys() & {"synonym", "regex", "lookup"}:
            unread.other[f"Rasa's sections `{name}` are not read"] += 1
        if not fields.keys() & {"synonym", "regex", "lookup"}:
            yield Reject(line, "an entry of `nlu` without `intent`")
        return
    for name in fields.keys() - {"intent", "examples"}:
        unread.key(name)
    intent, examples = fields["intent"], fields.get("examples")
    if not isinstance(intent, yaml.ScalarNode):
        yield Reject(line, "the intent is not a text")
    elif examples is None or not examples.value:
        yield Reject(line, "an intent without examples")
    else:
        yield from _examples(intent.value, examples, unread)


def _examples(intent: str, node: Any, unread: Unread) -> Iterator[Row | Reject]:
    if isinstance(node, yaml.ScalarNode):
        yield from _written(intent, node)
        return
    for one in node.value:
        line = one.start_mark.line + 1
        if isinstance(one, yaml.ScalarNode):
            yield _row(line, intent, one.value)
            continue
        fields = _mapping(one)
        for name in fields.keys() - {"text"}:
            unread.key(name)
        text = fields.get("text")
        if isinstance(text, yaml.ScalarNode):
            yield _row(text.start_mark.line + 1, intent, text.value.strip("\r\n "))
        else:
            yield Reject(line, "an example without `text`")


def _written(intent: str, node: Any) -> Iterator[Row | Reject]:
    """As Rasa has them: one block of text, in which each line begins with a dash."""
    first = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
    for number, line in enumerate(node.value.split("\n"), start=first):
        if not line.strip():
            continue
        dash, text = line[:1], line[1:].strip()
        yield _row(number, intent, text) if dash == "-" else Reject(number, "an example begins with `- `")


def _row(line: int, intent: str, text: str) -> Row:
    said = _ENTITY.sub(r"\1", text).translate(_SEEN)
    return Row(line, {"messages": [{"role": Role.customer, "text": said}], "category": intent})


def _mapping(node: Any) -> dict[str, Any]:
    """Raises: Unreadable where it is none, or where a key stands twice."""
    if not isinstance(node, yaml.MappingNode):
        raise Unreadable("unknown_form", "is YAML in another form than Rasa's")
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Unreadable("unknown_form", f"has a key that is no text on line {key.start_mark.line + 1}")
        if key.value in found:
            line = key.start_mark.line + 1
            raise Unreadable("key_twice", f"has the key `{key.value[:60]}` twice in one place: line {line}")
        found[key.value] = value
    return found
