"""What the settings of stages are made of: what all that learn share, and the choices that have names. Torch-free."""

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evaluation.contract.budget import ANSWER_TOKENS

# Beyond any use: what is larger was a slip of the hand, or is meant to keep a machine busy for ever.
MAX_STEPS = 1_000_000
MAX_BATCH = 8192
MAX_CONVERSATIONS = 1_000_000
MAX_SECONDS = 30 * 86_400.0
MAX_USD = 1e6
MAX_VOCABULARY = 1_000_000
MAX_NAME_CHARS = 500


class StageSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Precision(StrEnum):
    auto = "auto"  # bf16 autocast where the processor multiplies bf16 in hardware, else fp32
    fp32 = "fp32"
    bf16 = "bf16"


class DivergenceKind(StrEnum):
    forward = "forward"  # KL(teacher || student): what SDFT's published numbers used
    reverse = "reverse"
    jsd = "jsd"


class Estimator(StrEnum):
    """How the gradient of a divergence is had. All but `analytic` are of the reverse KL."""

    analytic = "analytic"  # over the whole vocabulary at each position; what follows from a token is left out
    token = "token"  # from the token that was written alone
    rao_blackwellized = "rao_blackwellized"  # analytic, and the written token is credited with what follows
    constant = "constant"  # every token counts alike: a control that learns nothing from the teacher


class Weighting(StrEnum):
    """By what a token counts where the response was drawn by other probabilities than the student's."""

    none = "none"  # as if it had been the student's own
    token = "token"  # the ratio of the two probabilities of the token
    prefix = "prefix"  # their product over the response so far, truncated


class TeacherKind(StrEnum):
    ema = "ema"  # the student's exponential moving average
    live = "live"  # the student as it is
    base = "base"  # the model without the adapter
    external = "external"  # another model with the same tokenizer


class Schedule(StrEnum):
    """How the learning rate goes on after it has warmed up."""

    constant = "constant"
    cosine = "cosine"  # down to nothing: half as much is learned in the same steps


class Tuning(StrEnum):
    lora = "lora"
    full = "full"  # every weight; the base stays beside them, for teachers and for the distance to it


class Lora(StageSettings):
    """Used where a stage starts without an adapter; a later stage keeps the shape of the one it goes on with."""

    rank: int = Field(default=32, ge=1, le=512)
    alpha: int = Field(default=64, ge=1, le=4096)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class Learning(StageSettings):
    """batch_size: sequences in one optimizer step; micro_batch_size: of them at once in memory.

    max_seconds: the stage ends after the step that passes it, and says so in its metrics.
    """

    FULL_RATE: ClassVar[float] = 1e-5

    learning_rate: float = Field(gt=0, le=1)
    batch_size: int = Field(default=32, ge=1, le=MAX_BATCH)
    micro_batch_size: int = Field(default=32, ge=1, le=MAX_BATCH)
    warmup_steps: int = Field(default=10, ge=0, le=MAX_STEPS)
    schedule: Schedule = Schedule.constant
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e6)
    max_seconds: float | None = Field(default=None, gt=0, le=MAX_SECONDS)
    checkpoint_every: int = Field(default=50, ge=1, le=MAX_STEPS)
    validate_every: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        description="steps from one measurement on the validation split to the next; the best wins",
    )
    validation_items: int = Field(
        default=64, ge=2, le=MAX_CONVERSATIONS, description="conversations of a validation"
    )
    keep_best: bool = Field(
        default=True, description="the student of the best validation is left; False leaves the last one"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="validations without a better one, after which the stage ends",
    )
    precision: Precision = Precision.auto
    tuning: Tuning = Field(
        default=Tuning.lora,
        description="of a stage that starts from the base; a later one goes on as the one before it",
    )
    lora: Lora = Lora()
    balance: bool = Field(
        default=True,
        description="every category as often as any other; False: in the shares that the labels have",
    )

    @model_validator(mode="before")
    @classmethod
    def _full_is_slower(cls, given: Any) -> Any:
        """A rate that suits an adapter ruins a whole model."""
        if isinstance(given, dict) and given.get("tuning") == Tuning.full and "learning_rate" not in given:
            return given | {"learning_rate": cls.FULL_RATE}
        return given

    @model_validator(mode="after")
    def _micro_divides_batch(self) -> "Learning":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        if self.patience and not self.validate_every:
            raise ValueError("patience: it counts validations; give validate_every too")
        return self

    @property
    def accumulation(self) -> int:
        return self.batch_size // self.micro_batch_size


class Sampler(StrEnum):
    """Who writes the student's responses."""

    auto = "auto"  # vllm where there is a GPU for it and an adapter to hand over, else here
    here = "here"  # the training process
    vllm = "vllm"  # a vLLM beside it, which is handed the adapter before each batch


NEW_TOKENS = Field(
    default=ANSWER_TOKENS,
    ge=8,
    le=ANSWER_TOKENS,
    description="of a response; one that is longer than what serving reads would be cut off there",
)


class Writing(Learning):
    """Of stages in which the student writes."""

    max_new_tokens: int = NEW_TOKENS
    sampler: Sampler = Sampler.auto
    sampler_memory: float = Field(default=0.3, gt=0, lt=1, description="share of the GPU that its vLLM takes")

    @model_validator(mode="after")
    def _vllm_takes_adapters(self) -> "Writing":
        if self.sampler is Sampler.vllm and self.tuning is Tuning.full:
            raise ValueError(
                "sampler: vLLM is handed adapters, and with tuning `full` there is none; use `here`"
            )
        return self


EXAMPLES_PER_SCHEMA = Field(
    default=4,
    ge=1,
    le=1024,
    description="examples under one drawing of the schema, which is then read once for all",
)
