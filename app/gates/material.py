"""What a gate asks: the frozen conversations of the run, and the held-out ones of its dataset with the labels that
they have by now, under the schema version that is to be judged."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from app.errors import AppError
from app.infra.tables.runs import Run
from app.runs.inputs import Inputs
from app.runs.presets import Benchmark
from evaluation.contract import budget, overlap
from evaluation.contract.record import Conversation, Split, parse_jsonl
from evaluation.contract.schema import CategorySchema


class SnapshotBroken(AppError):
    """The frozen dataset of a run cannot be read."""

    code = "snapshot_broken"


class Room(NamedTuple):
    """How long a prompt may be. codes: as many as the schema's answers and one. tokens: counts those of each text.

    limit: of prompt and answer, in tokens.
    """

    codes: tuple[str, ...]
    tokens: budget.Count
    limit: int


class Material(NamedTuple):
    """left_out: sentences that say which held-out conversations are not asked, and why.

    unlabelled: those that would be asked if they had a label of the schema.
    """

    inputs: Inputs
    left_out: tuple[str, ...]
    unlabelled: tuple[Conversation, ...] = ()


def read(
    snapshot: Path, schema: CategorySchema, room: Room, held_out_now: Sequence[Conversation] = ()
) -> Material:
    """A label stays where the version still has its category's key; otherwise the conversation says nothing here.

    held_out_now: of the run's dataset. Raises: SnapshotBroken.
    """
    parsed = parse_jsonl(snapshot.read_bytes())
    if parsed.rejects:
        line, reason = parsed.rejects[0]
        raise SnapshotBroken(f"line {line} of the run's frozen dataset cannot be read: {reason}")
    every = _grown(parsed.conversations, held_out_now)
    labelled = [c for c in every if c.labelled]
    known = [c for c in labelled if c.category in schema.answers]
    splits, disputed = overlap.judgeable({split: [c for c in known if c.split is split] for split in Split})
    # What is trained here for comparison learns from the same conversations as the model did.
    splits = overlap.parted(splits).splits
    held_out = splits[Split.test]
    splits[Split.test] = _fitting(held_out, schema, room)
    strange = sum(c.split is Split.test for c in labelled) - sum(c.split is Split.test for c in known)
    too_long = len(held_out) - len(splits[Split.test])
    left_out = _sentences(strange, too_long, len(disputed[Split.test]))
    usable = {c.id for c in known}
    bare = [c for c in every if c.split is Split.test and c.id not in usable]
    return Material(Inputs(schema, splits, ()), tuple(left_out), tuple(_fitting(bare, schema, room)))


def _grown(frozen: Sequence[Conversation], held_out_now: Sequence[Conversation]) -> list[Conversation]:
    """A frozen conversation has the label that was given last. What came later is asked too, unless the model has
    learned its words: then it need not read the definitions."""
    learned = {c.id for c in frozen if c.split in overlap.LEARNED}
    texts = {overlap.normalised(c) for c in frozen if c.split in overlap.LEARNED}
    newest = {c.id: c.model_dump(include={"category", "criterion"}) for c in held_out_now if c.labelled}
    kept = [c if c.id in learned or c.id not in newest else c.model_copy(update=newest[c.id]) for c in frozen]
    known = {c.id for c in frozen}
    return kept + [c for c in held_out_now if c.id not in known and overlap.normalised(c) not in texts]


def _sentences(strange: int, too_long: int, disputed: int) -> list[str]:
    said = []
    if disputed:
        said.append(
            f"{disputed} held-out conversations were left out: another conversation of the same words has another label"
        )
    if strange:
        said.append(
            f"{strange} held-out conversations were left out: this schema version no longer has their category"
        )
    if too_long:
        said.append(f"{too_long} held-out conversations were left out: they are too long for the model")
    return said


def _fitting(conversations: list[Conversation], schema: CategorySchema, room: Room) -> list[Conversation]:
    """One that does not fit would be a failed request for each of its edits, and leave the gate incomplete for ever."""
    lengths = budget.lengths(schema, conversations, room.codes, room.tokens)
    most = budget.room(room.limit)
    return [c for c, tokens in zip(conversations, lengths, strict=True) if tokens <= most]


def benchmark_of(run: Run) -> Benchmark:
    """As the run's plan says."""
    return Benchmark.model_validate(run.settings.get("benchmark", {}))
