"""What is true in the world: issues that customers have, and matchers that categories are defined by."""

import random
from typing import NamedTuple

from training.starter.lexicon import ACTIONS, CIRCUMSTANCES, OBJECTS

_HELD_OBJECTS_PER_ACTION = 6


class Issue(NamedTuple):
    action: str
    object: str
    circumstances: tuple[str, ...] = ()

    @property
    def gist(self) -> str:
        return "; ".join(
            [f"{ACTIONS[self.action].gist} {OBJECTS[self.object].defined[0]}"]
            + [CIRCUMSTANCES[c].gist for c in self.circumstances]
        )


class Matcher(NamedTuple):
    """A condition on an issue; None matches anything. `negated` turns the circumstance around."""

    action: str | None = None
    object: str | None = None
    circumstance: str | None = None
    negated: bool = False

    def matches(self, issue: Issue) -> bool:
        if self.action not in (None, issue.action) or self.object not in (None, issue.object):
            return False
        if self.circumstance is None:
            return True
        return (self.circumstance in issue.circumstances) != self.negated

    @property
    def name(self) -> str:
        circumstance = self.circumstance and ("not " if self.negated else "") + self.circumstance
        parts = [part for part in (self.action, self.object, circumstance) if part]
        return " ".join(parts).replace("_", " ") or "anything"

    def wording(self, rng: random.Random) -> str:
        thing = rng.choice(OBJECTS[self.object].defined) if self.object else None
        deed = rng.choice(ACTIONS[self.action].defined) if self.action else None
        if deed and thing:
            text = rng.choice(_BOTH).format(deed=deed, thing=thing, a_thing=_with_article(thing))
        elif deed:
            text = rng.choice(_DEED).format(deed=deed)
        elif thing:
            text = rng.choice(_THING).format(thing=thing, a_thing=_with_article(thing))
        else:
            text = "the customer"
        if self.circumstance:
            said = rng.choice(CIRCUMSTANCES[self.circumstance].defined)
            if not (deed or thing):
                return f"{rng.choice(('the customer ', ''))}{said}"
            text += f", unless the customer {said}" if self.negated else f", and the customer {said}"
        return text


_BOTH = (
    "the customer wants to {deed} their {thing}",
    "wants to {deed} {a_thing}",
    "asks to {deed} the {thing}",
    "a request to {deed} their {thing}",
    "they would like to {deed} their {thing}",
)
_DEED = (
    "the customer wants to {deed} anything",
    "any request to {deed} something",
    "asks to {deed} whatever it is",
)
_THING = (
    "any request about their {thing}",
    "whatever concerns the {thing}",
    "the customer writes about {a_thing}",
)


def _with_article(noun: str) -> str:
    """The sound decides and not the letter: of the lexicon's nouns only `user account` begins with another one."""
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('user') else 'a'} {noun}"


def _held_pairs() -> frozenset[tuple[str, str]]:
    rng = random.Random(7)
    return frozenset((a, o) for a in ACTIONS for o in rng.sample(list(OBJECTS), _HELD_OBJECTS_PER_ACTION))


HELD_PAIRS = _held_pairs()
"""Action-object pairs that no training conversation has; the starter is measured on them."""


def random_issue(rng: random.Random, like: Matcher, held: bool) -> Issue:
    """An issue that `like` matches, whose action-object pair is (not) one of HELD_PAIRS.

    Raises: ValueError where `like` fixes a pair of the other kind.
    """
    for _ in range(200):
        action = like.action or rng.choice(list(ACTIONS))
        thing = like.object or rng.choice(list(OBJECTS))
        if ((action, thing) in HELD_PAIRS) == held:
            break
    else:
        raise ValueError(f"{like} fixes a pair that {'is' if not held else 'is not'} held out")
    circumstances = [] if like.negated or not like.circumstance else [like.circumstance]
    if rng.random() < 0.35:
        extra = rng.choice(list(CIRCUMSTANCES))
        if extra not in circumstances and not (like.negated and extra == like.circumstance):
            circumstances.append(extra)
    return Issue(action, thing, tuple(circumstances))
