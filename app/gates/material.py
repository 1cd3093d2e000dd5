"""What a gate asks: the frozen conversations of the run, under the schema version that is to be judged."""

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
    """left_out: sentences that say which held-out conversations are not asked, and why."""

    inputs: Inputs
    left_out: tuple[str, ...]


def read(snapshot: Path, schema: CategorySchema, room: Room) -> Material:
    """A label stays where the version still has its category's key; otherwise the conversation says nothing here.

    Raises: SnapshotBroken.
    """
    parsed = parse_jsonl(snapshot.read_bytes())
    if parsed.rejects:
        line, reason = parsed.rejects[0]
        raise SnapshotBroken(f"line {line} of the run's frozen dataset cannot be read: {reason}")
    labelled = [c for c in parsed.conversations if c.labelled]
    known = [c for c in labelled if c.category in schema.answers]
    splits, disputed = overlap.judgeable({split: [c for c in known if c.split is split] for split in Split})
    # What is trained here for comparison learns from the same conversations as the model did.
    splits = overlap.parted(splits).splits
    held_out = splits[Split.test]
    splits[Split.test] = _fitting(held_out, schema, room)
    strange = sum(c.split is Split.test for c in labelled) - sum(c.split is Split.test for c in known)
    too_long = len(held_out) - len(splits[Split.test])
    left_out = _sentences(strange, too_long, len(disputed[Split.test]))
    return Material(Inputs(schema, splits, ()), tuple(left_out))


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
