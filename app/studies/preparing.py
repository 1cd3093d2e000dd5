"""What a seed needs before anything is run: its tenants on disk, and the stages of every arm."""

import hashlib
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from app.runs import output
from app.runs.inputs import Inputs, checked
from app.runs.output import Output
from app.serving.base import ModelBase, digest
from app.studies import matrix, subjects
from app.studies.matrix import GENERAL, HANDBOOK, Chain, Study, StudySetup
from app.studies.results import BASE_ARM
from app.studies.subjects import EXPERTS, lines
from evaluation.atomic_files import write_whole
from evaluation.inference.predictor import load_codes
from training.starter.world import general_prompts

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
    made = {number: subjects.load(source, place.seed) for number, source in study.sources.items()}
    inputs = {number: checked(one.category_schema, one.conversations) for number, one in made.items()}
    answers = max(len(one.schema.answers) for one in inputs.values())
    pool = load_codes(place.base.folder, max(len(ascii_uppercase), answers)).texts
    general = lines(general_prompts(_GENERAL_PROMPTS, place.seed))
    grounds = {}
    for number, tenant in made.items():
        data = output.write_inputs(Output(place.folder), inputs[number]).resolve()
        write_whole(data / _EXPERT, lines(tenant.traces(inputs[number], pool, place.seed)))
        write_whole(data / EXPERTS, lines(tenant.brought or []))
        write_whole(data / GENERAL, general)
        write_whole(data / HANDBOOK, lines(tenant.texts(_HANDBOOK_TEXTS, place.seed)))
        grounds[number] = _ground(data, inputs[number], place, tenant.brought is not None)
    chains = {BASE_ARM: Chain([], [])}
    chains |= {row.name: matrix.chain(study, row, grounds) for row in study.rows}
    last = [f"{name}: {c.stages[-1].out.name if c.stages else ''}" for name, c in chains.items()]
    measured = [str(n) for n in (study.suite_items, study.retention_items, study.pass_items) if n]
    key = output.key_of(*(ground.key for ground in grounds.values()), *measured, *last)
    return PreparedStudy(study, place, list(inputs.values()), chains, key)


def _ground(data: Path, inputs: Inputs, place: StudyFolder, brought: bool) -> StudySetup:
    return StudySetup(
        str(place.base.folder),
        data / "train.jsonl",
        data / (EXPERTS if brought else _EXPERT),
        inputs.schema,
        (place.folder / "stages").resolve(),
        place.seed,
        output.key_of(inputs.sha256, digest(place.base), *([_content(data / EXPERTS)] if brought else [])),
        brought,
    )


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
