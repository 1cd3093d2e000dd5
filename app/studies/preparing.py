"""What a seed needs before anything is run: its tenants on disk, and the stages of every arm."""

import json
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from app.runs import output
from app.runs.inputs import Inputs, checked
from app.runs.output import Output
from app.serving.base import ModelBase, digest
from app.studies import matrix
from app.studies.matrix import GENERAL, HANDBOOK, Chain, Study, StudySetup
from app.studies.results import BASE_ARM
from evaluation.atomic_files import write_whole
from evaluation.contract.record import Split
from evaluation.inference.predictor import load_codes
from training.starter.world import DemoTenant, demo_tenant, expert_traces, general_prompts, handbook

_EXPERT = "expert.jsonl"
_GENERAL_PROMPTS = 600
_HANDBOOK_TEXTS = 600


class StudyFolder(NamedTuple):
    """A seed on a base. title: as it is shown."""

    seed: int
    base: ModelBase
    folder: Path
    title: str


class PreparedStudy(NamedTuple):
    """tenants: in the order in which they are learned. chains: each arm's; the base's has no stages."""

    study: Study
    place: StudyFolder
    tenants: list[Inputs]
    chains: dict[str, Chain]
    key: str


def prepare(study: Study, place: StudyFolder) -> PreparedStudy:
    """The tenants of this seed are written to disk."""
    made = {number: demo_tenant(place.seed, number) for number in study.tenants}
    inputs = {number: checked(one.category_schema, one.conversations) for number, one in made.items()}
    answers = max(len(one.schema.answers) for one in inputs.values())
    pool = load_codes(place.base.folder, max(len(ascii_uppercase), answers)).texts
    general = _lines(general_prompts(_GENERAL_PROMPTS, place.seed))
    grounds = {}
    for number, tenant in made.items():
        data = output.write_inputs(Output(place.folder), inputs[number]).resolve()
        write_whole(data / _EXPERT, expert_lines(tenant, inputs[number], pool, place.seed))
        write_whole(data / GENERAL, general)
        write_whole(data / HANDBOOK, _lines(handbook(_HANDBOOK_TEXTS, place.seed, number)))
        grounds[number] = _ground(data, inputs[number], place)
    chains = {BASE_ARM: Chain([], [])}
    chains |= {row.name: matrix.chain(study, row, grounds) for row in study.rows}
    last = [f"{name}: {c.stages[-1].out.name if c.stages else ''}" for name, c in chains.items()]
    measured = [str(n) for n in (study.suite_items, study.retention_items, study.pass_items) if n]
    key = output.key_of(*(ground.key for ground in grounds.values()), *measured, *last)
    return PreparedStudy(study, place, list(inputs.values()), chains, key)


def expert_lines(tenant: DemoTenant, inputs: Inputs, codes: tuple[str, ...], seed: int) -> bytes:
    """A traces.jsonl of the conversations that are learned from, which may be fewer than the tenant has in train."""
    learned = {c.id for c in inputs.splits[Split.train]}
    return _lines(row for row in expert_traces(tenant, codes, seed) if row["id"] in learned)


def _ground(data: Path, inputs: Inputs, place: StudyFolder) -> StudySetup:
    return StudySetup(
        str(place.base.folder),
        data / "train.jsonl",
        data / _EXPERT,
        inputs.schema,
        (place.folder / "stages").resolve(),
        place.seed,
        output.key_of(inputs.sha256, digest(place.base)),
    )


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
