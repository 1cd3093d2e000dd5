"""Divergences between next-token distributions. Pure: tensors in, tensors out.

Axes: B sequences, T completion tokens (right-padded), V vocabulary, N tokens of the loss. Log-probabilities are
normalised, in nats. Every function detaches the teacher. A value that is not a number stays one, so that the stage
stops before its step.
"""

import math
from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from training.settings import DivergenceKind, Estimator, Weighting

JSD_TEACHER_SHARE = 0.5
IMPORTANCE_CAP = 2.0


def per_token(
    divergence: DivergenceKind,
    student_logps_BTV: Tensor,
    teacher_logps_BTV: Tensor,
    *,
    top_k: int | None = None,
    clip: float | None = None,
) -> Tensor:
    """Divergence at every position, (B, T), unmasked.

    top_k: between the teacher's likeliest tokens, with all the others as one more. clip: the most that one token adds,
    so that a few words of style do not outweigh the rest (pointwise clipping, arXiv 2601.18734).
    """
    student, teacher = student_logps_BTV, teacher_logps_BTV.detach()
    if top_k is not None and top_k < teacher.size(-1) - 1:
        student, teacher = with_tail(student, teacher, top_k)
    entries_BTV = _ENTRIES[divergence](student, teacher)
    return (entries_BTV if clip is None else entries_BTV.clamp(max=clip)).sum(-1)


def with_tail(student_logps_BTV: Tensor, teacher_logps_BTV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Both over the teacher's k likeliest tokens and one that stands for the rest, (B, T, k + 1)."""
    best_BTK = teacher_logps_BTV.topk(k, dim=-1).indices
    return _kept_and_rest(student_logps_BTV, best_BTK), _kept_and_rest(teacher_logps_BTV, best_BTK)


def _kept_and_rest(logps_BTV: Tensor, kept_BTK: Tensor) -> Tensor:
    rest_BT1 = logps_BTV.scatter(-1, kept_BTK, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logps_BTV.gather(-1, kept_BTK), rest_BT1], dim=-1)


def _forward_entries(student: Tensor, teacher: Tensor) -> Tensor:
    """Of KL(teacher || student). Source: Hinton et al., arXiv 1503.02531; SDFT's released code."""
    return teacher.exp() * (teacher - student)


def _reverse_entries(student: Tensor, teacher: Tensor) -> Tensor:
    """Of KL(student || teacher), with the weight of the student's probability that SDFT's appendix A.1 leaves out.

    Source: GKD, arXiv 2306.13649, section 3.
    """
    return student.exp() * (student - teacher)


def _jsd_entries(student: Tensor, teacher: Tensor) -> Tensor:
    """Of b KL(teacher || m) + (1 - b) KL(student || m) with m = b teacher + (1 - b) student, b = JSD_TEACHER_SHARE.

    Source: GKD, arXiv 2306.13649, equation 1.
    """
    b = JSD_TEACHER_SHARE
    mixture = torch.logaddexp(student + math.log(1 - b), teacher + math.log(b))
    return b * teacher.exp() * (teacher - mixture) + (1 - b) * student.exp() * (student - mixture)


_ENTRIES = {
    DivergenceKind.forward: _forward_entries,
    DivergenceKind.reverse: _reverse_entries,
    DivergenceKind.jsd: _jsd_entries,
}


def sampled_token_reverse_kl(
    logps_BT: Tensor, teacher_logps_BT: Tensor, discount: float, weights_BT: Tensor
) -> Tensor:
    """Score-function surrogate of the reverse KL from the sampled tokens alone, (B, T).

    discount: 0 credits a token with its own log-ratio, 1 with those of all tokens after it too (reward-to-go), which
    makes the expected gradient that of the whole sequence's KL. weights_BT: of each log-ratio.
    """
    ratio_BT = (logps_BT - teacher_logps_BT).detach()
    return _to_go(weights_BT * ratio_BT, discount) * logps_BT


def rao_blackwellized_reverse_kl(reverse_kl_here_BT: Tensor, sampled_logps_BT: Tensor) -> Tensor:
    """Analytic at each position plus the score-function term for what the token leads to, (B, T).

    Its expected gradient is exactly that of the sequence's reverse KL, with less variance than reward-to-go.
    Source: Amini et al., arXiv 2504.10637.
    """
    here_BT = reverse_kl_here_BT.detach()
    after_BT = _to_go(here_BT, 1.0) - here_BT
    return reverse_kl_here_BT + sampled_logps_BT * after_BT


def importance_weights(logps: Tensor, drawn_logps: Tensor) -> Tensor:
    """How much likelier each token is to the student than to what drew it, at most IMPORTANCE_CAP; no gradient.

    Of each token and not of the sequence, whose product of ratios is mostly 0 or the cap after some hundred tokens.
    Source: TRL's `token_truncate`, after Yao et al., "Your efficient RL framework secretly brings you off-policy RL
    training" (2025).
    """
    return (logps.detach() - drawn_logps).exp().clamp(max=IMPORTANCE_CAP)


