"""What a training stage is asked to do. Torch-free: the product writes manifests without the training extras."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema, model_validator

from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.schema import CategorySchema
from evaluation.contract.seeds import MAX_SEED
from training.settings import (
    EXAMPLES_PER_SCHEMA,
    MAX_BATCH,
    MAX_CONVERSATIONS,
    MAX_NAME_CHARS,
    MAX_SECONDS,
    MAX_STEPS,
    MAX_USD,
    MAX_VOCABULARY,
    NEW_TOKENS,
    DivergenceKind,
    Estimator,
    Learning,
    Schedule,
    StageSettings,
    TeacherKind,
    Weighting,
    Writing,
)
from training.teachers.privileged import HintKind

MAX_PATH_CHARS = 4096
MAX_RESPONSE_TOKENS = 2048  # of a response to a general prompt; no tenant is answered by it


def _short(path: Path) -> Path:
    if len(str(path)) > MAX_PATH_CHARS:
        raise ValueError(f"a path has at most {MAX_PATH_CHARS} characters")
    return path


# A path has no length of its own that Pydantic could bound.
ShortPath = Annotated[
    Path,
    AfterValidator(_short),
    WithJsonSchema({"type": "string", "format": "path", "maxLength": MAX_PATH_CHARS}),
]
Demonstrations = Annotated[
    ShortPath | None,
    Field(description="a traces.jsonl whose traces a teacher is shown with hint `demonstration`"),
]
TEACHER_NAME = r"^[a-z][a-z0-9_]*$"


class PrivilegedTeacher(StageSettings):
    """The model itself, shown the answer; or, where `model` is given, another local model shown the same."""

    kind: Literal["privileged"] = "privileged"
    hint: HintKind = HintKind.criterion
    model: str | None = Field(default=None, max_length=MAX_NAME_CHARS)


class EndpointTeacher(StageSettings):
    """An OpenAI-compatible server. api_key_env names an environment variable; the key itself is never stored.

    name: under which an installation has it, and by which it is called where others read.
    """

    kind: Literal["endpoint"] = "endpoint"
    base_url: str = Field(pattern=r"^https?://", max_length=2000)
    model: str = Field(max_length=MAX_NAME_CHARS)
    api_key_env: str | None = Field(default=None, max_length=200)
    hint: HintKind = HintKind.none
    corrects: bool = Field(
        default=False, description="is shown what a teacher before it wrote wrongly (DAgger)"
    )
    concurrency: int = Field(default=8, ge=1, le=256)
    requests_per_minute: float | None = Field(
        default=None, gt=0, le=1e6, description="what the server allows"
    )
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    attempts: int = Field(
        default=4, ge=1, le=20, description="tries a request gets before it counts as errored"
    )
    prompt_usd_per_million: float = Field(
        default=0.0, ge=0, le=MAX_USD, description="price of a million tokens that it reads"
    )
    completion_usd_per_million: float = Field(
        default=0.0, ge=0, le=MAX_USD, description="and of a million that it writes"
    )
    name: str | None = Field(default=None, max_length=50)
    max_usd: float | None = Field(
        default=None,
        ge=0,
        le=MAX_USD,
        description="it is sent no request once it has cost so much in the stage",
    )

    @property
    def called(self) -> str:
        return self.name or self.base_url


class NamedTeacher(StageSettings):
    """One of an installation's teachers. Its address, key, model and price stand together in the installation's
    settings; whoever starts the stage puts the endpoint in its place.
    """

    kind: Literal["named"] = "named"
    name: str = Field(pattern=TEACHER_NAME, max_length=50)
    hint: HintKind = HintKind.none
    corrects: bool = False


Teacher = Annotated[PrivilegedTeacher | EndpointTeacher | NamedTeacher, Field(discriminator="kind")]


class Traces(StageSettings):
    """teachers: asked in their order. With `until_kept` each is asked only for what those before could not answer.

    files: what the tenant brings comes before all of them.
    """

    kind: Literal["traces"] = "traces"
    files: tuple[ShortPath, ...] = Field(
        default=(),
        max_length=16,
        description="JSONL of expert traces: {id, quote, criterion, set_aside} or {id, text}; label_wrong leaves a "
        "conversation out",
    )
    teachers: tuple[Teacher, ...] = Field(default=(PrivilegedTeacher(),), max_length=8)
    demonstrations: Demonstrations = None
    ask: Literal["until_kept", "all"] = "until_kept"
    samples: int = Field(default=4, ge=1, le=64, description="responses of each teacher to a conversation")
    limit: int | None = Field(
        default=None,
        ge=1,
        le=MAX_CONVERSATIONS,
        description="conversations used; of those with an expert's trace all",
    )
    balance: bool = Field(
        default=True, description="of those used, every category as many; False: as the labels have them"
    )
    examples_per_schema: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="conversations under one drawing of the codes, whose schema is then read once",
    )
    temperature: float = Field(default=0.8, gt=0, le=10)
    max_new_tokens: int = NEW_TOKENS
    batch_size: int = Field(
        default=128, ge=1, le=MAX_BATCH, description="responses written at once, where they have room"
    )
    max_seconds: float | None = Field(
        default=None, gt=0, le=MAX_SECONDS, description="what is not written by then is left out"
    )
    max_usd: float | None = Field(
        default=None, gt=0, le=MAX_USD, description="no request is sent once so much was spent"
    )

    @model_validator(mode="after")
    def _has_what_it_hints_at(self) -> "Traces":
        hints = {teacher.hint for teacher in self.teachers}
        if HintKind.demonstration in hints and self.demonstrations is None:
            raise ValueError(
                "hint: there are no demonstrations before there are traces; use criterion or answer, or give "
                "`demonstrations`"
            )
        if HintKind.document in hints:
            raise ValueError("hint: documents are shown in distillation alone; use criterion or answer")
        return self

    @model_validator(mode="after")
    def _is_payable(self) -> "Traces":
        if not self.teachers and not self.files:
            raise ValueError("teachers: give one at least, or files with traces")
        for number, teacher in enumerate(self.teachers):
            if not isinstance(teacher, PrivilegedTeacher) and teacher.corrects and number == 0:
                raise ValueError("teachers: the first one corrects, but nobody comes before it")
            if not isinstance(teacher, EndpointTeacher):
                continue
            free = teacher.prompt_usd_per_million == teacher.completion_usd_per_million == 0
            if self.max_usd is not None and free:
                raise ValueError(
                    f"max_usd: give the prices of the teacher {teacher.model}, or leave the limit out"
                )
        return self


class Sft(Learning):
    kind: Literal["sft"] = "sft"
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    schedule: Schedule = Schedule.cosine
    epochs: float = Field(default=2.0, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    loss: Literal["nll", "dft"] = "nll"
    reasoning: bool = Field(default=True, description="False learns the answer alone: a control")
    at_once: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of examples that answer without reasoning, those of labels without a trace among them; "
        "none where `reasoning` is false",
    )
    perturb: bool = Field(default=True, description="False shows what fine-tuning on one schema erodes")
    perturbed_share: float = Field(
        default=0.5, ge=0, le=1, description="share of perturbed schemas, with perturb"
    )
    examples_per_schema: int = EXAMPLES_PER_SCHEMA
    encoder_steps: int = Field(
        default=60,
        ge=0,
        le=MAX_STEPS,
        description="of the copy of the sentence encoder that is heard beside the base, before the model's own, in a "
        "half of max_seconds at most; 0 leaves the encoder as it is; of no effect on a base without one",
    )
    encoder_learning_rate: float = Field(default=5e-4, gt=0, le=1)
    text: ShortPath | None = Field(
        default=None,
        description="JSONL of {text}: what a tenant knows, learned word for word instead of traces (continued "
        "pretraining)",
    )
    prompts: ShortPath | None = Field(
        default=None,
        description="JSONL of {messages, response}: general prompts and what is learned to answer, instead of traces",
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_by_default(cls, given: Any) -> Any:
        """Said, so that a manifest that is written down and read again is the same."""
        if isinstance(given, dict) and (given.get("text") or given.get("prompts")):
            return {"perturb": False, "at_once": 0.0} | given
        return given

    @model_validator(mode="after")
    def _is_plain_without_traces(self) -> "Sft":
        given = [name for name in ("text", "prompts") if getattr(self, name) is not None]
        if len(given) == 2:
            raise ValueError("text, prompts: give one of the two")
        if given and (self.perturb or self.at_once or not self.reasoning):
            raise ValueError(
                f"{given[0]}: it holds no schema and no category; leave perturb, reasoning and at_once out"
            )
        return self

    @property
    def reads_traces(self) -> bool:
        return self.text is None and self.prompts is None

    @property
    def sharing(self) -> int:
        """Examples of a row, which read their schema once: a micro-batch holds whole rows."""
        return math.gcd(self.examples_per_schema, self.micro_batch_size)

    @property
    def share_at_once(self) -> float:
        return self.at_once if self.reasoning else 0.0


class Distill(Writing):
    kind: Literal["distill"] = "distill"
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    steps: int = Field(default=60, ge=1, le=MAX_STEPS)
    teacher: TeacherKind = TeacherKind.ema
    teacher_model: str | None = Field(
        default=None, max_length=MAX_NAME_CHARS, description="of an external teacher: directory or name"
    )
    hint: HintKind = HintKind.demonstration
    ema_rate: float = Field(
        default=0.02, ge=0, le=1, description="the teacher's step to the student; 0 freezes it"
    )
    on_policy: bool = Field(default=True, description="False learns on the traces instead of its own words")
    rollouts: int = Field(default=1, ge=1, le=64, description="responses of the student to one prompt")
    divergence: DivergenceKind = DivergenceKind.forward
    estimator: Estimator = Estimator.analytic
    discount: float = Field(
        default=0.0, ge=0, le=1, description="of what follows, in what `token` credits a token with"
    )
    weighting: Weighting = Field(
        default=Weighting.prefix,
        description="of tokens that a vLLM drew by probabilities that are not quite the student's",
    )
    top_k: int | None = Field(
        default=None,
        ge=1,
        le=MAX_VOCABULARY,
        description="compare the teacher's likeliest tokens, and all others as one",
    )
    clip: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="the most that one token of the vocabulary adds to a divergence",
    )
    skip_tokens: int = Field(
        default=3, ge=0, le=ANSWER_TOKENS, description="first tokens left out, which copy the hint's phrases"
    )
    perturb: bool = True
    perturbed_share: float = Field(
        default=0.5, ge=0, le=1, description="share of perturbed prompts, with perturb"
    )
    examples_per_schema: int = EXAMPLES_PER_SCHEMA
    max_new_tokens: int = Field(
        default=ANSWER_TOKENS,
        ge=8,
        le=MAX_RESPONSE_TOKENS,
        description=f"of a response; more than {ANSWER_TOKENS}, which is what serving reads, with `prompts` alone",
    )
    prompts: ShortPath | None = Field(
        default=None,
        description="JSONL of {messages}: general prompts instead of the tenant's (re-invocation); with `contexts` "
        "each has an {id}",
    )
    demonstrations: Demonstrations = None
    contexts: ShortPath | None = Field(
        default=None,
        description="JSONL of {id, text}: what the teacher is shown of each conversation, or general prompt, with hint "
        "`document`; those without a line are left out",
    )
    preflight: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="prompts on which the teacher's use is measured before the first step",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Distill":
        sampled = self.estimator is not Estimator.analytic
        wrong = {
            "teacher_model: give it with teacher `external`, and only then": (
                (self.teacher is TeacherKind.external) != (self.teacher_model is not None)
            ),
            f"divergence: estimator `{self.estimator}` is of `reverse`": (
                sampled and self.divergence is not DivergenceKind.reverse
            ),
            f"estimator: `{self.estimator}` needs the student's own words, so on_policy": (
                sampled and not self.on_policy
            ),
            "top_k, clip: only with estimator `analytic`": sampled and bool(self.top_k or self.clip),
            "discount: only with estimator `token`": self.discount > 0
            and self.estimator is not Estimator.token,
            f"rollouts: {self.rollouts} do not divide micro_batch_size {self.micro_batch_size}": (
                self.micro_batch_size % self.rollouts != 0
            ),
            "hint: off policy the teacher would be shown the very trace that is learned, and copy it; use criterion, "
            "answer or none, or give `demonstrations` of somebody else": (
                not self.on_policy and self.hint is HintKind.demonstration and self.demonstrations is None
            ),
            "contexts: give them with hint `document`, and only then": (
                (self.hint is HintKind.document) != (self.contexts is not None)
            ),
            "rollouts: the traces have one response to a prompt": not self.on_policy and self.rollouts > 1,
            "prompts: general prompts have no answer to hint at, and no traces: on_policy, and teacher `base` with "
            "hint `none`, or hint `document` with `contexts`": self.prompts is not None
            and (not self.on_policy or not self._teaches_generally),
            f"max_new_tokens: serving reads {ANSWER_TOKENS} of an answer; more go with `prompts` alone": (
                self.max_new_tokens > ANSWER_TOKENS and self.prompts is None
            ),
        }
        problems = [message for message, holds in wrong.items() if holds]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def _teaches_generally(self) -> bool:
        """Its teacher knows something that the student does not have before it: other weights, or a text."""
        of_base = self.teacher is TeacherKind.base and self.hint is HintKind.none
        return of_base or self.hint is HintKind.document

    @property
    def sharing(self) -> int:
        """Responses of a row, which read their schema once: a micro-batch holds whole rows."""
        return math.gcd(self.examples_per_schema * self.rollouts, self.micro_batch_size)


class Rl(Writing):
    FULL_RATE: ClassVar[float] = 1e-6

    kind: Literal["rl"] = "rl"
    learning_rate: float = Field(default=3e-5, gt=0, le=1)
    batch_size: int = Field(default=64, ge=2, le=MAX_BATCH)
    micro_batch_size: int = Field(default=64, ge=1, le=MAX_BATCH)
    steps: int = Field(default=100, ge=1, le=MAX_STEPS)
    generations: int = Field(default=8, ge=2, le=256)
    beta: float = Field(default=0.001, ge=0, le=100)
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    importance_sampling: Literal["token", "sequence"] = "token"
    epsilon: float = Field(
        default=0.2, gt=0, le=100, description="how far a ratio may fall; GSPO wants about 3e-4"
    )
    epsilon_high: float | None = Field(
        default=None, gt=0, le=100, description="how far it may rise; as epsilon if not given"
    )
    updates_per_generation: int = Field(
        default=1, ge=1, le=1000, description="optimizer steps on one generation"
    )
    perturb: bool = True
    pairs: bool = Field(
        default=False,
        description="each conversation under the schema and a perturbed one; a bonus where both go well",
    )
    rounds: int = Field(
        default=0, ge=0, le=10_000, description="times that prompts are chosen by difficulty; 0 takes all"
    )
    tries: int = Field(
        default=8, ge=2, le=256, description="answers by which difficulty is judged, in rounds"
    )
    teacher_weight: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="of log p(teacher) - log p(student), added to the advantage of each token",
    )
    teacher_on: Literal["failed", "all"] = Field(
        default="failed", description="groups that the teacher helps: those without one right answer, or all"
    )
    hint: HintKind = Field(
        default=HintKind.criterion, description="what that teacher, the student itself, is shown"
    )
    kl_budget: float | None = Field(
        default=None, gt=0, le=1000, description="nats a token from the base, at which the stage ends"
    )

    @model_validator(mode="after")
    def _whole_groups(self) -> "Rl":
        groups, rest = divmod(self.batch_size * self.updates_per_generation, self.generations)
        if rest or self.batch_size % self.generations:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of generations {self.generations}"
            )
        if self.pairs and (groups % 2 or not self.perturb):
            raise ValueError(
                "pairs: they need perturb, and an even number of prompts in a generation "
                f"(batch_size * updates_per_generation / generations is {groups})"
            )
        if self.importance_sampling == "sequence" and self.updates_per_generation == 1:
            raise ValueError(
                "importance_sampling: what is learned from once is the student's own, so every ratio is 1 and "
                "`sequence` is `token`; give updates_per_generation of 2 or more"
            )
        if self.steps % self.updates_per_generation:
            raise ValueError("steps: must be a multiple of updates_per_generation")
        if self.rounds > self.steps // self.updates_per_generation:
            raise ValueError("rounds: a round is at least one generation long")
        if self.teacher_weight and self.hint in (HintKind.demonstration, HintKind.document):
            raise ValueError(
                "hint: RL has no traces to demonstrate with, and no documents; use criterion or answer"
            )
        return self

    @property
    def prompts(self) -> int:
        """Groups over the whole stage."""
        return self.steps * self.batch_size // self.generations


def validates(stage: BaseModel) -> bool:
    """Its manifest needs conversations to validate on."""
    return isinstance(stage, Learning) and stage.validate_every is not None


Stage = Annotated[Traces | Sft | Distill | Rl, Field(discriminator="kind")]


class StageManifest(StageSettings):
    """One stage, from its inputs to its output directory. base: a model directory, or a name in the local cache."""

    stage: Stage
    base: str
    adapter: Path | None = None
    category_schema: CategorySchema
    conversations: Path
    validation: Path | None = None
    traces: Path | None = None
    answers: Path | None = Field(
        default=None, description="where endpoints' answers are kept, so that none is paid twice"
    )
    out: Path
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _has_what_the_stage_reads(self) -> "StageManifest":
        if self.stage.kind == "traces" and any(isinstance(t, NamedTeacher) for t in self.stage.teachers):
            raise ValueError("teachers: a name is of an installation's settings; a manifest has the endpoint")
        if self.stage.kind == "sft" and self.stage.reads_traces and self.traces is None:
            raise ValueError(
                "traces: stage `sft` learns from traces; give the traces.jsonl of a traces stage"
            )
        if validates(self.stage) and self.validation is None:
            raise ValueError("validation: validate_every is set; give conversations to validate on")
        if self.stage.kind == "distill" and not self.stage.on_policy and self.traces is None:
            raise ValueError("traces: off-policy distillation learns on traces; give a traces.jsonl")
        if self._shows_what_is_learned:
            raise ValueError(
                "demonstrations: they are the traces that are learned off policy, so the teacher would be shown the "
                "very trace that it reads, and copy it; give somebody else's, or use hint criterion, answer or none"
            )
        return self

    @property
    def _shows_what_is_learned(self) -> bool:
        stage = self.stage
        if stage.kind != "distill" or stage.on_policy or stage.hint is not HintKind.demonstration:
            return False
        files = [os.path.realpath(file) for file in (stage.demonstrations, self.traces) if file is not None]
        return len(files) > len(set(files))

    @property
    def sha256(self) -> str:
        """Of what the result follows from. Files are named as seen from `out`, so that a job's folder can be moved."""
        content: dict[str, Any] = self.model_dump(mode="json", exclude={"out", "answers"})
        for name in ("adapter", "conversations", "validation", "traces"):
            if content[name] is not None:
                content[name] = os.path.relpath(content[name], self.out)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
