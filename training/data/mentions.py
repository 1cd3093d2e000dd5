"""Where a response names answer codes, in whatever prose its writer chose. Pure and torch-free.

Codes are drawn anew for every example that is trained, so a response that was written under other codes has to be
rewritten, and each code that is overlooked turns it against itself ("matches option B … Answer: C"). Prose of other
models has no fixed form, and `A`, `I` or `OK` may be words. So each place that could be a code is told to be one, or
not to be one, or to be doubtful; a response with one doubtful place keeps the codes that it was written under.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from evaluation.contract.parse import parse
from evaluation.contract.render import NONE_TEXT, condition_text, plain
from evaluation.contract.schema import CategorySchema, conditions

_QUOTED = re.compile(r'"([^"\n]*)"|“([^“”\n]*)”|«([^«»\n]*)»')
_WORD = re.compile(r"(?<!\w)[A-Za-z]{1,2}(?!\w)")
_NOUN = (
    r"(?:options?|codes?|categor(?:y|ies)|labels?|choices?|answers?|letters?|definitions?|conditions?|includes?|"
    r"excludes?|criteri(?:on|a)|boxed)"
)
_NAMED = re.compile(
    rf"\b{_NOUN}[*_]*(?:\s+(?:is|was|must be|should be|would be|code))?[\s:=(\[{{$\\*_`'\"]*$", re.IGNORECASE
)
_MARKED = re.compile(r"=\s+(?:not\s+)?$|\bfits\s+$", re.IGNORECASE)
_BEFORE_QUOTE = re.compile(r'^[)\]`*]{0,3}[:,]?\s+["“«]')
_BEFORE_VERB = re.compile(
    r"^[)\]`*]{0,3}\s+(?:fits|matches|applies|covers|describes|requires|says|does(?:n't)?|would|"
    r"is (?:the|right|wrong|correct|about|for|out|not|excluded|set))\b"
)
_THIRD_PERSON = re.compile(r"[ \t]+(?:fits|matches|applies|covers|describes|requires)\b")
_SENTENCE_BEGINS = re.compile(r"(?:^|[.!?:;]\s+|\n\s*|[\"“«(]\s*)$")
_OTHER_LETTER = re.compile(
    r"\b(?:plan|size|vitamin|grade|type|model|class|series|zone|gate|terminal|row|level|tier|section|group|point|"
    r"version|appendix|hepatitis|room|platform|building|block|unit|street|part|side|mr|mrs|ms|dr)\.?\s+$",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:\b(?:not|no|nor|neither|than|instead of|unlike|without|excludes?|excluding|ruled? out|rejects?)|n't)"
    r"\b[^.;\n]{0,25}$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"^\W{0,3}\s*(?:(?:does|do|is|are|was|would|can|could)(?:n't| not)\b|(?:is|are|was) (?:out|excluded|ruled out|"
    r"wrong|set aside))"
)
_PLACE = re.compile(
    r"\b(?:first|second|third|fourth|fifth|sixth|last|\d+(?:st|nd|rd|th))\s+"
    rf"(?:{_NOUN}|entry|line)\b|\b(?:option|category|choice)\s+(?:number\s+|no\.?\s*)?\d",
    re.IGNORECASE,
)
_NEAR = 60  # characters before and behind a place that are read


class _Is(Enum):
    code = auto()
    word = auto()
    doubtful = auto()


class Mention(NamedTuple):
    start: int
    end: int
    code: str


class Found(NamedTuple):
    mentions: list[Mention]
    doubtful: bool


class AnswerContext(NamedTuple):
    """What a response is read with. codes: aligned with schema.answers. customer: what else may be quoted."""

    schema: CategorySchema
    codes: tuple[str, ...]
    customer: str


def find(text: str, context: AnswerContext) -> Found:
    """In their order. What is quoted from customer or schema is nobody's mention."""
    prose, found = _prose(text, context), []
    doubtful = False
    for match in _WORD.finditer(prose):
        what = _read(prose, match, context.codes)
        doubtful |= what is _Is.doubtful
        if what is _Is.code:
            found.append(Mention(match.start(), match.end(), match.group()))
    return Found(found, doubtful)


def rewritten(text: str, mentions: Sequence[Mention], new_code: Mapping[str, str]) -> str:
    parts, at = [], 0
    for start, end, code in mentions:
        parts += [text[at:start], new_code[code]]
        at = end
    return "".join(parts) + text[at:]


def contradicts(text: str, context: AnswerContext, gold: str | None) -> bool:
    """Whether it answers something else than `gold`, or than its own reasoning says."""
    schema, codes = context.schema, context.codes
    answer = parse(text, schema, codes)
    if answer.failure is not None or answer.category != gold:
        return True
    code, reasoning = codes[schema.answers.index(gold)], answer.reasoning
    named = find(reasoning, context).mentions
    chosen = [mention for mention in named if not _is_negated(reasoning, mention)]
    if chosen and code not in {mention.code for mention in named}:
        return True
    return any(_is_misplaced(reasoning, mention, context) for mention in named)


