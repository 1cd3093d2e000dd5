"""Divergences between next-token distributions. Pure: tensors in, tensors out.

Axes: B sequences, T completion tokens (right-padded), V vocabulary, N unmasked positions. Log-probabilities are
normalised, in nats. Every function detaches the teacher, and raises where an unmasked value is not a number: read
as 0.0 a missing log-probability would mean that the teacher is certain.
"""

import math

import torch
from torch import Tensor

from training.config import Divergence

JSD_TEACHER_SHARE = 0.5


def beta_of(divergence: Divergence) -> float:
    """The same choice as the generalised JSD's coefficient: 0 forward, 1 reverse."""
    return {Divergence.forward: 0.0, Divergence.reverse: 1.0, Divergence.jsd: JSD_TEACHER_SHARE}[divergence]


def per_token(divergence: Divergence, student_logps_BTV: Tensor, teacher_logps_BTV: Tensor) -> Tensor:
    """Divergence at every position, (B, T), unmasked."""
    match divergence:
        case Divergence.forward:
            return forward_kl_BT(student_logps_BTV, teacher_logps_BTV)
        case Divergence.reverse:
            return reverse_kl_BT(student_logps_BTV, teacher_logps_BTV)
        case Divergence.jsd:
            return jsd_BT(student_logps_BTV, teacher_logps_BTV)


def forward_kl_BT(student_logps_BTV: Tensor, teacher_logps_BTV: Tensor) -> Tensor:
    """KL(teacher || student). Source: Hinton et al., arXiv 1503.02531; SDFT's released code."""
    teacher = teacher_logps_BTV.detach()
    return (teacher.exp() * (teacher - student_logps_BTV)).sum(-1)


def reverse_kl_BT(student_logps_BTV: Tensor, teacher_logps_BTV: Tensor) -> Tensor:
    """KL(student || teacher), with the weight of the student's probability that SDFT's appendix A.1 leaves out.

    Source: GKD, arXiv 2306.13649, section 3.
    """
    return (student_logps_BTV.exp() * (student_logps_BTV - teacher_logps_BTV.detach())).sum(-1)


def jsd_BT(student_logps_BTV: Tensor, teacher_logps_BTV: Tensor, beta: float = JSD_TEACHER_SHARE) -> Tensor:
    """beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student.

    Source: GKD, arXiv 2306.13649, equation 1.
    """
    teacher = teacher_logps_BTV.detach()
    mixture = torch.logaddexp(student_logps_BTV + math.log(1 - beta), teacher + math.log(beta))
    of_teacher = (teacher.exp() * (teacher - mixture)).sum(-1)
    of_student = (student_logps_BTV.exp() * (student_logps_BTV - mixture)).sum(-1)
    return beta * of_teacher + (1 - beta) * of_student


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over unmasked positions, a token as much as any other whatever its sequence's length.

    Raises: ValueError where an unmasked value is not finite, or where nothing is unmasked.
    """
    chosen_N = values_BT[mask_BT.bool()]
    if chosen_N.numel() == 0:
        raise ValueError("the mask leaves no token, so there is nothing to learn from")
    if not torch.isfinite(chosen_N).all():
        raise ValueError("a divergence is not finite at an unmasked token")
    return chosen_N.mean()


def sampled_token_reverse_kl(logps_BT: Tensor, teacher_logps_BT: Tensor, discount: float = 0.0) -> Tensor:
    """Score-function surrogate of the reverse KL from the sampled tokens alone, (B, T).

    discount: 0 credits a token with its own log-ratio, 1 with those of all tokens after it too (reward-to-go), which
    makes the expected gradient that of the whole sequence's KL.
    """
    ratio_BT = (logps_BT - teacher_logps_BT).detach()
    return _to_go(ratio_BT, discount) * logps_BT


def rao_blackwellized_reverse_kl(
    student_logps_BTV: Tensor, teacher_logps_BTV: Tensor, sampled_logps_BT: Tensor
) -> Tensor:
    """Analytic at each position plus the score-function term for what the token leads to, (B, T).

    Its expected gradient is exactly that of the sequence's reverse KL, with less variance than reward-to-go.
    Source: Amini et al., arXiv 2504.10637.
    """
    here_BT = reverse_kl_BT(student_logps_BTV, teacher_logps_BTV)
    after_BT = _to_go(here_BT.detach(), 1.0) - here_BT.detach()
    return here_BT + sampled_logps_BT * after_BT


def _to_go(values_BT: Tensor, discount: float) -> Tensor:
    if discount == 0.0:
        return values_BT
    total, columns = torch.zeros_like(values_BT[:, 0]), []
    for column in reversed(values_BT.unbind(1)):
        total = column + discount * total
        columns.append(total)
    return torch.stack(columns[::-1], dim=1)
