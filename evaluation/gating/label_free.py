"""What a gate can measure without labels, how many are missing, and which of them would decide it soonest.

The model's own answer takes the place of the label: whatever it is, it must stay when categories are shuffled, renamed
or reworded, it must follow its definition when two categories exchange theirs, and no sentence in a conversation may
change it. That says how an answer is come by and not whether it is right, so it never decides: a gate without labels is
incomplete.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.gating.policy import Policy
from evaluation.inference.runner import Measured, Outcome, Question, Questions
from evaluation.inference.stage_client import StageClient
from evaluation.metrics import injection, measures, sample_scores
from evaluation.metrics.measures import GradedAnswers, Measure
from evaluation.reporting.report import Check, Verdict
from evaluation.suites import injection as injection_suite
from evaluation.suites import steerability

OWN_ANSWER_FOLLOWS: Final = ("swap",)
OWN_ANSWER_STAYS: Final = ("rename", "shuffle", "reword")
MOST_NAMED: Final = 200
_OF_CONVERSATIONS: Final = ("accuracy", "macro_f1", "majority_over_selection")  # a label each
_ANSWERS_SHARE: Final = 0.35  # of the budget, in requests: the conversations as they are
_INJECTION_SHARE: Final = 0.25


class ToLabel(BaseModel):
    """answered: by the model, as it is. why: it comes before others."""

    model_config = ConfigDict(frozen=True)

    conversation_id: str
    answered: str | None
    why: str


class LabelFree(BaseModel):
    """n: conversations whose answers could be read. follows: of answers whose definition went to another category, the
    share that went with it. stays: by kind of edit, the share that is the same answer still.

    labelled: held-out conversations with a label of the schema. missing: how many more are needed at least.
    label_first: those of them that there are, in the order in which they should be labelled.
    """

    model_config = ConfigDict(frozen=True)

    n: int
    unparsable: Measure
    errored: int
    follows: Measure
    stays: dict[str, Measure]
    injection_success: Measure
    labelled: int
    missing: int
    label_first: tuple[ToLabel, ...]


class LabelFreeRun(NamedTuple):
    """conversations: held-out ones, with labels or without. rewordings: of the schema, by their origin.

    needed: labelled conversations, as far as the policy or an incomplete gate has said.
    """

    schema: CategorySchema
    conversations: Sequence[Conversation]
    needed: int
    rewordings: Mapping[str, CategorySchema] = {}
    seed: int = 0
    max_items: int = 400


async def measure(run: LabelFreeRun, stage_client: StageClient) -> LabelFree:
    """Of the last of the client's stages."""
    stage = stage_client.stages[-1].stage
    asked = _drawn(run)
    answered = await stage_client.answers(stage, _questions(run.schema, asked))
    own = [
        one.model_copy(update={"category": found.prediction.category})
        for one, found in zip(asked, answered, strict=True)
        if found.outcome is Outcome.scored and found.prediction is not None
    ]
    labelled = {c.id for c in run.conversations if c.labelled and c.category in run.schema.answers}
    judged = await _under_edits(run, own, stage_client, stage) if own else None
    attacks = injection_suite.build(
        run.schema, own, seed=run.seed, max_items=int(run.max_items * _INJECTION_SHARE)
    )
    attacked = await stage_client.answers(stage, attacks.questions)
    missing = max(0, run.needed - len(labelled))
    return LabelFree(
        n=len(own),
        unparsable=measures.rate(_count(answered, Outcome.unparsable), _read(answered)),
        errored=_count(answered, Outcome.errored),
        follows=measures.flip_accuracy(judged.rows(OWN_ANSWER_FOLLOWS) if judged else []),
        stays={
            family: measures.invariance(rows)
            for family in OWN_ANSWER_STAYS
            if judged and (rows := judged.rows((family,)))
        },
        injection_success=injection.score(attacks, attacked, None).success,
        labelled=len(labelled),
        missing=missing,
        label_first=tuple(_label_first(own, labelled, missing, run.seed)),
    )


