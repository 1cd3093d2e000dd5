"""Whether answers hold while a conversation goes on.

The label is the whole conversation's. A change of the answer can be right where the customer changes the subject, so
flips are compared between models, and are no error by themselves.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from evaluation.contract.record import Role
from evaluation.contract.score import UNPARSABLE, Given
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics import sample_scores
from evaluation.metrics.measures import Measure, mean, rate
from evaluation.suites.turns import Prefix, TurnsSuite

EXAMPLES = 4


class Turn(BaseModel):
    """said: by the customer since the turn before."""

    model_config = ConfigDict(frozen=True)

    said: str
    answer: str | None  # None: none of these, or unreadable where `unparsable`
    unparsable: bool


class FlippingConversation(BaseModel):
    model_config = ConfigDict(frozen=True)

    conversation_id: str
    gold: str | None
    turns: list[Turn]


class AtTurn(BaseModel):
    """turns_left: customer messages still to come, in the conversations that are as long. The fewer, the more the
    label of the whole conversation can be expected of an answer.
    """

    model_config = ConfigDict(frozen=True)

    turns_left: int
    accuracy: Measure


class TurnsReport(BaseModel):
    """flips: of the answer from one turn to the next, per conversation. An unreadable answer is one of its own.

    first_is_final: the share whose first answer is that of the whole conversation, whatever came between.
    regressed: the share where the label was answered at one turn and not at the next.
    thinned: conversations too long for every turn to be asked; between two that were, flips are not seen.
    """

    model_config = ConfigDict(frozen=True)

    suite_sha256: str
    conversations: int
    errored: int  # conversations left out because some turn of theirs got no answer
    thinned: int
    flips: Measure
    flipping: Measure
    first_is_final: Measure
    regressed: Measure
    by_turns_left: list[AtTurn]
    examples: list[FlippingConversation]


class _Replay(NamedTuple):
    items: Sequence[Prefix]
    given: Sequence[Given]

    @property
    def gold(self) -> str | None:
        return self.items[-1].conversation.category

    @property
    def right(self) -> list[bool]:
        return [given == self.gold for given in self.given]

    @property
    def flips(self) -> int:
        return sum(before != after for before, after in pairwise(self.given))

    @property
    def regressed(self) -> bool:
        return any(before and not after for before, after in pairwise(self.right))

    @property
    def thinned(self) -> bool:
        return len(self.items) < self.items[-1].of


def score(suite: TurnsSuite, measured: Sequence[Measured], threshold: float | None = None) -> TurnsReport:
    """measured: of the suite's questions, or of some of them. threshold: as in traffic, below it none of these."""
    asked, replays = _replays(suite, measured, threshold)
    n = len(replays)
    return TurnsReport(
        suite_sha256=suite.sha256,
        conversations=n,
        errored=asked - n,
        thinned=sum(replay.thinned for replay in replays),
        flips=mean([float(replay.flips) for replay in replays]),
        flipping=rate(sum(replay.flips > 0 for replay in replays), n),
        first_is_final=rate(sum(replay.given[0] == replay.given[-1] for replay in replays), n),
        regressed=rate(sum(replay.regressed for replay in replays), n),
        by_turns_left=_by_turns_left(replays),
        examples=[_example(r) for r in sorted(replays, key=lambda r: -r.flips) if r.flips][:EXAMPLES],
    )


def _replays(
    suite: TurnsSuite, measured: Sequence[Measured], threshold: float | None
) -> tuple[int, list[_Replay]]:
    """How many conversations were asked, and those that were answered at every turn."""
    asked = {suite.items[m.item].conversation.id for m in measured}
    given = {
        m.item: sample_scores.sample_score(m).given(threshold)
        for m in measured
        if m.outcome is not Outcome.errored
    }
    replays = []
    for _, group in groupby(enumerate(suite.items), key=lambda numbered: numbered[1].conversation.id):
        numbers, items = zip(*group, strict=True)
        if all(number in given for number in numbers):
            replays.append(_Replay(items, [given[number] for number in numbers]))
    return len(asked), replays


def _by_turns_left(replays: Sequence[_Replay]) -> list[AtTurn]:
    right: dict[int, list[bool]] = {}
    for replay in replays:
        for item, hit in zip(replay.items, replay.right, strict=True):
            right.setdefault(item.left, []).append(hit)
    return [
        AtTurn(turns_left=left, accuracy=rate(sum(hits), len(hits))) for left, hits in sorted(right.items())
    ]


def _example(replay: _Replay) -> FlippingConversation:
    starts = [0, *(len(item.conversation.messages) for item in replay.items)]
    turns = [
        Turn(
            said=_said(item, start),
            answer=None if given is UNPARSABLE else given,
            unparsable=given is UNPARSABLE,
        )
        for item, given, start in zip(replay.items, replay.given, starts, strict=False)
    ]
    return FlippingConversation(
        conversation_id=replay.items[-1].conversation.id, gold=replay.gold, turns=turns
    )


def _said(item: Prefix, start: int) -> str:
    """By the customer, from the message at `start` on."""
    added = item.conversation.messages[start:]
    return " … ".join(m.text for m in added if m.role is Role.customer and m.text.strip())
