"""From hidden states to the terms of a divergence, a few hundred positions at a time.

A vocabulary is far wider than a hidden state, so its log-probabilities are never all there at once: each chunk is
projected, reduced to a number a position, and projected again for the gradient.

Letters: N positions, H hidden, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from training.engine.head import Head
from training.engine.losses import Terms, per_token
from training.settings import DivergenceKind

CHUNK = 512


class States(NamedTuple):
    """What a model saw before each token, and the head that makes logits of it."""

    hidden_NH: Tensor
    head: Head


class ComparedTokens(NamedTuple):
    divergence: DivergenceKind
    top_k: int | None = None
    clip: float | None = None

    @classmethod
    def forward(cls) -> "ComparedTokens":
        return cls(DivergenceKind.forward)


def terms_of(student: States, teacher: States, written_N: Tensor, how: ComparedTokens) -> Terms:
    """Of two models whose token ids mean the same; where one vocabulary is padded wider, the padding is left out."""
    width = min(len(states.head.weight_VH) for states in (student, teacher))
    heads = student.head.cut(width), teacher.head.cut(width).detach()

    def chunk(student_NH: Tensor, teacher_NH: Tensor, ids_N: Tensor) -> tuple[Tensor, ...]:
        student_NV, teacher_NV = (
            head.logits(hidden_NH).log_softmax(-1)
            for head, hidden_NH in zip(heads, (student_NH, teacher_NH), strict=True)
        )
        with torch.no_grad():
            entropies_N = -(student_NV.exp() * student_NV).sum(-1)
        return (
            per_token(how.divergence, student_NV, teacher_NV, top_k=how.top_k, clip=how.clip),
            student_NV.gather(1, ids_N[:, None]).squeeze(1),
            teacher_NV.gather(1, ids_N[:, None]).squeeze(1),
            entropies_N,
        )

    parts = zip(
        student.hidden_NH.split(CHUNK),
        teacher.hidden_NH.detach().split(CHUNK),
        written_N.split(CHUNK),
        strict=True,
    )
    made = [checkpoint(chunk, *part, use_reentrant=False) for part in parts]
    return Terms(*(torch.cat(column) for column in zip(*made, strict=True)))