def names_categories(text: str, context: AnswerContext) -> bool:
    """Whether it speaks of a category by its name, which a perturbation may give to another."""
    codes = "|".join(sorted(map(re.escape, context.codes), key=len, reverse=True))
    for category in context.schema.categories:
        name = re.escape(plain(category.name))
        marked = rf"""["“«`*'(]{name}["”»`*')]|{_NOUN}\s+{name}\b|\b{name}\s+{_NOUN}\b"""
        coded = rf"\b(?:{codes})\b[\s(:,*=–-]{{1,4}}{name}\b|\b{name}[\s(:,*=–-]{{1,4}}(?:{codes})\b"
        if re.search(rf"(?i:{marked})|{coded}", text):
            return True
        if re.search(r"[\s_-]", category.name) and re.search(rf"(?i:\b{name}\b)", _prose(text, context)):
            return True
    return False


def counts_places(text: str, context: AnswerContext) -> bool:
    """Whether it speaks of categories by their order, which may change."""
    return _PLACE.search(_prose(text, context)) is not None


def _prose(text: str, context: AnswerContext) -> str:
    """The text, as long as it is, with blanks for what is quoted from customer or schema."""
    known = [f" {_normal(condition_text(c.text))} " for c in conditions(context.schema)]
    known += [f" {_normal(context.customer)} ", f" {NONE_TEXT} "]

    def blanked(found: re.Match[str]) -> str:
        quote = next(part for part in found.groups() if part is not None)
        if quote.strip(" .,;:") in context.codes or not any(f" {_normal(quote)} " in one for one in known):
            return found.group()
        return found.group()[0] + " " * len(quote) + found.group()[-1]

    return _QUOTED.sub(blanked, text)


def _read(prose: str, match: re.Match[str], codes: tuple[str, ...]) -> _Is:
    word = match.group()
    before, after = prose[max(0, match.start() - _NEAR) : match.start()], prose[match.end() :][:_NEAR]
    named = _NAMED.search(before) is not None
    if word not in codes:
        # "option b" and "option Z": somebody's code, but nobody knows whose.
        meant = (word.isupper() and word != "I") or (len(word) == 1 and word.upper() in codes)
        return _Is.doubtful if named and meant else _Is.word
    if re.match(r"\.\w", after) or re.search(r"\w\.$", before):
        return _Is.word  # of an abbreviation
    if re.match(r"[-–]\w", after) or re.search(r"(?:\w[-–]|\d\s?)$", before):
        return _Is.doubtful
    if _is_inside_quotes(prose, match) or _OTHER_LETTER.search(before):
        return _Is.doubtful
    if word == "I" and (said := _as_pronoun(after)) is not None:
        return said
    if named or _MARKED.search(before) or _BEFORE_QUOTE.match(after):
        return _Is.code
    if len(word) > 1 or word == "I":
        return _Is.doubtful
    if _BEFORE_VERB.match(after):
        return _Is.code
    if _SENTENCE_BEGINS.search(before) and (word == "A" or after.startswith(".")):
        return _Is.doubtful
    return _Is.code


def _as_pronoun(after: str) -> _Is | None:
    if re.match(r"['’]\w", after):
        return _Is.word
    return _Is.doubtful if re.match(r"[ \t]+[a-z]", after) and not _THIRD_PERSON.match(after) else None


def _is_inside_quotes(prose: str, match: re.Match[str]) -> bool:
    """Among words of somebody whom nobody knows: quoted, but neither from the customer nor from the schema."""
    around = (found for found in _QUOTED.finditer(prose) if found.start() < match.start() < found.end())
    return any(found.group()[1:-1].strip(" .,;:") != match.group() for found in around)


def _is_negated(text: str, mention: Mention) -> bool:
    before = text[max(0, mention.start - _NEAR) : mention.start]
    return bool(_NEGATED.search(before) or _DENIED.match(text[mention.end :][:_NEAR]))


def _is_misplaced(text: str, mention: Mention, context: AnswerContext) -> bool:
    """Whether a condition is quoted right beside the code of another category."""
    quotation = re.match(r'[)\]`*]{0,3}[:,]?\s+["“«]([^"”»\n]*)["”»]', text[mention.end :])
    if quotation is None:
        return False
    quoted, key = _normal(quotation.group(1)), context.schema.answers[context.codes.index(mention.code)]
    owners = {c.key for c in conditions(context.schema) if _normal(condition_text(c.text)) == quoted}
    return bool(owners) and key not in owners


def _normal(text: str) -> str:
    return re.sub(r"[^\w]+", " ", plain(text)).strip().lower()
