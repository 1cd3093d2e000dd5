"""The end of a model: from what it saw before a token to the logits of the token.

Some families do more there than multiply: Gemma-2 caps its logits softly, Granite divides and Cohere multiplies them,
others add a bias. Losses are computed from hidden states, a few positions at a time, so the same has to be done here. A
model whose logits come out otherwise is refused by name: learning and serving would speak of two distributions.

Letters: N positions, H hidden, V vocabulary.
"""

from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from training.artifacts import StageFailed
from training.engine.model import backbone_of, whole_of
from training.protocol import FailureCode

_PROBE = 8  # tokens
_CLOSE = 1e-2  # of the largest logit; bf16 keeps three digits


class Head(NamedTuple):
    """scale: of the logits. cap: the most that one can be, which it nears softly; None for none."""

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """(N, V), in fp32."""
        logits_NV = hidden_NH @ self.weight_VH.to(hidden_NH.dtype).T
        if self.bias_V is not None:
            logits_NV = logits_NV + self.bias_V.to(logits_NV.dtype)
        logits_NV = logits_NV.float() * self.scale
        return logits_NV if self.cap is None else self.cap * torch.tanh(logits_NV / self.cap)

    def cut(self, width: int) -> "Head":
        """Of the first `width` tokens of the vocabulary."""
        bias_V = None if self.bias_V is None else self.bias_V[:width]
        return self._replace(weight_VH=self.weight_VH[:width], bias_V=bias_V)

    def detach(self) -> "Head":
        bias_V = None if self.bias_V is None else self.bias_V.detach()
        return self._replace(weight_VH=self.weight_VH.detach(), bias_V=bias_V)


def head_of(model: PreTrainedModel | PeftModel) -> Head:
    last, config = model.get_output_embeddings(), whole_of(model).config.get_text_config()
    divided, multiplied = (getattr(config, name, None) for name in ("logits_scaling", "logit_scale"))
    scale = (1.0 if multiplied is None else float(multiplied)) / (1.0 if divided is None else float(divided))
    return Head(
        last.weight, getattr(last, "bias", None), scale, getattr(config, "final_logit_softcapping", None)
    )


def check_head(model: PreTrainedModel | PeftModel) -> None:
    """Raises: StageFailed where a model's own logits are not those of its head here."""
    whole = whole_of(model)
    vocabulary = len(head_of(model).weight_VH)
    ids_1L = torch.linspace(1, vocabulary - 1, _PROBE, device=whole.device).long()[None]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        own = whole(input_ids=ids_1L).logits[0].float()
        ours = head_of(model).logits(backbone_of(model)(input_ids=ids_1L).last_hidden_state[0])
    model.train(was_training)
    if (own - ours).abs().max() > _CLOSE * own.abs().max():
        raise StageFailed(
            FailureCode.unfit_settings,
            f"{type(whole).__name__} does something to its logits that is not known here, so distillation and RL would "
            "learn by other probabilities than it is served with; choose a base of another family",
        )
