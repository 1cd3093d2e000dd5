"""How an answer is read back from what a model wrote."""

import re
from enum import StrEnum
from typing import NamedTuple

from evaluation.contract.record import Conversation, Role
from evaluation.contract.render import ANSWER_MARK, condition_text, plain
from evaluation.contract.schema import CategorySchema, Condition, conditions

_ANSWER = re.compile(r"(?:^|\n)Answer:[ \t]*(\S*)")
_QUOTE = re.compile(r'["“]([^"“”]{2,400})["”]')
_THINK = re.compile(r"\s*</?think>\s*")
_TAGS = ("<think>", "</think>")


class ParseFailure(StrEnum):
    truncated = "truncated"
    no_label = "no_label"
    unknown_label = "unknown_label"


class Answer(NamedTuple):
    category: str | None  # None: none of these, or unparsable where `failure` is set
    reasoning: str
    failure: ParseFailure | None


class Evidence(NamedTuple):
    quote: str
    message_index: int


def parse(text: str, schema: CategorySchema, codes: tuple[str, ...], *, truncated: bool = False) -> Answer:
    """The last `Answer:` line counts. codes: aligned with schema.answers, as in the prompt."""
    text = _THINK.sub("\n", text)
    found = list(_ANSWER.finditer(text))
    if not found:
        return Answer(None, text.strip(), ParseFailure.truncated if truncated else ParseFailure.no_label)
    reasoning = text[: found[-1].start()].strip()
    code = found[-1].group(1).rstrip(".")
    by_code = dict(zip(codes, schema.answers, strict=False))
    if code not in by_code:
        return Answer(None, reasoning, ParseFailure.unknown_label if code else ParseFailure.no_label)
    return Answer(by_code[code], reasoning, None)


def settled(text: str) -> str:
    """Of a text that is still being written: the beginning of its reasoning that nothing to come can change."""
    tag = text.rfind("<")
    if tag >= 0 and any(known.startswith(text[tag:]) for known in _TAGS):
        text = text[:tag]
    text = _THINK.sub("\n", text)
    found = _ANSWER.search(text)
    if found:
        return text[: found.start()].strip()
    before, line = text.rpartition("\n")[::2]
    return (before if "Answer:".startswith(line) else text).strip()


def forced_prefix(text: str) -> str:
    """What a model wrote without an answer, continued up to the place where the code must come."""
    return text.split(ANSWER_MARK)[0].rstrip() + ANSWER_MARK


def quotes(reasoning: str) -> list[str]:
    return [match.group(1).strip() for match in _QUOTE.finditer(reasoning)]


def evidence(reasoning: str, conversation: Conversation) -> list[Evidence]:
    """Quotes that really occur in the conversation, each with the last message that holds it."""
    shown = [(i, m) for i, m in enumerate(conversation.messages) if m.role is Role.customer]
    found = []
    for quote in quotes(reasoning):
        wanted = _normal(quote)
        index = next(
            (i for i, message in reversed(shown) if wanted and wanted in _normal(message.text)), None
        )
        if index is not None and Evidence(quote, index) not in found:
            found.append(Evidence(quote, index))
    return found


def decided_by(reasoning: str, schema: CategorySchema, category: str | None) -> Condition | None:
    """The last condition of the answered category that the reasoning quotes; None where it quotes none of them."""
    own = {
        _normal(condition_text(c.text)): c
        for c in conditions(schema)
        if c.key == category and c.kind != "exclude"
    }
    return next((own[_normal(q)] for q in reversed(quotes(reasoning)) if _normal(q) in own), None)


def _normal(text: str) -> str:
    return re.sub(r"[^\w]+", " ", plain(text)).strip().lower()
