"""How far a model's confidences may be believed under a schema version: what its gate has fitted, and its use."""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from evaluation.contract.mode import Mode
from evaluation.inference.auto import Sure
from evaluation.inference.predictor import Prediction
from evaluation.metrics import calibrator
from evaluation.metrics.auto_threshold import AutoThreshold, is_sure
from evaluation.metrics.calibration import Calibration


class Fitted(BaseModel):
    """As it is kept with the gate. n: answers to calibrate on, whether they sufficed for a temperature or not.

    ece: of the confidences that are shown, on `ece_n` held-out answers. auto_threshold: of mode auto, of a gate
    in mode fast: answers whose shown confidence is not above it are asked again, with reasoning.
    """

    model_config = ConfigDict(frozen=True)

    method: Literal["temperature", "none"]
    temperature: float
    n: int
    ece: float | None
    ece_n: int
    auto_threshold: float | None = None

    @classmethod
    def of(cls, found: Calibration, auto: AutoThreshold | None = None) -> "Fitted":
        ece = found.ece.after
        return cls(
            method=found.method,
            temperature=found.temperature,
            n=found.n_fit,
            ece=ece.value,
            ece_n=ece.n,
            auto_threshold=auto and auto.value,
        )

    def applied(self, found: Prediction) -> Prediction:
        """The same that the gate applies to what it measures."""
        return calibrator.applied(found, self.temperature if self.method == "temperature" else None)


def auto_of(calibrations: Mapping[Mode, Fitted]) -> Sure | None:
    """Whether an answer at once may stand in mode auto. None where one of both modes has not passed its gate, or the
    gate of fast found no threshold. calibrations: of the modes that have."""
    at_once = calibrations.get(Mode.fast)
    if at_once is None or at_once.auto_threshold is None or Mode.reasoned not in calibrations:
        return None
    threshold, fitted = at_once.auto_threshold, at_once
    return lambda found: is_sure(fitted.applied(found), threshold)


NOT_FITTED: Final = Fitted(method="none", temperature=1.0, n=0, ece=None, ece_n=0)
