"""What other products export, object by object, as rows of ours: Zendesk tickets, Intercom conversations, Dialogflow
ES intents. docs/formats.md says for people what is read of each.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from evaluation.contract.record import Reject, Role, Row
from evaluation.contract.schema import NONE_WORD, CategorySchema, is_none_word
from evaluation.contract.text import blank, folded
from evaluation.formats.unread import Unread

Raw = Mapping[str, Any]
_BREAK = re.compile(r"(?i)<\s*(?:br|/p|/div|/li|/tr|/h[1-6])\s*/?>")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_STAFF: Final = frozenset({"admin", "bot", "teammate", "team", "operator"})


class Product(NamedTuple):
    """meaning: sentences about what is read as what. reads: the keys of its objects. rows: of one object."""

    name: str
    meaning: tuple[str, ...]
    reads: frozenset[str]
    rows: "Callable[[Row, Context], Iterator[Row | Reject]]"


class Context(NamedTuple):
    """file_name: without its folder and .gz; some exports say there what they hold."""

    schema: CategorySchema | None
    unread: Unread
    file_name: str


def plain_text(markup: str) -> str:
    """What a person sees of HTML. Only tags and entities go; a `<` that opens none stays."""
    return html.unescape(_TAG.sub("", _without_comments(_BREAK.sub("\n", markup)))).strip()


def _without_comments(markup: str) -> str:
    """By hand: a pattern would look for the end of each of a megabyte of beginnings."""
    pieces, at = [], 0
    while (begin := markup.find("<!--", at)) >= 0 and (end := markup.find("-->", begin + 4)) >= 0:
        pieces.append(markup[at:begin])
        at = end + 3
    return "".join([*pieces, markup[at:]])


# --------------------------------------------------------------------------------------------------------- Zendesk


def _ticket(row: Row, context: Context) -> Iterator[Row | Reject]:
    ticket: Raw = row.raw
    customer = ticket.get("requester_id", _of(ticket.get("requester"), "id"))
    messages = []
    for comment in _objects(ticket.get("comments")):
        if comment.get("public") is False:
            context.unread.other["internal notes of Zendesk are not read"] += 1
            continue
        author = comment.get("author_id", _of(comment.get("author"), "id"))
        told = _first(comment, "plain_body", "body") or plain_text(_first(comment, "html_body"))
        messages.append({"role": Role.customer if author == customer else Role.agent, "text": told})
    if not messages:
        told = _first(ticket, "description") or _first(ticket, "subject")
        messages = [{"role": Role.customer, "text": told}]
    yield _tagged(row, ticket.get("id"), messages, _texts(ticket.get("tags")), context)


# -------------------------------------------------------------------------------------------------------- Intercom


def _conversation(row: Row, context: Context) -> Iterator[Row | Reject]:
    talk: Raw = row.raw
    source = talk.get("source") or talk.get("conversation_message") or {}
    messages = [_said(source)] if isinstance(source, dict) else []
    for part in _objects(_of(talk.get("conversation_parts"), "conversation_parts")):
        kind = part.get("part_type")
        if kind == "note":
            context.unread.other["internal notes of Intercom are not read"] += 1
        elif not blank(_first(part, "body")):
            messages.append(_said(part))
    tags = [_first(tag, "name") for tag in _objects(_of(talk.get("tags"), "tags"))]
    yield _tagged(row, talk.get("id"), [m for m in messages if not blank(m["text"])], tags, context)


def _said(part: Raw) -> dict[str, str]:
    staff = _of(part.get("author"), "type") in _STAFF
    return {"role": Role.agent if staff else Role.customer, "text": plain_text(_first(part, "body"))}


# ---------------------------------------------------------------------------------------------------- Dialogflow ES


def _intent(row: Row, context: Context) -> Iterator[Row | Reject]:
    """As the API gives an intent, or as the older export does."""
    name = _first(row.raw, "displayName") or _first(row.raw, "name")
    for phrase in _objects(row.raw.get("trainingPhrases")):
        template = phrase.get("type") == "TEMPLATE"
        yield _phrase(row.line, phrase.get("parts"), template, name)
    for phrase in _objects(row.raw.get("userSays")):
        yield _phrase(row.line, phrase.get("data"), phrase.get("isTemplate") is True, name)


def _users_say(row: Row, context: Context) -> Iterator[Row | Reject]:
    name, found, _ = context.file_name.partition("_usersays_")
    if not found:
        context.unread.other[
            "phrases have no category: Dialogflow names the intent in the file's name, INTENT_usersays_LANGUAGE.json"
        ] += 1
    yield _phrase(row.line, row.raw.get("data"), row.raw.get("isTemplate") is True, name if found else "")


def _phrase(line: int, parts: Any, template: bool, intent: str) -> Row | Reject:
    text = "".join(_first(part, "text") for part in _objects(parts))
    if template or "@sys.any" in text:
        return Reject(line, "a template with placeholders is nothing that a customer wrote")
    raw: dict[str, Any] = {"messages": [{"role": Role.customer, "text": text}]}
    return Row(line, raw if blank(intent) else raw | {"category": intent})


# ------------------------------------------------------------------------------------------------ which one it is

_BY_TAG = f"a tag that is the key of a category, or `{NONE_WORD}`, is the label; tags that are neither are passed over"
ZENDESK = Product(
    "a Zendesk export of tickets",
    ("comments of the requester are the customer's, all others an agent's", _BY_TAG),
    frozenset({"id", "requester_id", "requester", "comments", "description", "subject", "tags"}),
    _ticket,
)
INTERCOM = Product(
    "an Intercom export of conversations",
    ("parts by admins, teams and bots are an agent's, all others the customer's", _BY_TAG),
    frozenset({"id", "type", "source", "conversation_message", "conversation_parts", "tags"}),
    _conversation,
)
_BY_INTENT = "each training phrase is a conversation; the intent's name is the label"
DIALOGFLOW = Product(
    "Dialogflow ES intents",
    (_BY_INTENT,),
    frozenset({"displayName", "name", "trainingPhrases", "userSays"}),
    _intent,
)
USERS_SAY = Product(
    "Dialogflow ES phrases of one intent", (_BY_INTENT,), frozenset({"data", "isTemplate"}), _users_say
)
LISTS: Final = {"tickets": ZENDESK, "conversations": INTERCOM, "intents": DIALOGFLOW}


def product_of(raw: Raw) -> Product | None:
    """None: the object is one of ours, or of nobody's."""
    has = raw.keys()
    if has & {"messages", "text"}:
        return None
    if "conversation_parts" in has or (raw.get("type") == "conversation" and "source" in has):
        return INTERCOM
    if has & {"requester_id", "requester"} and has & {"comments", "description", "subject"}:
        return ZENDESK
    if has & {"trainingPhrases", "userSays"} or {"displayName", "webhookState"} <= has:
        return DIALOGFLOW
    if "data" in has and has & {"isTemplate", "count", "updated"}:
        return USERS_SAY
    return None


