"""The divergences against their definitions, and the estimators against exact enumeration."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from training.config import Divergence
from training.losses import (
    beta_of,
    jsd_BT,
    masked_mean,
    per_token,
    rao_blackwellized_reverse_kl,
    reverse_kl_BT,
    sampled_token_reverse_kl,
)

V, T = 3, 3


def random_logps(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double).mul(2).log_softmax(-1)


@pytest.mark.parametrize("divergence", list(Divergence))
def test_a_divergence_is_the_sum_over_the_vocabulary_that_defines_it(divergence: Divergence) -> None:
    torch.manual_seed(0)
    student, teacher = random_logps(2, 4, 5), random_logps(2, 4, 5)
    found = per_token(divergence, student, teacher)
    p, q = student.exp(), teacher.exp()
    m = (p + q) / 2
    wanted = {
        Divergence.forward: lambda s, t: sum(q[s, t, v] * (q[s, t, v] / p[s, t, v]).log() for v in range(5)),
        Divergence.reverse: lambda s, t: sum(p[s, t, v] * (p[s, t, v] / q[s, t, v]).log() for v in range(5)),
        Divergence.jsd: lambda s, t: sum(
            (q[s, t, v] * (q[s, t, v] / m[s, t, v]).log() + p[s, t, v] * (p[s, t, v] / m[s, t, v]).log()) / 2
            for v in range(5)
        ),
    }[divergence]
    for s, t in itertools.product(range(2), range(4)):
        assert found[s, t].item() == pytest.approx(float(wanted(s, t)))


@pytest.mark.parametrize("divergence", list(Divergence))
def test_a_divergence_of_equals_is_zero_and_has_no_gradient(divergence: Divergence) -> None:
    logits = torch.randn(2, 3, 7, dtype=torch.double, requires_grad=True)
    loss = per_token(divergence, logits.log_softmax(-1), logits.log_softmax(-1)).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert gradient.abs().max().item() < 1e-12


@pytest.mark.parametrize("divergence", list(Divergence))
def test_the_teacher_gets_no_gradient(divergence: Divergence) -> None:
    student = torch.randn(2, 3, 7, requires_grad=True)
    teacher = torch.randn(2, 3, 7, requires_grad=True)
    per_token(divergence, student.log_softmax(-1), teacher.log_softmax(-1)).sum().backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize("divergence", list(Divergence))
def test_our_losses_and_gradients_are_those_of_trl(divergence: Divergence) -> None:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    torch.manual_seed(1)
    hidden = torch.randn(2, 5, 8, requires_grad=True)
    teacher_hidden, head = torch.randn(2, 5, 8), torch.randn(11, 8)
    mask = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]])
    theirs, _, _ = _chunked_divergence_loss(hidden, teacher_hidden, head, head, mask, beta_of(divergence))
    (their_gradient,) = torch.autograd.grad(theirs, hidden)
    values = per_token(
        divergence, (hidden @ head.T).log_softmax(-1), (teacher_hidden @ head.T).log_softmax(-1)
    )
    ours = masked_mean(values, mask)
    (our_gradient,) = torch.autograd.grad(ours, hidden)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


def test_a_missing_teacher_value_is_an_error_and_not_certainty() -> None:
    values = torch.tensor([[1.0, float("nan")]])
    with pytest.raises(ValueError, match="not finite"):
        masked_mean(values, torch.tensor([[1, 1]]))
    assert masked_mean(values, torch.tensor([[1, 0]])).item() == 1.0


def test_a_mask_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no token"):
        masked_mean(torch.ones(1, 2), torch.zeros(1, 2))


class Toy(NamedTuple):
    """Next-token logits for every prefix of sequences of T tokens over V; every sequence can be listed."""

    student: Tensor
    teacher: Tensor


PREFIXES = [p for t in range(T) for p in itertools.product(range(V), repeat=t)]
SEQUENCES = list(itertools.product(range(V), repeat=T))


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    student = torch.randn(len(PREFIXES), V, dtype=torch.double, requires_grad=True)
    return Toy(student, torch.randn(len(PREFIXES), V, dtype=torch.double))


def along(table: Tensor, sequence: tuple[int, ...]) -> Tensor:
    """Log-probabilities over the vocabulary before each token of the sequence, (1, T, V)."""
    rows = [PREFIXES.index(sequence[:t]) for t in range(T)]
    return table[rows].log_softmax(-1)[None]


def of_tokens(logps_1TV: Tensor, sequence: tuple[int, ...]) -> Tensor:
    return logps_1TV.gather(2, torch.tensor(sequence)[None, :, None]).squeeze(2)


def expected_gradient(toy: Toy, surrogate: Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]) -> Tensor:
    total = torch.zeros_like(toy.student)
    for sequence in SEQUENCES:
        student, teacher = along(toy.student, sequence), along(toy.teacher, sequence)
        probability = of_tokens(student, sequence).sum().exp().detach()
        (gradient,) = torch.autograd.grad(surrogate(student, teacher, sequence).sum(), toy.student)
        total += probability * gradient
    return total


def exact_gradient(toy: Toy) -> Tensor:
    """Of the reverse KL between the distributions over whole sequences."""
    kl = torch.zeros((), dtype=torch.double)
    for sequence in SEQUENCES:
        student = of_tokens(along(toy.student, sequence), sequence).sum()
        kl = kl + student.exp() * (student - of_tokens(along(toy.teacher, sequence), sequence).sum())
    return torch.autograd.grad(kl, toy.student)[0]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def token(student: Tensor, teacher: Tensor, sequence: tuple[int, ...]) -> Tensor:
    return sampled_token_reverse_kl(of_tokens(student, sequence), of_tokens(teacher, sequence))


def reward_to_go(student: Tensor, teacher: Tensor, sequence: tuple[int, ...]) -> Tensor:
    return sampled_token_reverse_kl(of_tokens(student, sequence), of_tokens(teacher, sequence), discount=1.0)


def analytic(student: Tensor, teacher: Tensor, sequence: tuple[int, ...]) -> Tensor:
    return reverse_kl_BT(student, teacher)


def analytic_as_printed(student: Tensor, teacher: Tensor, sequence: tuple[int, ...]) -> Tensor:
    """SDFT's appendix A.1 to the letter, without the student's probability as the weight."""
    return ((student - teacher).detach() * student).sum(-1)


def rao_blackwell(student: Tensor, teacher: Tensor, sequence: tuple[int, ...]) -> Tensor:
    return rao_blackwellized_reverse_kl(student, teacher, of_tokens(student, sequence))


@pytest.mark.parametrize(
    ("surrogate", "error"),
    [(token, 1.49), (analytic, 1.49), (analytic_as_printed, 6.3), (rao_blackwell, 0.0), (reward_to_go, 0.0)],
)
def test_the_expected_gradient_of_an_estimator_is_as_far_from_the_exact_one_as_known(
    toy: Toy, surrogate: Callable[[Tensor, Tensor, tuple[int, ...]], Tensor], error: float
) -> None:
    found = relative_error(expected_gradient(toy, surrogate), exact_gradient(toy))
    assert found == pytest.approx(error, rel=0.01, abs=1e-9)


def test_the_token_estimator_and_the_weighted_analytic_one_agree_in_expectation(toy: Toy) -> None:
    torch.testing.assert_close(expected_gradient(toy, token), expected_gradient(toy, analytic))


def test_the_jsd_lies_between_zero_and_the_logarithm_of_two() -> None:
    far = torch.tensor([[[0.0, -40.0]]]), torch.tensor([[[-40.0, 0.0]]])
    assert jsd_BT(*far).item() == pytest.approx(0.6931, abs=1e-3)
