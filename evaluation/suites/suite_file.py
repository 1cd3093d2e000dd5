"""A suite as a file, without its conversations: built once, and then the same for every candidate."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from evaluation.atomic_files import write_whole
from evaluation.contract.record import Conversation, first_problem
from evaluation.contract.schema import CategorySchema
from evaluation.metrics import sample_scores
from evaluation.metrics.sample_scores import KeptSuite
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite


class SuiteFile(BaseModel):
    """sha256: of the suite, its conversations included."""

    file_version: Literal[1] = 1
    sha256: str
    left_out: dict[str, str]
    suite: KeptSuite


def write(suite: Suite, path: Path) -> None:
    """Whole or not at all."""
    kept = SuiteFile(sha256=suite.sha256, left_out=dict(suite.left_out), suite=sample_scores.keep(suite))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, kept.model_dump_json(indent=1).encode() + b"\n")


def read(path: Path, schema: CategorySchema, conversations: Iterable[Conversation]) -> Suite:
    """conversations: those that it was built of; there may be more.

    Raises: OSError, SuiteError where it is no suite, or one of another schema or of other conversations.
    """
    try:
        kept = SuiteFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise SuiteError(f"{path} is not a suite of this version: {first_problem(error)}") from None
    found = sample_scores.restore(kept.suite)
    if found.schema.sha256 != schema.sha256:
        raise SuiteError(
            f"the suite in {path} is of another version of the schema; build one of this version"
        )
    gold = {item.conversation_id: item.gold_before for item in found.items}
    given = {c.id: c for c in conversations if c.id in gold}
    missing = sorted(gold.keys() - given.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SuiteError(
            f"the suite in {path} asks about conversation {missing[0]!r}{more}, which is not there"
        )
    suite = found._replace(conversations=given, left_out=kept.left_out)
    relabelled = any(given[id].category != category for id, category in gold.items())
    if relabelled or suite.sha256 != kept.sha256:
        raise SuiteError(f"the suite in {path} was built of conversations that have changed since")
    return suite
