"""Where a response names answer codes, in whatever prose its writer chose. Pure and torch-free.

Codes are drawn anew for every example that is trained, so a response that was written under other codes has to be
rewritten, and each code that is overlooked turns it against itself ("matches option B … Answer: C"). Prose of other
models has no fixed form, and `A`, `I` or `OK` may be words. So each place that could be a code is told to be one, or
not to be one, or to be doubtful; a response with one doubtful place keeps the codes that it was written under.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from evaluation.contract.parse import parse
from evaluation.contract.render import NONE_TEXT, condition_text, plain
from evaluation.contract.schema import CategorySchema, conditions

# A single mark between two letters is an apostrophe.
_QUOTED = re.compile(
    r'"([^"\n]*)"|“([^“”\n]*)”|„([^„“”\n]*)[“”]|«([^«»\n]*)»|»([^«»\n]*)«'
    r"|‘([^\n]{1,400}?)’(?!\w)|(?<!\w)'(?=\S)([^\n]{1,400}?)(?<=\S)'(?!\w)"
)
_WORD = re.compile(r"[^\W_]+")  # `_` is markup: `__B__`
_NOUN = (
    r"(?:options?|codes?|categor(?:y|ies)|labels?|choices?|answers?|letters?|definitions?|conditions?|includes?|"
    r"excludes?|criteri(?:on|a)|boxed)"
)
_NAMED = re.compile(
    rf"\b{_NOUN}[*_]*(?:\s+(?:is|was|must be|should be|would be|code))?[\s:=(\[{{$\\*_`'\"]*$", re.IGNORECASE
)
_MARKED = re.compile(r"=\s+(?:not\s+)?$|\bfits\s+$", re.IGNORECASE)
_CLOSED = r"[)\]`*_]{0,3}"
_BEFORE_QUOTE = re.compile(rf"{_CLOSED}[:,]?\s+(?=[\"“„«‘'])")
_BEFORE_VERB = re.compile(
    rf"{_CLOSED}\s+(?:\w+ly\s+)?(?:fits|matches|applies|covers|describes|requires|says|holds|seems|comes|"
    r"does(?:n['’]t)?|would|cannot|is(?:n['’]t)?|was|and|n?or|because)\b"
)
_THIRD_PERSON = re.compile(r"[ \t]+(?:fits|matches|applies|covers|describes|requires)\b")
_SENTENCE_BEGINS = re.compile(r"(?:^|[.!?:;…\n\"“„«(])[\s*_`#>•–-]*$")
# Behind any other word a letter may belong to a name: `plan B`, `iPhone X`.
_LEADING = (
    r"(?:is|are|was|be|not|nor|or|and|than|over|to|so|but|as|by|for|with|under|into|in|of|out|both|either|neither|"
    r"between|versus|vs|against|unlike|without|thus|hence|therefore|then|here|because|since|if|while|whereas|that|"
    r"which|\w+ly|(?:it|that|this)['’]s|"
    r"(?:fit|match|suit|choo?s|pick|select|prefer|reject|exclud|mean|meet|suggest|support|leav)\w*)"
)
_LED = re.compile(rf"(?:^|\n|[^\w\s]|\b{_LEADING})[\s*_`]*$", re.IGNORECASE)
_LED_BY_WORD = re.compile(rf"\b{_LEADING}\s+$", re.IGNORECASE)
_JOINED_BEHIND = re.compile(r"(?:[-–/&+@]|_+)[^\W_]|[+#]|['’][A-Z]")  # `A/C`, `C++`, `O'Brien`
_JOINED_BEFORE = re.compile(r"[^\W_][-–/&+@]$|\d\s?$")
_DISGUISED = re.compile(rf"(?i:{_NOUN})?([A-Z]{{1,2}})\d*")  # `OptionB`, `B1`
_NEGATED = re.compile(
    r"(?:\b(?:not|no|nor|neither|never|nothing|none|cannot|than|over|instead of|unlike|without|excludes?|excluding|"
    r"rule[ds]? out|rejects?)|n['’]t)\b"
    # As far as the clause goes: a comma behind a code goes on with a list.
    r"(?:(?!\b(?:but|so|thus|hence|therefore|because|which)\b)(?:[^.,;:\n]|(?<=(?-i:[A-Z)\]`*_\"”])),)){0,25}$",
    re.IGNORECASE,
)
_ASIDE = r"(?:\W{0,3}(?:\([^()\n]*\)|[\"“][^\"”\n]*[\"”]))?"
_DENIED = re.compile(
    rf"{_ASIDE}[^\w.;\n]*(?:(?:does|do|is|are|was|would|can|could|should)(?:n['’]t| ?not)\b|"
    r"(?:(?:is|are|was) (?:\w+ly )?|can be )(?:out|excluded|dismissed|ruled out|set aside|wrong|incorrect|less|too|"
    r"unlikely)\b|fails\b)"
)
_AMONG_DENIED = re.compile(
    rf"{_CLOSED}(?:(?:,|,?\s(?:and|or|nor))\s+(?:{_NOUN}\s+)?[(\[`*_]*[A-Z]{{1,2}}\b{_CLOSED})+\s+"
    r"(?:(?:do|are|were)(?:n['’]t| not)|are (?:out|excluded|ruled out|wrong|set aside))\b"
)
_CHOSEN_BEFORE = re.compile(
    r"\b(?:is|(?:it|that|this)['’]s|be|here|so|thus|hence|therefore|fits?|match(?:es)?|meets?|means?|choos\w+|chose|"
    r"pick\w*|select\w*|prefers?|leav\w+|(?:belongs|falls|go|goes|points|corresponds) (?:to|under|in|into|with)|"
    r"not\b[^.;\n]*\bbut)"
    rf"(?:\s+(?:best|the|of|with|description|{_NOUN}))*[\s:*_`'\"“«(\[{{$\\]*$",
    re.IGNORECASE,
)
_CHOSEN_BEHIND = re.compile(
    rf"(?:['’]s)?{_ASIDE}[^\w.;\n]*(?:{_NOUN}\s+)?(?:\w+ly\s+)?"
    r"(?:(?:fits|matches|applies|holds)(?! (?:only|if|when|to)\b)|does|wins|prevails|remains|comes first|"
    r"takes precedence|it (?:is|must be)|"
    r"is (?:\w+ly )?(?:the |an? )?(?:right|correct|good|best|better|closest|closer|one|only|answer|met|what|meant))\b"
)
_ORDINAL = r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|former|latter|\d+(?:st|nd|rd|th))"
_NUMBER = r"(?:\d{1,2}|one|two|three|four|five|six)\b"
_PLACE = re.compile(
    rf"\b{_ORDINAL}\s+(?:{_NOUN}|one|entry|line)\b|\bof the list\b|"
    # Without a noun of its own: `the third is out, so the second`.
    rf"\bthe {_ORDINAL}(?:\s+(?:is|was|does|fits|matches|applies|and|or|but)\b|\s*(?:[.,;:)]|$))|"
    rf"\b(?:options?|categor(?:y|ies)|choices?|entry)\s*(?:number\b|no\b\.?|#)?\s*{_NUMBER}|"
    rf"(?:^|[^\w\s]|\b{_LEADING})\s*(?:number\b|item\b|#)\s*{_NUMBER}(?! of (?:his|her|their|its|my|an?)\b)",
    re.IGNORECASE | re.MULTILINE,
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
    places = list(_places(_prose(text, context), context.codes))
    sure = [mention for mention, what in places if what is _Is.code]
    return Found(sure, len(sure) < len(places))


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
    code, prose = codes[schema.answers.index(gold)], _prose(answer.reasoning, context)
    places = list(_places(prose, codes))
    named = [mention for mention, what in places if what is _Is.code]
    return _speaks_for_another(prose, places, code) or any(
        _is_misplaced(answer.reasoning, mention, context) for mention in named
    )


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
        quote = _quoted(found)
        is_known = any(f" {_normal(quote)} " in one for one in known)
        if quote.strip(" .,;:").upper() in context.codes or not is_known:
            return found.group()
        return found.group()[0] + " " * len(quote) + found.group()[-1]

    return _QUOTED.sub(blanked, text)


def _quoted(found: re.Match[str]) -> str:
    return next(part for part in found.groups() if part is not None)


def _places(prose: str, codes: tuple[str, ...]) -> Iterator[tuple[Mention, _Is]]:
    """What is a code, or may be one; of the latter, which."""
    quotes = list(_QUOTED.finditer(prose))
    for match in _WORD.finditer(prose):
        code = _code_of(match.group())
        what = _read(prose, match, code, codes)
        if what is _Is.code and any(_is_inside(quote, match) for quote in quotes):
            what = _Is.doubtful
        if what is not _Is.word:
            yield Mention(match.start(), match.end(), code), what


def _code_of(word: str) -> str:
    """The code that it is in any disguise: `Ｂ`, `OptionB`, `B1`, `b`."""
    plainly = unicodedata.normalize("NFKC", word)
    disguised = _DISGUISED.fullmatch(plainly)
    return disguised[1] if disguised else plainly.upper()


def _read(prose: str, match: re.Match[str], code: str, codes: tuple[str, ...]) -> _Is:
    word = match.group()
    if code not in codes and (not word.isupper() or len(word) > 2 or word == "I"):
        return _Is.word
    before, after = _around(prose, match.start(), match.end())
    named = _NAMED.search(before) is not None
    if code not in codes:
        return _Is.doubtful if named else _Is.word  # "option Z": somebody's code, but nobody knows whose
    if re.match(r"\.\w", after) or re.search(r"\w\.$", before):
        return _Is.word  # of an abbreviation
    if word not in codes:
        return _Is.doubtful if _may_be(word, before, after) or (named and len(word) == 1) else _Is.word
    if _JOINED_BEHIND.match(after) or _JOINED_BEFORE.search(before):
        return _Is.doubtful
    if word == "I" and (said := _as_pronoun(after)) is not None:
        return said
    if named or _MARKED.search(before) or _BEFORE_QUOTE.match(after):
        return _Is.code
    if len(word) > 1 or word == "I" or not _LED.search(before):
        return _Is.doubtful
    if _SENTENCE_BEGINS.search(before) and not _BEFORE_VERB.match(after) and re.match(r"\.?[ \t]+\w", after):
        return _Is.doubtful  # an article, an initial
    return _Is.code


def _may_be(word: str, before: str, after: str) -> bool:
    """Whether what is no code as it stands may be meant for one: `OptionB`, and of small letters `b) fits`."""
    if not word.islower():
        return _DISGUISED.fullmatch(unicodedata.normalize("NFKC", word)) is not None
    if len(word) > 1 or re.search(r"\w['’(/&-]$", before) or re.match(r"['’/&-]\w", after):
        return False  # of a longer word
    if not re.match(r"\s+[\w\"“„«'(*]", after) or _BEFORE_VERB.match(after):
        return True
    return word not in ("a", "i") and _LED_BY_WORD.search(before) is not None


def _as_pronoun(after: str) -> _Is | None:
    if re.match(r"['’]\w", after):
        return _Is.word
    return _Is.doubtful if re.match(r"[ \t]+[a-z]", after) and not _THIRD_PERSON.match(after) else None


def _is_inside(quote: re.Match[str], match: re.Match[str]) -> bool:
    """Among words of somebody whom nobody knows: quoted, but neither from the customer nor from the schema."""
    return quote.start() < match.start() < quote.end() and _quoted(quote).strip(" .,;:") != match.group()


def _is_negated(prose: str, mention: Mention) -> bool:
    before, after = _around(prose, mention.start, mention.end)
    return bool(_NEGATED.search(before) or _DENIED.match(after) or _AMONG_DENIED.match(after))


def _is_chosen(prose: str, mention: Mention) -> bool:
    before, after = _around(prose, mention.start, mention.end)
    said = _CHOSEN_BEFORE.search(before) or _CHOSEN_BEHIND.match(after)
    return bool(said) and not _is_negated(prose, mention)


def _speaks_for_another(prose: str, places: list[tuple[Mention, _Is]], code: str) -> bool:
    """Whether it chooses a code, and not this one, or affirms one, and only denies this one or does not name it.

    Of what is doubtful, `A` and `I` count as words, and others do not condemn a text that does not name this one.
    """
    meant = [m for m, what in places if what is _Is.code or prose[m.start : m.end] not in ("A", "I")]
    affirmed = {mention.code for mention in meant if not _is_negated(prose, mention)}
    chosen = {mention.code for mention in meant if _is_chosen(prose, mention)}
    surely = affirmed & {mention.code for mention, what in places if what is _Is.code}
    others = affirmed if code in {mention.code for mention in meant} else surely
    return (bool(others) and code not in affirmed) or (bool(chosen) and code not in chosen)


def _around(prose: str, start: int, end: int) -> tuple[str, str]:
    return prose[max(0, start - _NEAR) : start], prose[end : end + _NEAR]


def _is_misplaced(text: str, mention: Mention, context: AnswerContext) -> bool:
    """Whether a condition is quoted right beside the code of another category."""
    gap = _BEFORE_QUOTE.match(text, mention.end)
    quotation = gap and _QUOTED.match(text, gap.end())
    if quotation is None:
        return False
    quoted, key = _normal(_quoted(quotation)), context.schema.answers[context.codes.index(mention.code)]
    owners = {c.key for c in conditions(context.schema) if _normal(condition_text(c.text)) == quoted}
    return bool(owners) and key not in owners


def _normal(text: str) -> str:
    return re.sub(r"[^\w]+", " ", plain(text)).strip().lower()
