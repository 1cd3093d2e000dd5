"""Names of people, taken out where their place tells what they are: `[name]`.

No list of names is kept and no model is asked: a name is what stands behind a title (`Mr`, `Frau`) or `my name is`, in
a salutation, or below a closing phrase, in English, German, French, Spanish, Italian and Dutch. What one message tells
so is taken out of the whole conversation. A name that only stands in the middle of a sentence stays, and a word that
stands where names do is taken for one.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Final, NamedTuple

MARK: Final = "[name]"
_MOST_WORDS: Final = 4  # of a name
_MOST_LOWER: Final = 2  # of one that is not written with capitals
_MOST_KNOWN: Final = 100  # words of names, of one conversation
_SHORTEST: Final = 3  # letters of a word that is looked for elsewhere

_WORD: Final = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_])){0,39}")
_WORDS: Final = json.loads(
    files("evaluation.formats").joinpath("name_words.json").read_text(encoding="utf-8")
)
_PARTICLES: Final = frozenset(_WORDS["particles"])
_NO_NAMES: Final = frozenset(_WORDS["no_names"])  # they stand where names do
_SPACE: Final = r"[ \t\u00a0]{1,4}"
_GAP: Final = re.compile(_SPACE)
_LINE: Final = r"(?:\A|\n)[ \t>]{0,8}"
_GREETING: Final = (
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day)|hallo|moin|liebe[rs]?|sehr geehrte[rs]?"
    r"|guten (?:tag|morgen|abend)|bonjour|bonsoir|salut|ch(?:er|ère)|hola|buen[oa]s (?:días|dias|tardes)"
    r"|estimad[oa]|ciao|buongiorno|gentile|car[oa]|hoi|beste|geachte)"
)
_CLOSING: Final = (
    r"(?:(?:(?:kind|kindest|best|warm|warmest|many) )?regards|(?:best|kind|warm) wishes|all the best|sincerely"
    r"|(?:yours|respectfully)(?: (?:sincerely|truly|faithfully))?|cheers|many thanks"
    r"|(?:thanks|thank you|thx|danke|merci|gracias|grazie|bedankt)"
    r"(?: (?:a lot|again|so much|very much|in advance|im voraus|schön|beaucoup|mille))?"
    r"|(?:mit )?(?:(?:freundlichen?|besten?|lieben?|vielen?|schönen?) )?gr(?:ü|ue)(?:ß|ss)en?|mfg|lg|vg"
    r"|cordialement|bien à vous|(?:un )?saludos?|atentamente|(?:cordiali )?saluti|(?:met vriendelijke )?groeten?"
    r"|groetjes)"
)


class _Place(NamedTuple):
    """Where a name may begin: behind what matches. lower: also without a capital. ends: what has to follow it."""

    before: re.Pattern[str]
    lower: bool
    ends: re.Pattern[str] | None


_IN_A_LINE: Final = re.compile(r"[ \t]{0,4}(?:[,!.:;–-]|\r?\n|\Z)")
_LINE_END: Final = re.compile(r"[ \t]{0,4}[.!,]?[ \t]{0,4}(?:\r?\n|\Z)")
_AFTER_THIS_IS: Final = re.compile(
    r"[ \t]{0,4}(?:[,!.;–-]|\r?\n|\Z)"
    r"|[ \t]{1,4}(?:from|here|speaking|calling|writing|again|and|with|aus|von|und|am apparat)\b"
)


def _place(
    before: str, *, lower: bool = False, ends: re.Pattern[str] | None = None, exact: bool = False
) -> _Place:
    return _Place(re.compile(before, re.NOFLAG if exact else re.IGNORECASE), lower, ends)


_PLACES: Final = (
    _place(
        r"\b(?:my (?:(?:full|first|last|sur|family) ?)?name(?:['’]s| is|:)|i['’ ]a?m called|mein (?:vor|nach)?name ist"
        rf"|ich hei(?:ß|ss)e|je m['’]appelle|mon nom est|me llamo|mi nombre es|mi chiamo|il mio nome è|ik heet"
        rf"|mijn naam is){_SPACE}",
        lower=True,
    ),
    _place(
        rf"{_LINE}(?:(?:full|first|last|family|customer|contact|account) )?(?:name|vorname|nachname|nom|nombre|nome"
        rf"|naam)[ \t]{{0,4}}[:=][ \t]{{0,4}}",
        lower=True,
    ),
    _place(
        rf"\A\s{{0,8}}(?:{_GREETING}[ \t]{{0,4}}[,.!]{{0,2}}\s{{0,8}})?(?:i am|i['’]m|this is|it['’]s|ich bin|hier ist"
        rf"|hier spricht){_SPACE}",
        ends=_AFTER_THIS_IS,
    ),
    _place(
        r"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herrn?|Frau|Mme|Mlle|Monsieur|Madame|Señora?|Sra?|Signora?|Mevrouw|Meneer)"
        rf"(?:\.[ \t]{{0,4}}|{_SPACE})",
        exact=True,
    ),
    _place(rf"\bmrs?(?:\.[ \t]{{0,4}}|{_SPACE})", lower=True, exact=True),
    _place(r"\b(?:ms|dr|prof)\.[ \t]{1,4}", exact=True),
    _place(rf"{_LINE}{_GREETING}{_SPACE}", ends=_IN_A_LINE),
    _place(
        rf"(?:{_LINE}|[.!?,;)][ \t]{{1,4}}){_CLOSING}[ \t]{{0,4}}[,.!–-]{{0,2}}[ \t]{{1,4}}", ends=_LINE_END
    ),
    _place(
        rf"(?:{_LINE}|[.!?,;)][ \t]{{1,4}}){_CLOSING}[ \t]{{0,4}}[,.!]{{0,2}}[ \t]{{0,4}}\r?\n\s{{0,8}}",
        lower=True,
        ends=_LINE_END,
    ),
    _place(r"\n[ \t]{0,8}[-–—~]{1,2}[ \t]{0,4}", ends=re.compile(r"[ \t]{0,4}\.?\s{0,8}\Z")),
)

# What people call a field that holds a name; `product name` is none.
_FIELD: Final = re.compile(
    r"(?:(?:full|first|last|family|middle|sur|customer|client|contact|agent|user|account|holder|sender|caller)[ _-]?)*"
    r"name|vorname|nachname|kundenname|nom|prénom|nombre|apellidos?|cognome|naam|voornaam|achternaam"
)


def is_of_a_name(field: str) -> bool:
    """field: what metadata calls a value."""
    return _FIELD.fullmatch(field.strip().lower()) is not None


def told_in(texts: Iterable[str]) -> frozenset[str]:
    """Words of the names that these messages tell, as they are written."""
    words: set[str] = set()
    for text in texts:
        for begin, end in _told(text):
            words |= {word for word in _WORD.findall(text[begin:end]) if word not in _PARTICLES}
            if len(words) > _MOST_KNOWN:
                return frozenset(sorted(words)[:_MOST_KNOWN])
    return frozenset(words)


def without_names(text: str, known: frozenset[str], count: Counter[str]) -> str:
    """known: of the conversation. count: gets how many were taken out."""
    found = [*_told(text), *_elsewhere(text, known)]
    spans = sorted(found, key=lambda span: (span[0], -span[1]))
    pieces, passed = [], 0
    for begin, end in spans:
        if begin < passed:
            continue
        pieces += [text[passed:begin], MARK]
        passed = end
        count[MARK[1:-1]] += 1
    return "".join([*pieces, text[passed:]])


def _told(text: str) -> Iterator[tuple[int, int]]:
    for place in _PLACES:
        for found in place.before.finditer(text):
            end = _end_of_name(text, found.end(), lower=place.lower)
            if end is not None and (place.ends is None or place.ends.match(text, end)):
                yield found.end(), end


def _end_of_name(text: str, begin: int, *, lower: bool) -> int | None:
    """None where no name begins there. lower: words without a capital count too."""
    end, at, words = None, begin, 0
    while words < _MOST_WORDS and (found := _WORD.match(text, at)):
        word = found[0]
        particle = word in _PARTICLES
        if not particle and not _fits(word, words, lower=lower):
            break
        words += 1
        at = found.end() + (text[found.end() : found.end() + 1] == "." and len(word) == 1)
        end = end if particle else at
        gap = _GAP.match(text, at)
        if gap is None:
            break
        at = gap.end()
    return end


def _fits(word: str, before: int, *, lower: bool) -> bool:
    """before: words of the name before it. Where everything is in capitals they say as little as none."""
    if word.lower() in _NO_NAMES:
        return False
    capital = word[0].isupper() and not (len(word) > 1 and word.isupper())
    return capital or (before < _MOST_LOWER and (lower or word.isupper()))


def _elsewhere(text: str, known: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Names that were told in another place, with a capital: without one `mark` and `rose` are words like others."""
    long = [word for word in known if len(word) >= _SHORTEST]
    wanted = {form for word in long for form in (word[0].upper() + word[1:], word.capitalize())}
    if not wanted:
        return iter(())
    one = "|".join(map(re.escape, sorted(wanted, key=lambda word: (-len(word), word))))
    pattern = re.compile(rf"(?<![\w'’-])(?:{one})(?:(?: [^\W\d_]\.)? (?:{one}))*(?![^\W_])")
    return (found.span() for found in pattern.finditer(text))
