"""`python -m evaluation.tools.follower …` says what the suite would find of a model that follows every edit and
misreads some conversations: how much these held-out conversations can show, before anything is trained or asked.

A conversation is misread as one of another answer, always the same one, also under the edits. So what such a model's
steerability lacks to 1 is the noise of shares of few conversations, not a lack of following.

Exit codes: 0 said; 2 bad input.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from evaluation.command import CommandInputError, exit_code, read_conversations
from evaluation.contract import score
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.contract.score import Moved
from evaluation.formats.reader import Reader
from evaluation.gating.policy import load_policy
from evaluation.suites import steerability
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite
from evaluation.terminal import steady


class FollowerMeasures(NamedTuple):
    """answers: under edits that count, which have `edits` of the suite."""

    steerability: float
    flip_accuracy: float
    answers: int
    edits: int


def follow(suite: Suite, right: float, rng: random.Random) -> FollowerMeasures:
    """right: the chance of a conversation to be read as its label says."""
    counted = load_policy().families.counted
    answers = sorted({item.gold_before for item in suite.items}, key=str)
    read: dict[str, str | None] = {}
    for item in suite.items:
        if item.conversation_id not in read:
            others = [one for one in answers if one != item.gold_before]
            misread = others and rng.random() >= right
            read[item.conversation_id] = rng.choice(others) if misread else item.gold_before
    moved = []
    for item in suite.items:
        edit = suite.perturbations[item.perturbation]
        if item.perturbation and edit.family in counted:
            before = read[item.conversation_id]
            after = edit.gold(before, item.conversation_id)
            moved.append(Moved(item.perturbation, item.gold_before, item.gold_after, before, after, after))
    edits = {one.perturbation for one in moved}
    compared = [suite.answers(p) if p in edits else () for p in range(len(suite.perturbations))]
    return FollowerMeasures(
        score.steerability(moved, compared), score.flip_accuracy(moved), len(moved), len(edits)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    steady()
    return exit_code(_run(_parser().parse_args(arguments)), {SuiteError: 2, score.NothingMeasured: 2})


async def _run(given: argparse.Namespace) -> str:
    schema = parse_schema(given.schema.read_bytes())
    if given.draws < 2 or not all(0 <= right <= 1 for right in given.right):
        raise CommandInputError("--draws: 2 at least; --right: from 0 to 1")
    conversations = read_conversations(Reader(given.conversations, schema), given.conversations)
    whole = all(c.split is None for c in conversations)
    held_out = [c for c in conversations if c.labelled and (whole or c.split is given.split)]
    size = min(given.of or len(held_out), len(held_out))
    lines = []
    for right in given.right:
        drawn = [_draw(schema, held_out, size, given.max_items, right, n) for n in range(given.draws)]
        found = [one.steerability for one in drawn]
        lines.append(
            f"right {right:.2f}: steerability {fmean(found):.2f} (standard deviation {stdev(found):.2f}, "
            f"{min(found):.2f} to {max(found):.2f} in {len(found)} draws), flip accuracy "
            f"{fmean(one.flip_accuracy for one in drawn):.2f}; {size} conversations, "
            f"{drawn[0].answers} answers under {drawn[0].edits} edits"
        )
    return "\n".join(lines)


def _draw(
    schema: CategorySchema, held_out: Sequence[Conversation], size: int, most: int, right: float, seed: int
) -> FollowerMeasures:
    rng = random.Random(seed)
    suite = steerability.build(schema, rng.sample(held_out, size), seed=seed, max_items=most)
    return follow(suite, right, rng)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.tools.follower", description=__doc__)
    add = parser.add_argument
    add("--schema", type=Path, required=True)
    add("--conversations", type=Path, required=True, help="labelled, JSONL or CSV")
    add("--split", type=Split, default=Split.test, help="default: test; without splits it is every row")
    add("--of", type=int, help="so many of the held-out conversations, drawn anew each time; default: all")
    add("--right", type=float, nargs="+", default=[0.8, 0.9], help="how often it is right; default: 0.8 0.9")
    add("--max-items", type=int, default=1200, help="questions in all; default: 1200")
    add("--draws", type=int, default=16, help="suites and misreadings; default: 16")
    return parser


if __name__ == "__main__":
    sys.exit(main())
