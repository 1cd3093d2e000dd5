"""Whether a schema in other words means the same, tried with labelled conversations and a grader model.

The grader sees opaque names in another order, before and after, so that only the definitions can lead it; and what
counts are the conversations whose label it finds by the definitions as they were. A grader that goes by names, by codes
or by habit finds too few, and can therefore confirm nothing.
"""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation.contract import overlap, perturb
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import UNPARSABLE, Given, given
from evaluation.inference import runner
from evaluation.inference.predictor import Predictor
from evaluation.inference.runner import Outcome, Question, Questions
from evaluation.metrics.measures import Measure, rate

SLACK = 0.05  # by which the interval may reach below the least agreement


class NotGraded(Exception):
    """The grader did not answer, or cannot tell."""


class AgreementFound(NamedTuple):
    """answers: of the grader, by conversation. agreement: share of the conversations that keep their label.

    untried: labels of no conversation. changed: labels that go under even if the many others stay.
    """

    answers: Mapping[str, Given]
    agreement: Measure
    untried: list[str | None]
    changed: list[str | None]

    @property
    def sentence(self) -> str:
        share, n, ci95 = self.agreement.value, self.agreement.n, self.agreement.ci95
        assert share is not None and ci95 is not None  # `prepare` leaves no grader without conversations
        sentence = f"{share:.1%} of {n} answers stay (95 %: {ci95[0]:.1%} to {ci95[1]:.1%})"
        untried = ", ".join(str(label or "none of these") for label in self.untried)
        return f"{sentence}; untried: {untried}" if untried else sentence


class Grader:
    """Of one schema. counted: the labelled conversations that count, which are those of `prepare` at most."""

    def __init__(self, predictor: Predictor, schema: CategorySchema, least_agreement: float):
        self._predictor, self._schema, self._least = predictor, schema, least_agreement
        self.counted: list[Conversation] = []

    async def prepare(self, labelled: Sequence[Conversation]) -> None:
        """Raises: NotGraded, also where the conversations that count could not confirm even perfect agreement."""
        answers = await self._answers(self._schema, labelled)
        self.counted = [c for c in labelled if answers[c.id] == c.category]
        n = len(self.counted)
        if not self._suffices(rate(n, n)):
            raise NotGraded(
                f"by the definitions alone the grader finds the label of {n} of {len(labelled)} conversations, which "
                "is too few to tell a change; give more conversations or another grader"
            )

    async def find(self, reworded: CategorySchema) -> AgreementFound:
        """Raises: NotGraded."""
        answers = await self._answers(reworded, self.counted)
        own = {label: [c for c in self.counted if c.category == label] for label in self._schema.answers}
        return AgreementFound(
            answers,
            agreement(self.counted, answers),
            [label for label, of_label in own.items() if not of_label],
            [label for label, of_label in own.items() if self._is_changed(of_label, answers)],
        )

    def accepts(self, found: AgreementFound) -> bool:
        return self._suffices(found.agreement) and not found.changed

    async def to_blame(self, reworded: CategorySchema, found: AgreementFound) -> list[str]:
        """The categories whose rewording alone changes answers; where none does, all that a change has touched.

        Raises: NotGraded.
        """
        lost = [c for c in self.counted if found.answers[c.id] != c.category]
        touched = {answer for c in lost for answer in (c.category, found.answers[c.id])}
        suspects = [key for key in self._schema.keys if key in touched]
        alone = []
        for key in suspects:
            about = [c for c in self.counted if key in (c.category, found.answers[c.id])]
            if self._is_changed(about, await self._answers(_only(key, self._schema, reworded), about)):
                alone.append(key)
        return alone or suspects or list(self._schema.keys)

    def _suffices(self, measured: Measure) -> bool:
        return measured.ci95 is not None and measured.ci95[0] > self._least - SLACK

    def _is_changed(self, labelled: Sequence[Conversation], answers: Mapping[str, Given]) -> bool:
        """Beyond what so few conversations can show by chance."""
        ci95 = agreement(labelled, answers).ci95
        return ci95 is not None and ci95[1] < self._least

    async def _answers(self, schema: CategorySchema, labelled: Sequence[Conversation]) -> dict[str, Given]:
        opaque = perturb.rename_opaque(schema, random.Random(0)).schema
        asked = perturb.shuffle(opaque, random.Random(0)).schema
        questions = Questions(asked.sha256, tuple(Question(asked, c) for c in labelled))
        measured = await runner.run(questions, self._predictor, model="grader")
        errors = [m.error for m in measured if m.outcome is Outcome.errored]
        if errors:
            raise NotGraded(f"the grader did not answer {len(errors)} of {len(measured)} times: {errors[0]}")
        read = [UNPARSABLE if m.prediction is None else given(m.prediction) for m in measured]
        return dict(zip([c.id for c in labelled], read, strict=True))


def to_try(labelled: Sequence[Conversation], schema: CategorySchema, per_category: int) -> list[Conversation]:
    """At most so many of each category, from the splits train and validation, and nothing that a held-out one says:
    to choose words by the answers to what the gate asks would spoil the gate."""
    splits = overlap.parted({split: [c for c in labelled if c.split is split] for split in Split}).splits
    learned = sorted((c for split in overlap.LEARNED for c in splits[split]), key=lambda c: c.id)
    rng, chosen = random.Random(0), list[Conversation]()
    for answer in schema.answers:
        own = [c for c in learned if c.category == answer]
        chosen += rng.sample(own, min(len(own), per_category))
    return chosen


def agreement(labelled: Sequence[Conversation], answers: Mapping[str, Given]) -> Measure:
    return rate(sum(answers[c.id] == c.category for c in labelled), len(labelled))


def _only(key: str, schema: CategorySchema, reworded: CategorySchema) -> CategorySchema:
    """One category in other words, the others as they were."""
    categories = tuple(reworded.category(c.key) if c.key == key else c for c in schema.categories)
    return schema.model_copy(update={"categories": categories})
