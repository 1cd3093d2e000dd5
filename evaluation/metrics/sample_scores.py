"""What a report keeps of questions and answers: no text, but enough to be scored anew from itself."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel

from evaluation.contract.perturb import Apart, Perturbed
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import UNPARSABLE, Given
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics.calibrator import applied
from evaluation.suites.steerability import Suite, SuiteItem


class SampleScore(NamedTuple):
    """An answer without its words. quotes: those that are in the conversation."""

    item: int
    outcome: Outcome
    category: str | None = None
    confidence: float | None = None
    label_mass: float | None = None
    quotes: int = 0
    names_a_condition: bool = False
    forced_read: bool = False
    reasoning_chars: int | None = 0  # None: it was asked for none
    completion_tokens: int | None = None

    def given(self, threshold: float | None) -> Given:
        """threshold: below this confidence the answer is none of these, as in traffic."""
        if self.outcome is not Outcome.scored:
            return UNPARSABLE
        unsure = threshold is not None and self.confidence is not None and self.confidence < threshold
        return None if unsure else self.category


class KeptEdit(BaseModel):
    """A perturbation. Pairs stand for mappings, because JSON has no null key."""

    family: str
    detail: str
    category_schema: CategorySchema
    moves: list[tuple[str, str | None]]
    apart_ids: list[str]
    apart_moves: list[tuple[str | None, str | None]]


class KeptSuite(BaseModel):
    """A suite without its conversations."""

    edits: list[KeptEdit]  # the first is the schema as it is
    items: list[SuiteItem]
    seed: int


def sample_score(measured: Measured) -> SampleScore:
    found = measured.prediction
    if found is None:
        return SampleScore(measured.item, measured.outcome)
    return SampleScore(
        measured.item,
        measured.outcome,
        found.category,
        found.confidence,
        found.label_mass,
        len(found.evidence or ()),
        found.decided_by is not None,
        found.forced_read,
        None if found.reasoning is None else len(found.reasoning),
        found.completion_tokens,
    )


def keep(suite: Suite) -> KeptSuite:
    return KeptSuite(
        edits=[_kept(one) for one in suite.perturbations], items=list(suite.items), seed=suite.seed
    )


def restore(kept: KeptSuite) -> Suite:
    """Without conversations: enough to score, not to ask."""
    edits = tuple(_edit(one) for one in kept.edits)
    return Suite(edits[0].schema, edits, tuple(kept.items), {}, kept.seed)


def _kept(one: Perturbed) -> KeptEdit:
    return KeptEdit(
        family=one.family,
        detail=one.detail,
        category_schema=one.schema,
        moves=list(one.moves.items()),
        apart_ids=sorted(one.apart.ids),
        apart_moves=list(one.apart.moves.items()),
    )


def _edit(kept: KeptEdit) -> Perturbed:
    apart = Apart(frozenset(kept.apart_ids), dict(kept.apart_moves))
    return Perturbed(kept.family, kept.detail, kept.category_schema, dict(kept.moves), apart)


def sample_scores(measured: Sequence[Measured], temperature: float | None = None) -> list[SampleScore]:
    return [sample_score(one) for one in at_temperature(measured, temperature)]


def at_temperature(measured: Sequence[Measured], temperature: float | None) -> list[Measured]:
    """With the confidences that traffic would show, to which a tenant's threshold applies."""
    return [
        one
        if one.prediction is None
        else one.model_copy(update={"prediction": applied(one.prediction, temperature)})
        for one in measured
    ]
