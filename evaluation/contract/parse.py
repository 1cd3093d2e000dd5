"""How an answer is read back from what a model wrote."""

import re
from enum import StrEnum
from typing import NamedTuple

from evaluation.contract.record import Conversation, Role
from evaluation.contract.render import ANSWER_MARK, FAST_PREFIX, FITS, NONE_TEXT, condition_text, plain
from evaluation.contract.schema import CategorySchema, Condition, conditions

_DECORATION = r"[ \t*_`#>~]*"
_ANSWER = re.compile(
    rf"(?:^|\n){_DECORATION}(?:(?:so|the|my|final)[ \t]+)*answer(?:[ \t]+is)?{_DECORATION}[:=]([^\n]*)",
    re.IGNORECASE,
)
_OPENING = r"[\s*_`\"'“”‘’(\[{<$\\]*"
_BEFORE_CODE = re.compile(
    rf"{_OPENING}(?:(?:code|category|option|letter|boxed)[\s:*_`{{]+)?{_OPENING}", re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z]+")
_CHOICE = re.compile(rf"(?:^|(?<=\s)){FITS} ([A-Za-z]*)")
_EXPLANATION = re.compile(r"[\s*_`\"'”)\]}>]*(?:[-–—:;,.(=]|because\b|since\b|as\b)", re.IGNORECASE)
_QUOTE = re.compile(r'["“]([^"“”]{2,400})["”]')
_THINK = re.compile(
    r"(?:(?<!\s)\s+)?</?think>\s*"
)  # only from where white space begins: a model may write much
_TAGS = ("<think>", "</think>")


class ParseFailure(StrEnum):
    truncated = "truncated"
    no_label = "no_label"
    unknown_label = "unknown_label"


class Answer(NamedTuple):
    category: str | None  # None: none of these, or unparsable where `failure` is set
    reasoning: str
    failure: ParseFailure | None


class _AnswerLine(NamedTuple):
    """begin: of the line that says that an answer comes. at: where the text begins that names it."""

    begin: int
    at: int
    text: str


class Evidence(NamedTuple):
    quote: str
    message_index: int


def parse(text: str, schema: CategorySchema, codes: tuple[str, ...], *, truncated: bool = False) -> Answer:
    """The last `Answer:` line counts, in whatever form it is written, if it names exactly one code of the schema.

    codes: aligned with schema.answers, as in the prompt.
    """
    text = _THINK.sub("\n", text)
    line = _answer_line(text)
    if line is None:
        return Answer(None, text.strip(), ParseFailure.truncated if truncated else ParseFailure.no_label)
    reasoning = text[: line.begin].strip()
    code = code_in(line.text, schema, codes)
    if code is None:
        failure = ParseFailure.unknown_label if _WORD.search(line.text) else ParseFailure.no_label
        return Answer(None, reasoning, failure)
    return Answer(schema.answers[codes.index(code)], reasoning, None)


def code_at(text: str) -> int | None:
    """Where the word begins that `parse` reads as the code; None where no answer is named."""
    line = _answer_line(_THINK.sub(lambda found: "\n" * len(found[0]), text))
    word = None if line is None else _code_word(line.text)
    return None if line is None or word is None else line.at + word.start()


def _answer_line(text: str) -> _AnswerLine | None:
    """The last one; where nothing stands behind its colon, what the next line says."""
    found = list(_ANSWER.finditer(text))
    if not found:
        return None
    begin, end, behind = found[-1].start(), found[-1].end(), found[-1].group(1)
    if _WORD.search(behind):
        return _AnswerLine(begin, found[-1].start(1), behind)
    rest = text[end:]
    blank = len(rest) - len(rest.lstrip())
    return _AnswerLine(begin, end + blank, rest.strip().partition("\n")[0])


def _code_word(line: str) -> re.Match[str] | None:
    start = _BEFORE_CODE.match(line)
    return _WORD.match(line, start.end() if start else 0)


def code_in(line: str, schema: CategorySchema, codes: tuple[str, ...]) -> str | None:
    """The code that a line names: alone, marked up, with its own category's name or an explanation behind it.

    None where it names no code, or might mean another: a second code, an alternative, another category's name.
    """
    found = _code_word(line)
    usable = codes[: len(schema.answers)]
    if found is None or found.group() not in usable:
        return None
    code, rest = found.group(), line[found.end() :]
    answer = schema.answers[usable.index(code)]
    own = {NONE_TEXT} if answer is None else {_normal(schema.category(answer).name), _normal(answer)}
    if _normal(rest) in {"", *own}:
        return code
    others = {_normal(c.name) for c in schema.categories} - own
    explained = _EXPLANATION.match(rest) and _normal(rest) not in others
    return code if explained and not set(_WORD.findall(rest)) & (set(usable) - {code}) else None


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
    return (before if _may_become_answer(line) else text).strip()


def _may_become_answer(line: str) -> bool:
    """Whether a line that is still being written can end as one that answers."""
    words = re.sub(r"[^a-z ]", "", line.casefold()).split()
    openings = ("so", "the", "my", "final", "answer", "is")
    return all(word in openings for word in words[:-1]) and (
        not words or any(opening.startswith(words[-1]) for opening in openings)
    )


def forced_prefix(text: str) -> str:
    """What a model wrote without an answer, continued up to the place where the code must come."""
    before = _ANSWER.split(text)[0].rstrip()
    return before + ANSWER_MARK if before else FAST_PREFIX


def choice_at(reasoning: str, codes: tuple[str, ...]) -> int | None:
    """Where the code stands that it first says fits; None where that is none of the codes."""
    found = _choice(reasoning)
    return found.start(1) if found and found[1] in codes else None


def before_choice(reasoning: str) -> str:
    """What it quotes of the customer before it chooses a code; empty where it does not."""
    found = _choice(reasoning)
    head = reasoning[: found.start()].rstrip() if found else ""
    return head if quotes(head) else ""


def _choice(reasoning: str) -> re.Match[str] | None:
    """What is quoted chooses nothing: a customer may say the same words."""
    for found in _CHOICE.finditer(reasoning):
        if reasoning.count('"', 0, found.start()) % 2 == 0:
            return found
    return None


def explaining_prefix(reasoning: str, code: str) -> str:
    """Up to where the condition must come that decided for this code. reasoning: for it or for another, of which what
    it quotes of the customer is kept."""
    said = before_choice(reasoning)
    return f'{said} {FITS} {code} "'.lstrip()


def quotes(reasoning: str) -> list[str]:
    return [match.group(1).strip() for match in _QUOTE.finditer(reasoning)]


def evidence(reasoning: str, conversation: Conversation) -> list[Evidence]:
    """Quotes that really occur in the conversation, each with the last message that holds it."""
    said = quotes(reasoning)
    texts = [m.text if said and m.role is Role.customer else "" for m in conversation.messages]
    shown = [(i, _normal(text)) for i, text in enumerate(texts) if text]
    found: list[Evidence] = []
    for quote in said:
        wanted = _normal(quote)
        index = next((i for i, text in reversed(shown) if wanted and wanted in text), None)
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