def needed(policy: Policy, checks: Sequence[Check] = ()) -> int:
    """Labelled conversations: as many as an incomplete gate has asked for, and what the policy wants at least.

    checks: of that gate.
    """
    least = [b.least_n for b in (*policy.floors, *policy.ceilings) if b.measure in _OF_CONVERSATIONS]
    least += [one.least_n for one in policy.not_worse if one.measure in _OF_CONVERSATIONS]
    open_ones = [c for c in checks if c.verdict is Verdict.incomplete and c.needed is not None]
    told = [c.needed for c in open_ones if c.measure.startswith(_OF_CONVERSATIONS) and c.needed is not None]
    return max([*least, *told], default=0)


def reasons(found: LabelFree) -> list[str]:
    """One sentence each."""
    told = [f"{found.missing} more held-out conversations need a label, of which there are {found.labelled}"]
    if found.errored:
        told.append(
            f"{found.errored} of {found.errored + found.unparsable.n} requests failed on our side; look at the model "
            "server and measure again"
        )
    if found.label_first:
        ids = ", ".join(repr(one.conversation_id) for one in found.label_first[:5])
        told.append(f"these would decide it soonest: {ids}{', …' if len(found.label_first) > 5 else ''}")
    if found.follows.value is not None:
        told.append(
            f"without labels: of {found.follows.n} answers whose definition went to another category "
            f"{found.follows.value:.2f} went with it"
        )
    told += [
        f"without labels: {one.value:.2f} of {one.n} answers stayed the same under the edit {family}"
        for family, one in found.stays.items()
        if one.value is not None
    ]
    if found.injection_success.value is not None:
        told.append(
            f"without labels: {found.injection_success.value:.2f} of {found.injection_success.n} prompt injections "
            "got the answer that they wanted"
        )
    return told


def _drawn(run: LabelFreeRun) -> list[Conversation]:
    each = sorted(run.conversations, key=lambda c: c.id)
    wanted = min(len(each), max(1, int(run.max_items * _ANSWERS_SHARE)))
    return sorted(random.Random(f"label-free-{run.seed}").sample(each, wanted), key=lambda c: c.id)


def _questions(schema: CategorySchema, asked: Sequence[Conversation]) -> Questions:
    said = [[c.id, [[m.role, m.text] for m in c.messages]] for c in asked]
    canonical = json.dumps([schema.sha256, said], ensure_ascii=False, separators=(",", ":"))
    each = tuple(Question(schema, conversation) for conversation in asked)
    return Questions(hashlib.sha256(canonical.encode()).hexdigest(), each, "without labels")


async def _under_edits(
    run: LabelFreeRun, own: Sequence[Conversation], stage_client: StageClient, stage: str
) -> GradedAnswers:
    suite = steerability.build(
        run.schema,
        own,
        seed=run.seed,
        max_items=run.max_items,
        families=(*OWN_ANSWER_FOLLOWS, *OWN_ANSWER_STAYS),
        rewordings=run.rewordings,
    )
    questions = suite.questions._replace(title="edits, without labels")
    return GradedAnswers(suite, sample_scores.sample_scores(await stage_client.answers(stage, questions)))


def _label_first(
    own: Sequence[Conversation], labelled: Collection[str], missing: int, seed: int
) -> list[ToLabel]:
    """First one of each category that has no label yet as far as the model's answers say: no edit can be seen in a
    category without an example. Then as they come, by lot: chosen by how unsure the model is, labels would make it look
    worse than it is.
    """
    order = random.Random(f"labels-{seed}").sample(list(own), len(own))
    have = Counter(c.category for c in order if c.id in labelled)
    first: list[ToLabel] = []
    rest: list[ToLabel] = []
    for one in order:
        if one.id in labelled:
            continue
        bare = not have[one.category]
        have[one.category] += 1
        why = "the first of its category, as the model answers" if bare else "as it comes"
        made = ToLabel(conversation_id=one.id, answered=one.category, why=why)
        (first if bare else rest).append(made)
    return [*first, *rest][: min(missing, MOST_NAMED)]


def _count(answered: Sequence[Measured], outcome: Outcome) -> int:
    return sum(m.outcome is outcome for m in answered)


def _read(answered: Sequence[Measured]) -> int:
    return len(answered) - _count(answered, Outcome.errored)
