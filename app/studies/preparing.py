"""What a seed needs before anything is run: its tenants on disk, and the stages of every arm."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from app.errors import InputError
from app.runs import output
from app.runs.inputs import Inputs, checked
from app.runs.output import Output
from app.runs.supervisor import read_result
from app.serving.base import ModelBase, digest
from app.studies import knowledge, matrix, subjects
from app.studies.knowledge import Knowledge
from app.studies.matrix import GENERAL, HANDBOOK, Chain, Study, StudySetup
from app.studies.results import BASE_ARM
from app.studies.subjects import EXPERTS, lines
from evaluation.atomic_files import write_whole
from evaluation.inference.predictor import load_codes
from training.config import StageManifest
from training.protocol import VALIDATION_ACCURACY, VALIDATION_PERTURBED
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
    """tenants: in the order in which they are learned. tries: each arm's chains, one where nothing is swept; the base's
    has no stages. known: facts that are learned besides."""

    study: Study
    place: StudyFolder
    tenants: list[Inputs]
    tries: dict[str, list[Chain]]
    key: str
    known: Knowledge | None = None

    @property
    def chains(self) -> dict[str, Chain]:
        """Of each arm the one that is measured: the only one, or, once all are trained, the best."""
        return {arm: best(of) for arm, of in self.tries.items()}

    @property
    def stages(self) -> list[StageManifest]:
        """All that have to be trained, once each."""
        every = (manifest for of in self.tries.values() for chain in of for manifest in chain.stages)
        return list({manifest.out.name: manifest for manifest in every}.values())


def best(tries: Sequence[Chain]) -> Chain:
    """By the last stage's validation, under the tenant's schema and under edits alike; the first of equals.

    Raises: InputError where one of several was not validated.
    """
    return max(tries, key=lambda chain: _validated(chain.stages[-1])) if len(tries) > 1 else tries[0]


def _validated(manifest: StageManifest) -> float:
    """Raises: InputError."""
    result = read_result(manifest.out)
    metrics = {} if result is None else result.body.get("metrics", {})
    accuracy, perturbed = (metrics.get(name) for name in (VALIDATION_ACCURACY, VALIDATION_PERTURBED))
    if accuracy is None or perturbed is None:
        raise InputError(
            f"{manifest.out} has no validation by which it could be chosen; where max_seconds ended it before its "
            "first, raise max_seconds or lower validate_every, else remove the folder, and the same command trains it"
        )
    return float(accuracy) + float(perturbed)


def prepare(study: Study, place: StudyFolder) -> PreparedStudy:
    """The tenants of this seed are written to disk."""
    made = {number: subjects.load(source, place.seed) for number, source in study.sources.items()}
    inputs = {number: checked(one.category_schema, one.conversations) for number, one in made.items()}
    answers = max(len(one.schema.answers) for one in inputs.values())
    pool = load_codes(place.base.folder, max(len(ascii_uppercase), answers)).texts
    general = _general(place.seed)
    known = None if study.knowledge is None else knowledge.read(study.knowledge)
    told = {} if known is None else knowledge.written(known)
    grounds = {}
    for number, tenant in made.items():
        data = output.write_inputs(Output(place.folder), inputs[number]).resolve()
        write_whole(data / _EXPERT, lines(tenant.traces(inputs[number], pool, place.seed)))
        write_whole(data / EXPERTS, lines(tenant.brought or []))
        write_whole(data / GENERAL, general)
        write_whole(data / HANDBOOK, lines(tenant.texts(_HANDBOOK_TEXTS, place.seed)))
        for name, rows in told.items():
            write_whole(data / name, lines(rows))
        grounds[number] = _ground(data, inputs[number], place, tenant.brought is not None)
        if known is not None:
            key = output.key_of(grounds[number].key, knowledge.content(known))
            grounds[number] = grounds[number]._replace(key=key)
    tries = {BASE_ARM: [Chain([], [])]}
    tries |= {row.name: matrix.chains(study, row, grounds) for row in study.rows}
    last = [f"{name}: {c.stages[-1].out.name if c.stages else ''}" for name, of in tries.items() for c in of]
    measured = [str(n) for n in (study.suite_items, study.retention_items, study.pass_items) if n]
    measured += ["everyday"] if study.everyday else []
    measured += [f"known {study.answer_tokens}"] if known is not None else []
    key = output.key_of(*(ground.key for ground in grounds.values()), *measured, *last)
    return PreparedStudy(study, place, list(inputs.values()), tries, key, known)


@lru_cache(maxsize=4)  # a seed is prepared once for each base
def _general(seed: int) -> bytes:
    return lines(general_prompts(_GENERAL_PROMPTS, seed))


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
