"""A study as a file: stages that build on each other, and the arms that are compared.

Everything of a seed follows from the file, the base and the seed, so each stage lies in a folder that is named after
its content: arms that begin alike share what they begin with, and a study that was stopped goes on.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from itertools import groupby, product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import InputError
from app.runs.presets import merged
from app.studies import knowledge, subjects
from training.config import MAX_RESPONSE_TOKENS, StageManifest, validates
from training.protocol import ADAPTER, TRACES, StageKind
from training.teachers.privileged import HintKind

EXPERT = "expert"  # traces of somebody who knows: the world itself, or what people wrote of their own conversations
GENERAL = "general.jsonl"  # as `prompts` of a distillation: prompts that are no tenant's
HANDBOOK = "handbook.jsonl"  # as `text` of an SFT: what the tenant knows and no definition says
# By the setting that names it: what is written beside a seed's conversations.
_WRITTEN: Final = {
    "prompts": (GENERAL, knowledge.PROMPTS),
    "text": (HANDBOOK, knowledge.TEXTS),
    "contexts": (knowledge.SHOWN_TEXT, knowledge.SHOWN_ANSWER, knowledge.SHOWN_BOTH),
}
_FOLDER = files("app.studies") / "matrices"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(_Part):
    """after: the stage whose adapter it goes on with, of the same tenant or of one before. traces: the stage that
    wrote them, or `expert`. demonstrations: the same, of what a teacher is shown."""

    kind: StageKind
    tenant: int = Field(
        default=0, ge=0, description="whose schema and conversations: its place in `subjects`"
    )
    after: str | None = None
    traces: str | None = None
    demonstrations: str | None = None
    settings: dict[str, Any] = Field(default={}, description="over those of the study")


class Arm(_Part):
    name: str
    stage: str
    sweep: dict[str, tuple[float, ...]] = Field(
        default={},
        description="settings of its last stage with the values that are tried, each with each; the best on the "
        "validation split is the arm, and no other stage goes on from it",
    )


class BaseRecipe(_Part):
    """A starter that the study trains, once, before anything else: as `training.starter.recipe` is told."""

    width: int = Field(ge=64, multiple_of=64, description="its heads are 64 wide")
    # With fewer layers PEFT names an adapter's modules one by one, which serving refuses.
    layers: int = Field(default=6, ge=3)
    minutes: float = Field(gt=0)


class Existing(_Part):
    model: str = Field(description="`starter`, a folder, or owner/name on Hugging Face")


BaseName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Study(_Part):
    """subjects: whom the stages' `tenant` numbers. settings: by kind of stage. perturb: every arm once for each, as
    `perturb` of all its stages that learn.

    Stages of several tenants make a study of learning one after another: every arm goes through all of them, and is
    measured on each of them after each.
    """

    title: str
    against: str = Field(description="the arm that the others are compared with")
    subjects: tuple[str, ...] = Field(
        default=subjects.WORLD,
        description="`world:NUMBER`, `business:NAME` or a folder with schema.json and conversations.jsonl",
    )
    suite_items: int = Field(
        default=240, ge=0, description="answers for accuracy and steerability, 20 at least; 0 leaves them out"
    )
    retention_items: int = Field(default=120, ge=20, description="answers under schemas of other tenants")
    pass_items: int = Field(default=0, ge=0, description="conversations for pass@k; 0 leaves it out")
    everyday: bool = Field(
        default=False,
        description="plain sentences to end, and the KL to the base on everyday prompts; of no use on the starter, "
        "which knows its task alone",
    )
    knowledge: str | None = Field(
        default=None,
        description="invented facts that are learned and asked for: of those that ship, or a file.json",
    )
    answer_tokens: int = Field(
        default=40, ge=8, le=MAX_RESPONSE_TOKENS, description="of an answer about those facts"
    )
    perturb: tuple[bool, ...] = ()
    bases: dict[BaseName, BaseRecipe | Existing] = Field(
        default={},
        description="every arm once on each; without any, the starter for the world's tenants, else the base that is "
        "set (STEERWISE_BASE)",
    )
    settings: dict[str, dict[str, Any]] = {}
    stages: dict[str, Node]
    arms: tuple[Arm, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        for name, node in self.stages.items():
            earlier = list(self.stages)[: list(self.stages).index(name)]
            for other in (node.after, node.traces, node.demonstrations):
                if other not in (None, EXPERT, *earlier):
                    raise ValueError(f"stages.{name}: no stage before it is named {other!r}")
            for source in (node.traces, node.demonstrations):
                if source in self.stages and self.stages[str(source)].tenant != node.tenant:
                    raise ValueError(f"stages.{name}: the traces of {source!r} are another tenant's")
        beyond = [name for name, node in self.stages.items() if node.tenant >= len(self.subjects)]
        if beyond:
            raise ValueError(f"stages.{beyond[0]}: its tenant is none of the {len(self.subjects)} subjects")
        unknown = [arm.stage for arm in self.arms if arm.stage not in self.stages]
        names = {row.name for row in self.rows}
        if unknown or self.against not in names:
            raise ValueError(f"arms: no stage is named {unknown or self.against!r}")
        return self

    @model_validator(mode="after")
    def _measures_something(self) -> "Study":
        if 0 < self.suite_items < 20:
            raise ValueError("suite_items: fewer than 20 say nothing; 0 leaves them out")
        if not self.suite_items and self.knowledge is None:
            raise ValueError("suite_items: without them and without `knowledge` nothing is measured")
        if not self.suite_items and len(self.tenants) > 1:
            raise ValueError("suite_items: what becomes of tenants in a row is measured by them")
        return self

    @model_validator(mode="after")
    def _arms_are_comparable(self) -> "Study":
        for arm in self.arms:
            met = tuple(self.stages[name].tenant for name in self.steps(arm.stage))
            if met != self.tenants:
                raise ValueError(
                    f"arms: {arm.name!r} goes through the tenants {met}, and not {self.tenants} one by one"
                )
        if self.pass_items and len(self.tenants) > 1:
            raise ValueError("pass_items: pass@k is measured in studies of one tenant only")
        return self

    @property
    def tenants(self) -> tuple[int, ...]:
        """In the order in which every arm learns them."""
        return tuple(sorted({node.tenant for node in self.stages.values()}))

    @property
    def sources(self) -> dict[int, str]:
        """Of the tenants that are learned."""
        return {number: self.subjects[number] for number in self.tenants}

    @property
    def in_the_world(self) -> bool:
        return set(self.sources.values()) <= set(subjects.WORLD)

    def about(self, sources: tuple[str, ...]) -> "Study":
        """The same study of others, in their order. Raises: InputError where it needs another number of them."""
        if len(sources) != len(self.tenants):
            raise InputError(f"this study is of {len(self.tenants)} tenants, and {len(sources)} are named")
        named = dict(zip(self.tenants, sources, strict=True))
        every = tuple(named.get(number, source) for number, source in enumerate(self.subjects))
        return self.model_copy(update={"subjects": every})

    def only(self, arms: tuple[str, ...]) -> "Study":
        """The same study of these arms, and of the one that they are compared with.

        Raises: InputError where it has no arm of that name.
        """
        unknown = set(arms) - {arm.name for arm in self.arms}
        if unknown:
            has = ", ".join(arm.name for arm in self.arms)
            raise InputError(f"this study has no arm {min(unknown)!r}; it has: {has}")
        against = {row.stage for row in self.rows if row.name == self.against}
        kept = tuple(arm for arm in self.arms if arm.name in arms or arm.stage in against)
        return self.model_copy(update={"arms": kept})

    def steps(self, stage: str) -> list[str]:
        """Of the stages whose adapters led to this one, and of itself, the last of each tenant."""
        path = [stage]
        while (before := self.stages[path[0]].after) is not None:
            path.insert(0, before)
        return [list(names)[-1] for _, names in groupby(path, lambda name: self.stages[name].tenant)]

    def on_same_base(self, arm: str, other: str) -> str:
        """The arm `other` on the base that `arm` is on."""
        return on_base(arm.partition(_ON)[0], other) if self.bases else other

    @property
    def rows(self) -> "tuple[MatrixRow, ...]":
        """The arms as they are compared: each in all its variants."""
        if not self.perturb:
            return tuple(MatrixRow(arm.name, arm.stage, None, _tries(arm)) for arm in self.arms)
        return tuple(
            MatrixRow(f"{arm.name}, perturbed" if perturb else arm.name, arm.stage, perturb, _tries(arm))
            for perturb in self.perturb
            for arm in self.arms
        )


class ContextStudy(_Part):
    """Nothing is trained: the base is asked, shown one thing after another (see `in_context`)."""

    kind: Literal["in_context"]
    title: str
    subjects: tuple[str, ...] = Field(min_length=1, description="businesses, or folders with experts.jsonl")
    items: int = Field(default=120, ge=10, description="conversations of each subject")
    distances: int = Field(
        default=30, ge=0, description="of them, on how many the distance from itself is measured"
    )
    shown: tuple[HintKind, ...] = Field(
        min_length=1, description="beside nothing, with which each is compared"
    )

    def about(self, sources: tuple[str, ...]) -> "ContextStudy":
        """The same study of others."""
        return self.model_copy(update={"subjects": sources})


Try: TypeAlias = Mapping[str, float]
NO_CHANGE: Final[Try] = MappingProxyType({})


class MatrixRow(NamedTuple):
    """tries: what its last stage is trained with, over its settings; one of nothing where nothing is swept."""

    name: str
    stage: str
    perturb: bool | None
    tries: tuple[Try, ...] = (NO_CHANGE,)


def _tries(arm: Arm) -> tuple[Try, ...]:
    return tuple(dict(zip(arm.sweep, values, strict=True)) for values in product(*arm.sweep.values()))


class StudySetup(NamedTuple):
    """What a seed's stages for one tenant are built on. data: its conversations; validation split and general prompts
    beside them. expert: a traces.jsonl; or, with brought, a tenant's own file, of which a stage makes one."""

    base: str
    data: Path
    expert: Path
    schema: Any
    stages: Path
    seed: int
    key: str  # of the base and of the data's content
    brought: bool = False