def rows(product: Product, row: Row, context: Context) -> Iterator[Row | Reject]:
    for key, value in row.raw.items():
        if key not in product.reads and value not in (None, "", [], {}):
            context.unread.key(key)
    yield from product.rows(row, context)


def _tagged(
    row: Row, identity: Any, messages: list[dict[str, str]], tags: Iterable[str], context: Context
) -> Row | Reject:
    raw: dict[str, Any] = {"messages": messages}
    if identity is not None:
        raw["id"] = str(identity)
    labels: dict[str, str] = {}
    for tag in tags:
        key = None if context.schema is None else context.schema.key_of(tag)
        if key is not None or is_none_word(tag):
            labels.setdefault(folded(key or tag), key or tag)
        elif context.schema is None:
            context.unread.other["tags are labels only where a schema says which of them are categories"] += 1
    if len(labels) > 1:
        named = ", ".join(sorted(labels.values())[:8])
        return Reject(row.line, f"its tags name several categories: {named}")
    return Row(row.line, raw | ({"category": next(iter(labels.values()))} if labels else {}))


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _objects(value: Any) -> list[Raw]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _first(raw: Raw, *names: str) -> str:
    """The first of these that is a text in which something stands; empty where there is none."""
    return next((v for name in names if isinstance(v := raw.get(name), str) and not blank(v)), "")
