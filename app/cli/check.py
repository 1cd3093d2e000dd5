"""`steerwise check-file`: what a file of conversations holds and what of it would be lost, before anybody takes it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.cli.files import read_schema
from app.datasets import findings
from app.datasets.findings import Findings, SeenConversation
from app.errors import InputError
from evaluation.contract.record import Reject
from evaluation.formats.incoming import Unreadable
from evaluation.formats.reader import Reader

_SHOWN = 20


def check(path: Path, schema: Path | None) -> Findings:
    """Raises: InputError where there is no such file, or where the schema cannot be used."""
    known = None if schema is None else read_schema(schema)
    good: list[SeenConversation] = []
    rejects: list[Reject] = []
    rejected, problem = 0, None
    try:
        reader = Reader(path, known)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        for one in reader:
            if isinstance(one, Reject):
                rejected += 1
                rejects += [one] if len(rejects) < findings.MAX_REJECTS else []
            else:
                good.append(findings.seen(one))
    except Unreadable as error:
        problem = f"the file {error}"
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if problem is None and not good:
        problem = "the file has no conversation that can be used"
    return findings.findings(reader, good, findings.plan(good, rejected), rejects, problem)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """found: Findings as JSON, as the API gives them too."""
    yield f"taken for:       {found['taken_for']}"
    yield from _listed("read as:", found["meaning"])
    if found["problem"] is not None:
        yield f"problem:         {found['problem']}"
    yield f"conversations:   {found['conversations']} ({found['labelled']} labelled)"
    for split in found["splits"]:
        if split["conversations"]:
            yield f"  {split['split']:<14} {split['conversations']} ({split['labelled']} labelled){_labels(split)}"
    yield f"rejected:        {found['rejected']}"
    shown = found["rejects"][:_SHOWN]
    yield from (f"  line {one['line']}: {one['reason']}" for one in shown)
    if found["rejected"] > len(shown):
        yield f"  … and {found['rejected'] - len(shown)} more"
    yield f"duplicates:      {found['exact_duplicates']} exact, {found['near_duplicates']} near"
    if found["moved"]:
        yield f"moved:           {found['moved']} to the split of a duplicate that is held out"
    yield f"contradictions:  {found['contradictions']} conversations whose like has another label"
    for one in found["contradicting"]:
        labels = " and ".join(category or "none of these" for category in one["categories"])
        yield f"  {one['text']} (ids {', '.join(one['ids'])}): {labels}"
    if found["redacted"]:
        yield f"taken out:       {', '.join(f'{kind} {n}' for kind, n in found['redacted'].items())}"
    yield from _listed("not read:", found["not_read"] or ["nothing"])


def _labels(split: Mapping[str, Any]) -> str:
    told = [f"{one['category'] or 'none of these'} {one['conversations']}" for one in split["categories"]]
    return f": {', '.join(told)}" if told else ""


def _listed(heading: str, sentences: list[str]) -> Iterator[str]:
    for number, sentence in enumerate(sentences):
        yield f"{heading if number == 0 else '':<16} {sentence}"