class Chain(NamedTuple):
    """What an arm needs. stages: in the order in which they are run. steps: those after which it is measured. tried:
    the settings of its last stage that are swept."""

    stages: list[StageManifest]
    steps: list[StageManifest]
    tried: Try = NO_CHANGE


_ON = ": "


def on_base(base: str, arm: str) -> str:
    """An arm's name in the tables. base: empty where the study has only one."""
    return f"{base}{_ON}{arm}" if base else arm


def names() -> list[str]:
    return sorted(Path(str(entry)).stem for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


def read(name: str) -> Study | ContextStudy:
    """name: of a study that ships, or the path of a file. Raises: InputError."""
    path = Path(name)
    shipped = _FOLDER / f"{name}.toml"
    if path.suffix != ".toml" and not shipped.is_file():
        raise InputError(f"there is no study {name!r}; there are {', '.join(names())}, or give a file.toml")
    try:
        text = path.read_text() if path.suffix == ".toml" else shipped.read_text()
        content = tomllib.loads(text)
        return (ContextStudy if "kind" in content else Study).model_validate(content)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"the study {name} cannot be used", [str(error)]) from None


def check(study: Study) -> None:
    """Raises: InputError for settings that no stage has; before hours are spent on what comes first."""
    if study.knowledge is not None:
        knowledge.read(study.knowledge)
    nowhere = Path("nowhere")
    schemas = {number: subjects.check(source) for number, source in study.sources.items()}
    grounds = {n: StudySetup("", nowhere, nowhere, schema, nowhere, 0, "") for n, schema in schemas.items()}
    for row in study.rows:
        chains(study, row, grounds)


