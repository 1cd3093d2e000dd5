"""Tenants of whom the base as it stands is asked: some of their conversations, and others to tune by.

Nothing learns from them here, so the splits of a file only say who is asked first: those held out for tests.
"""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from app.errors import InputError
from app.runs.inputs import placed
from app.studies import subjects
from evaluation.contract import overlap
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from training.base.businesses import FOR_BENCH, FOR_GATES

SHIPPED: Final = tuple(f"business:{name}" for name in FOR_GATES)
_UNSEEN: Final = frozenset(FOR_GATES + FOR_BENCH)


class TenantSample(NamedTuple):
    """asked, tuning: labelled, and no conversation of one says what one of the other says."""

    name: str
    schema: CategorySchema
    asked: list[Conversation]
    tuning: list[Conversation]


def draw(sources: Sequence[str], asked: int, tuning: int, seed: int) -> list[TenantSample]:
    """sources: as `subjects.load` takes them. asked, tuning: conversations of each; of one with fewer, tuning comes
    first, so that what it finds can be found.

    Raises: InputError.
    """
    names = [subjects.title(source) for source in sources]
    if len(set(names)) < len(names):
        raise InputError(f"a tenant is named twice among {', '.join(names)}; name each once")
    return [_of(source, asked, tuning, seed) for source in sources]


def _of(source: str, asked: int, tuning: int, seed: int) -> TenantSample:
    kind, _, name = source.partition(":")
    if kind == "business" and name not in _UNSEEN:
        known = ", ".join(sorted(_UNSEEN))
        raise InputError(f"the base has learned from {source}, or there is none; it has seen none of {known}")
    subject = subjects.load(source, seed)
    labelled = [c for c in subject.conversations if c.labelled]
    splits, _ = overlap.judgeable(placed(labelled))
    rng, distinct = random.Random(f"sample-{seed}"), dict[str, Conversation]()
    for some in (
        splits[Split.test],
        [c for split in Split if split is not Split.test for c in splits[split]],
    ):
        for conversation in rng.sample(some, len(some)):
            distinct.setdefault(overlap.alike(conversation), conversation)
    ordered = list(distinct.values())
    count = min(asked, len(ordered) - tuning)
    if count < 1:
        raise InputError(f"{source} has {len(ordered)} labelled conversations; {tuning + 1} are needed")
    return TenantSample(
        subjects.title(source), subject.category_schema, ordered[:count], ordered[count : count + tuning]
    )
