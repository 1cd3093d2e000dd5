"""What is drawn when: short schemas of real utterances first, then businesses whose conditions decide.

Looking a code up comes suddenly, and everything waits for it: until then one small tree is a step. Short schemas and
many steps first, then whole schemas, more trees a step and a falling rate.
"""

import random
from typing import Final, NamedTuple

from training.base import businesses
from training.base.businesses import Business, BusinessDraw
from training.base.trees import Mix
from training.starter import corpus as utterances
from training.starter import problems
from training.starter.problems import DecisionProblem


class Shares(NamedTuple):
    """How often a tree is of which source. further: businesses with other definitions and fewer conversations."""

    corpus: float
    business: float
    further: float
    yes_or_no: float
    world: float


class LessonPhase(NamedTuple):
    """until: share of the training, 0..1. room: tokens of a tree. trees: in one step."""

    until: float
    shares: Shares
    draw: BusinessDraw
    mix: Mix
    room: int
    trees: int


PHASES: Final = (
    LessonPhase(0.08, Shares(1.0, 0.0, 0.0, 0.0, 0.0), BusinessDraw((2, 4), 0.0), Mix(0.5, 0.0), 700, 1),
    LessonPhase(
        0.17, Shares(0.60, 0.13, 0.12, 0.03, 0.12), BusinessDraw((1, 7), 0.0), Mix(0.5, 0.05), 1100, 1
    ),
    LessonPhase(
        0.45, Shares(0.33, 0.28, 0.27, 0.05, 0.07), BusinessDraw((2, 14), 0.35), Mix(0.5, 0.1), 2200, 1
    ),
    LessonPhase(
        1.01, Shares(0.30, 0.30, 0.30, 0.05, 0.05), BusinessDraw((2, 24), 0.60), Mix(0.5, 0.1), 2600, 2
    ),
)
CORPUS_SIZES: Final = (
    1,
    20,
)  # a schema is larger than its phase's sizes at times, so that long ones are known
FAR: Final = 0.3  # of the conversations under none of these: said to quite another business


class Source:
    """Problems of every kind. corpus: None where it is not there; businesses take its share."""

    def __init__(self, shops: list[Business], further: list[Business], corpus: utterances.Corpus | None):
        self.shops, self.further, self.corpus = shops, further, corpus

    def problem(self, phase: LessonPhase, rng: random.Random) -> DecisionProblem:
        shares = phase.shares
        kind = rng.choices(Shares._fields, shares)[0]
        if kind == "corpus" and self.corpus is not None:
            return self._corpus(self.corpus, phase, rng)
        if kind == "yes_or_no":
            return businesses.yes_or_no(self.shops + self.further, rng, 14)
        if kind == "world":
            return problems.sample_problem(rng, rng.randint(2, 8), 10, conditions=0.4)
        drawn = self.further if kind == "further" else self.shops
        return businesses.sample_problem(drawn, rng, phase.draw, 26)

    def _corpus(self, corpus: utterances.Corpus, phase: LessonPhase, rng: random.Random) -> DecisionProblem:
        least, most = phase.draw.sizes
        size = rng.randint(least, min(most, CORPUS_SIZES[1]))
        problem = utterances.sample_problem(corpus, rng, size, 8 + size)
        if not problem.schema.none_of_these:
            return problem
        return problem._replace(examples=[self._far(example, rng) for example in problem.examples])

    def _far(self, example: problems.ProblemExample, rng: random.Random) -> problems.ProblemExample:
        if example.verdict.key is not None or rng.random() >= FAR:
            return example
        shop = rng.choice(self.shops + self.further)
        row = rng.choice(shop.conversations)
        said = businesses.conversation_of(row, None, 0).model_copy(update={"id": example.conversation.id})
        return example._replace(conversation=said, quotes=businesses.quotes_of(row))


def phase_at(share: float) -> LessonPhase:
    return next(phase for phase in PHASES if share < phase.until)
