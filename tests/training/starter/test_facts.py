"""How conditions are worded: what the starter reads ten thousand times must at least be English."""

import random
import re

from training.starter.facts import Matcher
from training.starter.lexicon import ACTIONS, OBJECTS


def wordings(matcher: Matcher) -> set[str]:
    return {matcher.wording(random.Random(seed)) for seed in range(200)}


def test_every_noun_stands_behind_its_own_article() -> None:
    """The words that are not said as they are written are named here, so that a new one is noticed."""
    odd = {"user": "a"}
    for name, thing in OBJECTS.items():
        text = " | ".join(wordings(Matcher(object=name)))
        for noun in thing.defined:
            first = noun.split()[0]
            article = odd.get(first, "an" if first[0] in "aeiou" else "a")
            assert f"writes about {article} {noun}" in text, noun
    firsts = {noun.split()[0] for thing in OBJECTS.values() for noun in thing.defined}
    assert {f for f in firsts if re.match(r"u|eu|one|hour|hon|heir", f)} == set(odd)


def test_no_wording_has_a_before_a_vowel() -> None:
    for name in OBJECTS:
        for action in list(ACTIONS)[:3]:
            text = " | ".join(wordings(Matcher(action, name)))
            assert not re.search(r"\ba [aeio]|\ban [^aeio]", text), text


def test_a_wording_follows_from_its_seed() -> None:
    matcher = Matcher("cancel", "invoice", "moved_house")
    assert matcher.wording(random.Random(1)) == matcher.wording(random.Random(1))
    assert len(wordings(matcher)) > 10
