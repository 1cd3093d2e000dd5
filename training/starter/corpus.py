"""Real English for the starter: utterances and dialogues with intent names, turned into problems like the world's.

The corpus itself is not part of the project; `load` reads the two files where they are given.
"""

import gzip
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from evaluation.contract.perturb import rename_misleading
from evaluation.contract.record import Conversation, Message, Role
from evaluation.contract.render import NONE_TEXT, plain
from evaluation.contract.schema import Category, CategorySchema
from training.starter.intents import INTENTS, Intent
from training.starter.lexicon import OPAQUE_NAMES
from training.starter.problems import NONE_SHARE, ConditionVerdict, DecisionProblem, ProblemExample

_MAX_MESSAGES, _MAX_QUOTE_WORDS, _MAX_MESSAGE_CHARACTERS = 5, 16, 240


class Corpus(NamedTuple):
    """source -> intent -> conversations; held-out intents are left to `held_out_problem`."""

    conversations: dict[str, dict[str, list[tuple[Message, ...]]]]
    texts: list[str]


def load(folder: Path) -> Corpus:
    """Raises: FileNotFoundError where a corpus file is missing."""
    found: dict[str, dict[str, list[tuple[Message, ...]]]] = defaultdict(lambda: defaultdict(list))
    texts = []
    with gzip.open(folder / "utterances.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            texts.append(row["text"])
            found[row["source"]][row["intent"]].append((Message(role=Role.customer, text=row["text"]),))
    with gzip.open(folder / "dialogues.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            messages: list[Message] = []
            for raw in row["messages"]:
                messages.append(Message(role=raw["role"], text=raw["text"][:_MAX_MESSAGE_CHARACTERS]))
                texts.append(raw["text"])
                if raw.get("intent") in INTENTS.get(row["source"], {}):
                    found[row["source"]][raw["intent"]].append(tuple(messages[-_MAX_MESSAGES:]))
    return Corpus({source: dict(intents) for source, intents in found.items()}, texts)


def sample_problem(
    corpus: Corpus, rng: random.Random, size: int, examples: int, *, held: bool = False
) -> DecisionProblem:
    """Categories are intents of one source. held: only intents (one in eight) that training never shows as gold."""
    sources = [s for s in corpus.conversations if len(corpus.conversations[s]) >= size + 1]
    source = rng.choices(sources, [len(corpus.conversations[s]) for s in sources])[0]
    candidates = [i for i in sorted(corpus.conversations[source]) if is_held(i) == held]
    if len(candidates) <= size:
        candidates = sorted(corpus.conversations[source])
    shown = _neighbours(candidates, size + 2, rng)
    outside, chosen = shown[:2], shown[2:]
    allow_none = rng.random() < 0.6
    schema, wording = _schema(source, chosen, allow_none, rng)
    found = []
    for number in range(examples):
        none = allow_none and rng.random() < NONE_SHARE
        intent = rng.choice(outside if none else chosen)
        messages = rng.choice(corpus.conversations[source][intent])
        verdict = (
            ConditionVerdict(None, NONE_TEXT, ())
            if none
            else ConditionVerdict(intent, rng.choice(wording[intent]), ())
        )
        conversation = Conversation(id=f"c{number}", messages=messages, category=verdict.key)
        found.append(ProblemExample(conversation, (_quote(messages),), INTENTS[source][intent].gist, verdict))
    return DecisionProblem(schema, found)


def is_held(intent: str) -> bool:
    return sum(intent.encode()) % 8 == 0


def _neighbours(candidates: list[str], count: int, rng: random.Random) -> list[str]:
    """Half of them share a word of their name with an intent already taken: near misses."""
    pool = list(candidates)
    rng.shuffle(pool)
    taken = [pool.pop()]
    while len(taken) < count and pool:
        words = {word for intent in taken for word in _words(intent)}
        near = [intent for intent in pool if words & set(_words(intent))]
        intent = rng.choice(near) if near and rng.random() < 0.5 else pool[-1]
        pool.remove(intent)
        taken.append(intent)
    rng.shuffle(taken)
    return taken


def _words(intent: str) -> list[str]:
    return intent.lower().replace("/", "_").split("_")


def _schema(
    source: str, intents: list[str], allow_none: bool, rng: random.Random
) -> tuple[CategorySchema, dict[str, list[str]]]:
    style = rng.random()
    opaque = rng.sample(OPAQUE_NAMES, len(intents))
    categories, wording = [], {}
    for intent, code_name in zip(intents, opaque, strict=True):
        known: Intent = INTENTS[source][intent]
        includes = known.includes if rng.random() < 0.3 else ()
        definition = rng.choice(known.definitions)
        name = code_name if style < 0.35 else " ".join(_words(intent))
        categories.append(Category(key=intent, name=name, definition=definition, includes=includes))
        wording[intent] = [definition]
    schema = CategorySchema(name=source, none_of_these=allow_none, categories=tuple(categories))
    return (rename_misleading(schema, rng).schema if style > 0.65 and len(intents) > 1 else schema), wording


def _quote(messages: tuple[Message, ...]) -> str:
    words = plain(messages[-1].text).replace('"', "").split(" ")
    return " ".join(words[:_MAX_QUOTE_WORDS]).rstrip(".!, ")
