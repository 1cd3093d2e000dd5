"""The steerability suite: controlled edits of a schema, and the conversations that show whether answers follow.

Two choices matter to the measure. An edit moves several categories at once, and it draws unequal numbers of examples
from categories that exchange their meanings: equal numbers would cancel in the marginals, and a model that ignores
the edit would look the same as one that follows it. Accuracy is measured on a plain random sample (`natural`),
because a stratified one has no majority to over-select.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from evaluation.contract import perturb
from evaluation.contract.perturb import Perturbed
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.runner import Question, Questions
from evaluation.suites.drawing import WHY_NONE, ByCategory, Drawing, by_category
from evaluation.suites.families import SEEN, SuiteError

VERSION = 3  # raised when the same schema and conversations would give another suite
MUST_MOVE_SHARE = 2 / 3
IDENTITY_SHARE = 0.25  # of the budget; the edits need most of it, for a verdict on single answers that stay
_ONE = "the schema has one category"
LEAST_PER_CATEGORY = 12
LEAST_PER_PERTURBATION = 12


class SuiteItem(NamedTuple):
    conversation_id: str
    perturbation: int  # 0 is the schema as it is
    gold_before: str | None
    gold_after: str | None
    natural: bool = False

    @property
    def must_move(self) -> bool:
        return self.gold_after != self.gold_before


class Suite(NamedTuple):
    schema: CategorySchema
    perturbations: tuple[Perturbed, ...]
    items: tuple[
        SuiteItem, ...
    ]  # in order of perturbation, so that requests that share a prompt prefix go together
    conversations: Mapping[str, Conversation]
    seed: int
    left_out: Mapping[str, str] = {}  # families that were asked for and have no edit, and why

    @property
    def sha256(self) -> str:
        """Of everything that a prediction or a score depends on."""
        content = {
            "perturbations": [
                [p.family, p.detail, p.schema.sha256, dict(p.moves), sorted(p.apart.ids)]
                for p in self.perturbations
            ],
            "items": [list(item) for item in self.items],
            "conversations": {
                c.id: [[m.role, m.text] for m in c.messages] for c in self.conversations.values()
            },
            "seed": self.seed,
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def questions(self) -> Questions:
        each = (
            Question(self.perturbations[item.perturbation].schema, self.conversations[item.conversation_id])
            for item in self.items
        )
        return Questions(self.sha256, tuple(each))

    def answers(self, perturbation: int) -> tuple[str | None, ...]:
        """Those whose shares can show that answers follow the edit: categories before and after it, and none of these.

        A category that was taken away loses its share whatever a model does, and a new one can only gain.
        """
        before = (*self.schema.answers, None)
        return tuple(a for a in self.perturbations[perturbation].schema.answers if a in before)


def build(
    schema: CategorySchema,
    conversations: Iterable[Conversation],
    *,
    seed: int = 0,
    max_items: int = 1200,
    per_family: int = 4,
    families: Sequence[str] = tuple(SEEN),
    rewordings: Mapping[str, CategorySchema] = {},
) -> Suite:
    """max_items: requests in all, those of the unperturbed schema included. rewordings: by their origin.

    Raises: SuiteError where no conversation has a label of this schema, or a rewording is of another one.
    """
    unknown = sorted(set(families) - SEEN.keys())
    if unknown:
        raise SuiteError(f"there is no family {', '.join(unknown)}; there are {', '.join(SEEN)}")
    rng = random.Random(seed)
    labelled = sorted(
        (c for c in conversations if c.labelled and c.category in schema.answers), key=lambda c: c.id
    )
    if not labelled:
        raise SuiteError("no held-out conversation has a label of this schema; the gate needs labelled ones")
    natural, pool = _pool(labelled, int(max_items * IDENTITY_SHARE), rng)
    grouped = by_category(pool)
    most = (max_items - len(pool)) // (len(families) * LEAST_PER_PERTURBATION)
    drawing = Drawing(schema, pool, grouped, rewordings, max(1, min(per_family, most)), rng)
    made = {family: drawing.of(family) for family in families}
    perturbations = (perturb.identity(schema), *(edit for edits in made.values() for edit in edits))
    left_out = {family: WHY_NONE.get(family, _ONE) for family, edits in made.items() if not edits}
    items = [SuiteItem(c.id, 0, c.category, c.category, c.id in natural) for c in pool]
    each = max(0, max_items - len(pool)) // max(1, len(perturbations) - 1)
    for index, perturbed in enumerate(perturbations[1:], start=1):
        chosen = _examples(perturbed, grouped, each, rng)
        items += [SuiteItem(c.id, index, c.category, perturbed.gold(c.category, c.id)) for c in chosen]
    return Suite(schema, perturbations, tuple(items), {c.id: c for c in pool}, seed, left_out)


def _examples(
    perturbed: Perturbed, grouped: ByCategory, count: int, rng: random.Random
) -> list[Conversation]:
    if perturbed.apart.ids:
        return _told_apart(perturbed, grouped, count, rng)
    moving = [key for key in perturbed.moves if grouped.get(key)]
    still = [category for category in grouped if category not in perturbed.moves]
    must_move = round(count * (MUST_MOVE_SHARE if still else 1)) if moving else 0
    chosen = _unequal(perturbed, grouped, must_move, rng)
    return chosen + _spread({c: grouped[c] for c in still}, count - must_move, rng)


def _told_apart(
    perturbed: Perturbed, grouped: ByCategory, count: int, rng: random.Random
) -> list[Conversation]:
    """Where single conversations move: as they come, so that categories move in unequal numbers."""
    moving: list[Conversation] = []
    still: list[Conversation] = []
    for conversation in (c for members in grouped.values() for c in members):
        moves = perturbed.gold(conversation.category, conversation.id) != conversation.category
        (moving if moves else still).append(conversation)
    must_move = round(count * (MUST_MOVE_SHARE if still else 1))
    chosen = rng.sample(moving, min(len(moving), must_move))
    return chosen + _spread(by_category(still), count - must_move, rng)


def _unequal(perturbed: Perturbed, grouped: ByCategory, count: int, rng: random.Random) -> list[Conversation]:
    """3 : 1 of two categories that exchange their meanings, 5 : 3 : 1 around a cycle of three, and so on.

    Of a ring that has not enough of one category, fewer of all: whatever there is of each would be equal numbers.
    """
    available = {key: grouped.get(key, ()) for key in perturbed.moves}
    rings = _rings(perturbed.moves, sorted(available, key=lambda key: -len(available[key])))
    parts = {key: 2 * (len(ring) - i) - 1 for ring in rings for i, key in enumerate(ring)}
    wanted: dict[str, int] = {}
    for ring in rings:
        there = [len(available[key]) / parts[key] for key in ring if available[key]]
        scale = min([count / sum(parts.values()), *there])
        wanted |= {key: round(scale * parts[key]) for key in ring}
    return [
        one
        for key, members in available.items()
        for one in rng.sample(members, min(len(members), wanted[key]))
    ]


def _rings(moves: Mapping[str, str | None], starts: list[str]) -> list[list[str]]:
    """The orbits of the moves; a dropped category is an orbit of its own."""
    left, rings = set(starts), []
    for start in starts:
        ring: list[str] = []
        here: str | None = start
        while here is not None and here in left:
            left.remove(here)
            ring.append(here)
            here = moves[here]
        if ring:
            rings.append(ring)
    return rings


def _spread(grouped: ByCategory, count: int, rng: random.Random) -> list[Conversation]:
    """Round by round one of each category, so that rare ones are not lost."""
    shuffled = [rng.sample(list(members), len(members)) for members in grouped.values()]
    rng.shuffle(shuffled)
    longest = max((len(members) for members in shuffled), default=0)
    rounds = [members[i] for i in range(longest) for members in shuffled if i < len(members)]
    return rounds[: max(0, count)]


def _pool(
    labelled: Sequence[Conversation], budget: int, rng: random.Random
) -> tuple[set[str], list[Conversation]]:
    """A plain random sample, and with it enough of every category for the edits to have something to move."""
    drawn = rng.sample(labelled, min(len(labelled), max(1, budget)))
    natural = {c.id for c in drawn}
    pool = list(drawn)
    have = {category: len(members) for category, members in by_category(drawn).items()}
    grouped = by_category(labelled)
    least = min(LEAST_PER_CATEGORY, budget // len(grouped))
    for category, members in grouped.items():
        missing = max(0, least - have.get(category, 0))
        others = [c for c in members if c.id not in natural]
        pool += rng.sample(others, min(len(others), missing))
    return natural, sorted(pool, key=lambda c: c.id)