def chains(study: Study, row: MatrixRow, grounds: Mapping[int, StudySetup]) -> list[Chain]:
    """One for each of its tries. grounds: by tenant. Raises: InputError where nothing would choose among several."""
    found = [chain(study, row, grounds, tried) for tried in row.tries]
    if len(found) > 1 and not validates(found[0].stages[-1].stage):
        raise InputError(f"arms: {row.name!r} is swept, so its stage {row.stage!r} needs validate_every")
    return found


def chain(study: Study, row: MatrixRow, grounds: Mapping[int, StudySetup], tried: Try = NO_CHANGE) -> Chain:
    """grounds: by tenant. tried: over the settings of its last stage."""
    made: dict[str, StageManifest] = {}

    def build(name: str) -> StageManifest:
        if name not in made:
            node = study.stages[name]
            if tried and name == row.stage:
                node = node.model_copy(update={"settings": node.settings | dict(tried)})
            before = None if node.after is None else build(node.after)
            given = {}
            for use, source in (("traces", node.traces), ("demonstrations", node.demonstrations)):
                if source is not None:
                    given[use] = traces_of(source, node.tenant)
            made[name] = _manifest(study, node, row.perturb, before, given, grounds[node.tenant])
        return made[name]

    def traces_of(source: str, tenant: int) -> Path:
        if source != EXPERT:
            return build(source).out / TRACES
        return judged(tenant).out / TRACES if grounds[tenant].brought else grounds[tenant].expert

    def judged(tenant: int) -> StageManifest:
        name = f"{EXPERT} {tenant}"
        if name not in made:
            settings = {"files": [str(grounds[tenant].expert)], "teachers": []}
            stage = Node(kind="traces", tenant=tenant, settings=settings)
            made[name] = _manifest(study, stage, None, None, {}, grounds[tenant])
        return made[name]

    build(row.stage)
    return Chain(list(made.values()), [made[name] for name in study.steps(row.stage)], tried)


def _manifest(
    study: Study,
    node: Node,
    perturb: bool | None,
    before: StageManifest | None,
    given: Mapping[str, Path],
    ground: StudySetup,
) -> StageManifest:
    stage: Any = merged(study.settings.get(node.kind, {}), node.settings) | {"kind": node.kind}
    if perturb is not None and node.kind != "traces":
        stage["perturb"] = perturb
    said = dict(stage)  # without paths
    stage |= {
        key: ground.data.with_name(stage[key]) for key, names in _WRITTEN.items() if stage.get(key) in names
    }
    if "demonstrations" in given:
        stage["demonstrations"] = given["demonstrations"]
    written = given.get("traces")
    origin = [ground.key, ground.seed, said, before and before.out.name, written and written.parent.name]
    if "demonstrations" in given:
        origin.append(given["demonstrations"].parent.name)
    digest = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    try:
        return StageManifest(
            stage=stage,
            base=ground.base,
            adapter=before and before.out / ADAPTER,
            category_schema=ground.schema,
            conversations=ground.data,
            validation=ground.data.with_name("validation.jsonl") if "validate_every" in stage else None,
            traces=given.get("traces"),
            out=ground.stages / f"{node.kind}-{digest[:12]}",
            seed=ground.seed,
        )
    except ValidationError as error:
        raise InputError("the study's settings cannot be used", [str(error)]) from None