def drawn_as_sequences(logps_BT: Tensor, drawn_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """What to divide each token's probability by so that the ratio's value is its sequence's and its gradient the
    token's own: GSPO-token (arXiv 2507.18071, section 4.3).

    The ratio of a sequence alone, exp of the mean of the tokens' log-ratios, has the same gradient for each of its
    tokens: their advantages would count by their mean only. Where they are all equal, both are the same.
    """
    here_BT = logps_BT.detach()
    lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
    return here_BT - ((here_BT - drawn_logps_BT) * mask_BT).sum(1, keepdim=True) / lengths_B1


class Weights(NamedTuple):
    """Of the responses' tokens, for values that are known before a token is drawn and for those known after it."""

    before_BT: Tensor
    through_BT: Tensor


def weights_of(weighting: Weighting, logps_BT: Tensor, drawn_logps_BT: Tensor) -> Weights:
    """What makes an expectation over the student's responses of one over those that something else drew; no gradient.

    What follows from a prefix is seen as often as the prefix is drawn, so the product of the ratios over the prefix
    corrects it; it is truncated at IMPORTANCE_CAP. The ratio of a token alone has, given the prefix, the expectation
    1: it corrects nothing of a value that the prefix determines, such as a divergence between distributions.
    """
    ratios_BT = logps_BT.detach() - drawn_logps_BT
    match weighting:
        case Weighting.none:
            return Weights(torch.ones_like(ratios_BT), torch.ones_like(ratios_BT))
        case Weighting.token:
            alone_BT = importance_weights(logps_BT, drawn_logps_BT)
            return Weights(alone_BT, alone_BT)
        case Weighting.prefix:
            sums_BT = ratios_BT.cumsum(1)
            before_BT, through_BT = (
                x.exp().clamp(max=IMPORTANCE_CAP) for x in (sums_BT - ratios_BT, sums_BT)
            )
            return Weights(before_BT, through_BT)


class Terms(NamedTuple):
    """At each token that was written. logps: of that token. entropies: the student's, no gradient."""

    divergences_N: Tensor
    logps_N: Tensor
    teacher_logps_N: Tensor
    entropies_N: Tensor


class Written(NamedTuple):
    """The tokens of the terms, row by row. learned_BT: those whose divergence counts. drawn_logps_BT: by what drew
    them, where that was not the student itself."""

    mask_BT: Tensor
    learned_BT: Tensor
    drawn_logps_BT: Tensor | None = None


class Estimation(NamedTuple):
    estimator: Estimator = Estimator.analytic
    discount: float = 0.0
    weighting: Weighting = Weighting.prefix


def estimated(how: Estimation, terms: Terms, written: Written) -> Tensor:
    """What to minimise, (N,): its gradient is the estimator's.

    A token that is not learned adds no divergence of its own. What it leads to counts all the same, so where a token is
    credited with what follows, it is too.
    """
    chosen_BT = written.mask_BT.bool()

    def spread(values_N: Tensor) -> Tensor:
        empty_BT = torch.zeros(chosen_BT.shape, device=values_N.device, dtype=values_N.dtype)
        return empty_BT.masked_scatter(chosen_BT, values_N)

    logps_BT, learned_BT = spread(terms.logps_N), written.learned_BT.to(terms.logps_N.dtype)
    before_BT = through_BT = learned_BT
    if written.drawn_logps_BT is not None:
        drawn_BT = torch.where(chosen_BT, written.drawn_logps_BT.to(logps_BT.dtype), 0.0)
        weights = weights_of(how.weighting, logps_BT, drawn_BT)
        before_BT, through_BT = (learned_BT * weight_BT for weight_BT in weights)
    match how.estimator:
        case Estimator.analytic:
            loss_BT = before_BT * spread(terms.divergences_N)
        case Estimator.constant:
            loss_BT = -through_BT * logps_BT
        case Estimator.token:
            loss_BT = sampled_token_reverse_kl(
                logps_BT, spread(terms.teacher_logps_N), how.discount, through_BT
            )
        case Estimator.rao_blackwellized:
            loss_BT = rao_blackwellized_reverse_kl(before_BT * spread(terms.divergences_N), logps_BT)
        case _:
            assert_never(how.estimator)
    return loss_BT[chosen_BT]


def _to_go(values_BT: Tensor, discount: float) -> Tensor:
    if discount == 0.0:
        return values_BT
    total, columns = torch.zeros_like(values_BT[:, 0]), []
    for column in reversed(values_BT.unbind(1)):
        total = column + discount * total
        columns.append(total)
    return torch.stack(columns[::-1], dim=1)
