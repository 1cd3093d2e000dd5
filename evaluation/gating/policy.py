"""What a gate asks for, as a file."""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation.suites.families import SEEN

DEFAULT_POLICY = Path(__file__).parent / "policies" / "default.toml"
Named: TypeAlias = Literal[
    "accuracy",
    "macro_f1",
    "majority_over_selection",
    "steerability",
    "steerability_seen",
    "steerability_unseen",
    "flip_accuracy",
    "invariance",
    "override_rate",
    "unparsable",
    "forced_read",
    "label_mass",
    "evidence_rate",
    "decided_by_rate",
    "injection_success",
    "out_of_distribution_accuracy_gain",
]


class PolicyError(ValueError):
    """A policy file that cannot be used."""


def _known(family: str) -> str:
    if family not in SEEN:
        raise ValueError(f"there is no family {family}; there are {', '.join(SEEN)}")
    return family


Family: TypeAlias = Annotated[str, AfterValidator(_known)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bound(_Part):
    measure: Named
    limit: float
    slack: float = Field(gt=0)
    least_n: int = Field(ge=1)


class NotWorse(_Part):
    """edits: those of the families that count, or of the others together."""

    measure: Literal["accuracy", "steerability", "flip_accuracy", "invariance"]
    edits: Literal["counted", "others"] = "counted"
    than: Literal["base", "live"]
    margin: float = Field(ge=0)
    slack: float = Field(gt=0)
    least_n: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_measured(self) -> "NotWorse":
        if self.edits == "others" and self.measure not in ("flip_accuracy", "invariance"):
            raise ValueError(f"of the other edits there are flip_accuracy and invariance, not {self.measure}")
        return self


class Families(_Part):
    """counted: in steerability, flip accuracy, invariance and override rate. required: else the gate is incomplete."""

    counted: tuple[Family, ...] = Field(default=tuple(SEEN), min_length=1)
    required: tuple[Family, ...] = ()


class Policy(_Part):
    version: Literal[2]
    max_errored: float = Field(ge=0, le=1)
    interim_looks: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)
    families: Families = Families()
    floors: tuple[Bound, ...] = Field(min_length=1)
    ceilings: tuple[Bound, ...] = ()
    not_worse: tuple[NotWorse, ...] = ()
    sha256: str  # of the file's bytes

    @model_validator(mode="after")
    def _interim_looks_grow_to_all(self) -> "Policy":
        if list(self.interim_looks) != sorted(set(self.interim_looks)) or self.interim_looks[-1] != 1:
            raise ValueError("interim_looks: shares of the sample that grow, and end with 1.0")
        return self


def load_policy(path: Path = DEFAULT_POLICY) -> Policy:
    content = path.read_bytes()
    try:
        raw = tomllib.loads(content.decode())
        return Policy.model_validate(raw | {"sha256": hashlib.sha256(content).hexdigest()})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path.name} is not TOML: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "as a whole"
        raise PolicyError(f"{path.name}: {place}: {problem['msg']}") from None
