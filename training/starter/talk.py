"""How customers and agents of the world talk: an issue becomes a conversation."""

import random
from typing import NamedTuple

from evaluation.contract.record import Message, Role
from training.starter.facts import Issue
from training.starter.lexicon import (
    ACTIONS,
    AGENT_LINES,
    CIRCUMSTANCES,
    CLOSINGS,
    DONE_LINES,
    GREETINGS,
    OBJECTS,
    SMALLTALK,
    SWITCH_LINES,
)

_OWNERS = ("my", "my", "my", "the", "our")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Style(NamedTuple):
    """How one customer types; drawn once a conversation."""

    capitals: bool
    ending: str
    typo_rate: float  # share of words with one typing error


class Utterance(NamedTuple):
    messages: tuple[Message, ...]
    quotes: tuple[str, ...]  # the customer's own words for the issue, then for each circumstance


def tell(
    issue: Issue, rng: random.Random, *, noun: str | None = None, earlier: Issue | None = None
) -> Utterance:
    """A conversation whose last issue is `issue`. noun: what the customer calls the object, where it is jargon."""
    style = _style(rng)
    sentences = [_issue_sentence(issue, noun, rng)]
    sentences += [rng.choice(CIRCUMSTANCES[c].said) for c in issue.circumstances]
    quotes = tuple(_typed(sentence, style, rng) for sentence in sentences)
    core = list(quotes)
    rng.shuffle(core)
    if rng.random() < 0.2:
        core.insert(rng.randrange(len(core) + 1), _typed(rng.choice(SMALLTALK), style, rng))
    messages = []
    greeting = [rng.choice(GREETINGS)] if rng.random() < 0.5 else []
    if earlier is not None:
        messages += [_say([*greeting, _issue_sentence(earlier, None, rng)], style), _agent(rng)]
        core.insert(0, ", ".join((rng.choice(DONE_LINES), rng.choice(SWITCH_LINES))))
    elif rng.random() < 0.25:
        messages += (
            [_agent(rng)]
            if rng.random() < 0.5
            else [_say([*greeting, rng.choice(SMALLTALK)], style), _agent(rng)]
        )
    elif greeting:
        core.insert(0, greeting[0])
    if rng.random() < 0.35:
        core.append(rng.choice(CLOSINGS))
    if len(core) > 2 and rng.random() < 0.3:
        cut = rng.randrange(1, len(core))
        messages += (
            [_say(core[:cut], style)]
            + ([_agent(rng)] if rng.random() < 0.5 else [])
            + [_say(core[cut:], style)]
        )
    else:
        messages.append(_say(core, style))
    if rng.random() < 0.15:
        messages += [_agent(rng), _say([rng.choice(_FOLLOW_UPS).format(n=rng.randrange(1000, 99999))], style)]
    return Utterance(tuple(messages), quotes)


_FOLLOW_UPS = (
    "ok",
    "yes",
    "sure",
    "it is {n}",
    "my number is {n}",
    "ok thanks",
    "no that is all",
    "here it is, {n}",
)


def _issue_sentence(issue: Issue, noun: str | None, rng: random.Random) -> str:
    thing = noun or rng.choice(OBJECTS[issue.object].said)
    owner = rng.choice(_OWNERS) if not noun or rng.random() < 0.7 else "the"
    return rng.choice(ACTIONS[issue.action].said).format(o=f"{owner} {thing}")


def _style(rng: random.Random) -> Style:
    return Style(
        capitals=rng.random() < 0.4,
        ending=rng.choice((". ", ". ", " ", ", ", "! ")),
        typo_rate=rng.choice((0.0, 0.0, 0.0, 0.04, 0.1)),
    )


def _typed(sentence: str, style: Style, rng: random.Random) -> str:
    words = [_typo(word, rng) if rng.random() < style.typo_rate else word for word in sentence.split(" ")]
    return _cased(" ".join(words), style)


def _cased(text: str, style: Style) -> str:
    if not style.capitals:
        return text
    words = ["I" if word == "i" else word for word in text.split(" ")]
    return " ".join(words)[:1].upper() + " ".join(words)[1:]


def _typo(word: str, rng: random.Random) -> str:
    if len(word) < 4:
        return word
    at = rng.randrange(1, len(word) - 1)
    match rng.randrange(4):
        case 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case 1:
            return word[:at] + word[at + 1 :]
        case 2:
            return word[:at] + word[at] + word[at:]
        case _:
            return word[:at] + rng.choice(_LETTERS) + word[at + 1 :]


def _say(sentences: list[str], style: Style) -> Message:
    text = style.ending.join(_cased(sentence, style) for sentence in sentences)
    return Message(role=Role.customer, text=text + style.ending.rstrip(" ,"))


def _agent(rng: random.Random) -> Message:
    text = rng.choice(AGENT_LINES)
    return Message(role=Role.agent, text=text[:1].upper() + text[1:] + ".")
