"""The divergences against their definitions, and the estimators against exact enumeration."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from training.engine import losses, projection
from training.engine.head import Head
from training.engine.losses import (
    IMPORTANCE_CAP,
    Estimation,
    Terms,
    Written,
    estimated,
    per_token,
    weights_of,
)
from training.engine.projection import ComparedTokens, States, terms_of
from training.settings import DivergenceKind, Estimator, Weighting

V, T = 3, 3


def random_logps(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double).mul(2).log_softmax(-1)


@pytest.mark.parametrize("divergence", list(DivergenceKind))
def test_a_divergence_is_the_sum_over_the_vocabulary_that_defines_it(divergence: DivergenceKind) -> None:
    torch.manual_seed(0)
    student, teacher = random_logps(2, 4, 5), random_logps(2, 4, 5)
    found = per_token(divergence, student, teacher)
    p, q = student.exp(), teacher.exp()
    m = (p + q) / 2
    wanted = {
        DivergenceKind.forward: lambda s, t: sum(
            q[s, t, v] * (q[s, t, v] / p[s, t, v]).log() for v in range(5)
        ),
        DivergenceKind.reverse: lambda s, t: sum(
            p[s, t, v] * (p[s, t, v] / q[s, t, v]).log() for v in range(5)
        ),
        DivergenceKind.jsd: lambda s, t: sum(
            (q[s, t, v] * (q[s, t, v] / m[s, t, v]).log() + p[s, t, v] * (p[s, t, v] / m[s, t, v]).log()) / 2
            for v in range(5)
        ),
    }[divergence]
    for s, t in itertools.product(range(2), range(4)):
        assert found[s, t].item() == pytest.approx(float(wanted(s, t)))


@pytest.mark.parametrize("divergence", list(DivergenceKind))
def test_a_divergence_of_equals_is_zero_and_has_no_gradient(divergence: DivergenceKind) -> None:
    logits = torch.randn(2, 3, 7, dtype=torch.double, requires_grad=True)
    loss = per_token(divergence, logits.log_softmax(-1), logits.log_softmax(-1)).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert gradient.abs().max().item() < 1e-12


@pytest.mark.parametrize("divergence", list(DivergenceKind))
def test_the_teacher_gets_no_gradient(divergence: DivergenceKind) -> None:
    student = torch.randn(2, 3, 7, requires_grad=True)
    teacher = torch.randn(2, 3, 7, requires_grad=True)
    per_token(divergence, student.log_softmax(-1), teacher.log_softmax(-1)).sum().backward()
    assert teacher.grad is None and student.grad is not None


THEIR_BETA = {DivergenceKind.forward: 0.0, DivergenceKind.reverse: 1.0, DivergenceKind.jsd: 0.5}


@pytest.mark.parametrize("divergence", list(DivergenceKind))
def test_our_losses_and_gradients_are_those_of_trl(
    divergence: DivergenceKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    monkeypatch.setattr(projection, "CHUNK", 2)
    torch.manual_seed(1)
    hidden = torch.randn(2, 5, 8, requires_grad=True)
    teacher_hidden, head = torch.randn(2, 5, 8), torch.randn(11, 8, requires_grad=True)
    mask = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]])
    beta = THEIR_BETA[divergence]
    theirs, their_entropy, count = _chunked_divergence_loss(
        hidden, teacher_hidden, head, head.detach(), mask, beta
    )
    their_gradients = torch.autograd.grad(theirs, (hidden, head))
    chosen, written = mask.bool(), torch.tensor([3, 1, 4, 1])
    student, teacher = States(hidden[chosen], Head(head)), States(teacher_hidden[chosen], Head(head))
    terms = terms_of(student, teacher, written, ComparedTokens(divergence))
    learned = Written(mask, mask)
    ours = estimated(Estimation(Estimator.analytic), terms, learned).sum() / count
    our_gradients = torch.autograd.grad(ours, (hidden, head))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert terms.entropies_N.sum().item() == pytest.approx(their_entropy.item(), rel=1e-5)
    for our, their in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-6)
    own = (hidden[chosen] @ head.T).log_softmax(-1)
    torch.testing.assert_close(terms.logps_N, own.gather(1, written[:, None]).squeeze(1))


@pytest.mark.parametrize("divergence", list(DivergenceKind))
def test_likeliest_tokens_and_a_tail_are_the_divergence_of_the_grouped_distributions(
    divergence: DivergenceKind,
) -> None:
    torch.manual_seed(0)
    student, teacher = random_logps(2, 4, 6), random_logps(2, 4, 6)
    best = teacher.topk(2, dim=-1).indices

    def grouped(logps: Tensor) -> Tensor:
        kept = logps.exp().gather(-1, best)
        return torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], -1).log()

    wanted = per_token(divergence, grouped(student), grouped(teacher))
    found = per_token(divergence, student, teacher, top_k=2)
    torch.testing.assert_close(found, wanted)
    whole = per_token(divergence, student, teacher)
    assert bool((found <= whole + 1e-12).all())  # what is told apart less cannot differ more
    for all_of_it in (5, 6, 100):
        torch.testing.assert_close(per_token(divergence, student, teacher, top_k=all_of_it), whole)


def test_a_clip_bounds_what_one_token_adds_and_nothing_else() -> None:
    student = torch.tensor([0.98, 0.01, 0.01]).log()
    teacher = torch.tensor([0.01, 0.98, 0.01]).log()
    entries = teacher.exp() * (teacher - student)
    wanted = entries[0] + 0.5 + entries[2]
    assert entries[1] > 0.5
    assert per_token(DivergenceKind.forward, student, teacher, clip=0.5).item() == pytest.approx(
        wanted.item()
    )
    assert per_token(DivergenceKind.forward, student, teacher, clip=50).item() == pytest.approx(
        entries.sum().item()
    )


def test_estimators_see_their_own_sequence_and_no_padding() -> None:
    """Two sequences, of which the first token of one is not learned, and the last of the other is padding."""
    written = Written(torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([[0, 1, 1], [1, 1, 0]]))
    ours, teachers = torch.tensor([-1.0, -2, -3, -4, -5]), torch.tensor([-3.0, -2, -1, -4, -6])
    ours.requires_grad_()
    terms = Terms(torch.tensor([0.5, 0.25, 1.0, 2.0, 4.0]), ours, teachers, torch.zeros(5))

    def gradient(estimator: Estimator, discount: float = 0.0) -> list[float]:
        total = estimated(Estimation(estimator, discount), terms, written).sum()
        return torch.autograd.grad(total, ours)[0].tolist()

    assert gradient(Estimator.token) == [0.0, 0.0, -2.0, 0.0, 1.0]
    assert gradient(Estimator.token, 1.0) == [-2.0, -2.0, -2.0, 1.0, 1.0]
    assert gradient(Estimator.rao_blackwellized) == [1.25, 1.0, 0.0, 4.0, 0.0]
    assert gradient(Estimator.constant) == [0.0, -1.0, -1.0, -1.0, -1.0]


def test_weights_of_a_prefix_are_truncated_products() -> None:
    logps = torch.log(torch.tensor([[0.5, 0.6, 0.3, 0.1]], requires_grad=True))
    drawn = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.4]]))
    weights = weights_of(Weighting.prefix, logps, drawn)
    assert weights.before_BT.tolist()[0] == pytest.approx([1.0, 1.0, 2.0, IMPORTANCE_CAP])
    assert weights.through_BT.tolist()[0] == pytest.approx([1.0, 2.0, IMPORTANCE_CAP, 1.5])
    assert not weights.before_BT.requires_grad and not weights.through_BT.requires_grad


class Toy(NamedTuple):
    """Next-token logits for every prefix of sequences of T tokens over V; every sequence can be listed. sampler: what
    draws the sequences where it is not the student."""

    student: Tensor
    teacher: Tensor
    sampler: Tensor


PREFIXES = [p for t in range(T) for p in itertools.product(range(V), repeat=t)]
SEQUENCES = list(itertools.product(range(V), repeat=T))


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    student = torch.randn(len(PREFIXES), V, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(len(PREFIXES), V, dtype=torch.double)
    near = 0.3 * torch.randn(len(PREFIXES), V, dtype=torch.double)
    return Toy(student, teacher, student.detach() + near)


def along(table: Tensor, sequence: tuple[int, ...]) -> Tensor:
    """Log-probabilities over the vocabulary before each token of the sequence, (1, T, V)."""
    rows = [PREFIXES.index(sequence[:t]) for t in range(T)]
    return table[rows].log_softmax(-1)[None]


def of_tokens(logps_1TV: Tensor, sequence: tuple[int, ...]) -> Tensor:
    return logps_1TV.gather(2, torch.tensor(sequence)[None, :, None]).squeeze(2)


Surrogate = Callable[[Toy, tuple[int, ...]], Tensor]


def gradients(toy: Toy, surrogate: Surrogate, drawn_by: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of all sequences, and the surrogate's gradient on each."""
    found = [torch.autograd.grad(surrogate(toy, sequence).sum(), toy.student)[0] for sequence in SEQUENCES]
    drawn = [of_tokens(along(drawn_by.detach(), sequence), sequence).sum().exp() for sequence in SEQUENCES]
    return torch.stack(drawn), torch.stack(found)


def expected_gradient(toy: Toy, surrogate: Surrogate, drawn_by: Tensor | None = None) -> Tensor:
    """drawn_by: the student itself if not given."""
    probabilities, found = gradients(toy, surrogate, toy.student if drawn_by is None else drawn_by)
    return torch.einsum("s,spv->pv", probabilities, found)


def exact_gradient(toy: Toy, skip: int = 0) -> Tensor:
    """Of the reverse KL between the distributions over whole sequences; skip: of the tokens after the first ones."""
    kl = torch.zeros((), dtype=torch.double)
    for sequence in SEQUENCES:
        student, teacher = along(toy.student, sequence), along(toy.teacher, sequence)
        probability = of_tokens(student, sequence).sum().exp()
        kl = kl + probability * per_token(DivergenceKind.reverse, student, teacher)[:, skip:].sum()
    return torch.autograd.grad(kl, toy.student)[0]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def by(how: Estimation, skip: int = 0, weighed: bool = False) -> Surrogate:
    """The estimator as the stage uses it. weighed: as drawn by the sampler."""

    def surrogate(toy: Toy, sequence: tuple[int, ...]) -> Tensor:
        student, teacher = along(toy.student, sequence), along(toy.teacher, sequence)
        logps, teachers = of_tokens(student, sequence), of_tokens(teacher, sequence)
        here = per_token(DivergenceKind.reverse, student, teacher)[0]
        terms = Terms(here, logps[0], teachers[0], torch.zeros(T))
        drawn = of_tokens(along(toy.sampler, sequence), sequence) if weighed else None
        learned = (torch.arange(T) >= skip).long()[None]
        return estimated(how, terms, Written(torch.ones(1, T), learned, drawn))

    return surrogate


def analytic_as_printed(toy: Toy, sequence: tuple[int, ...]) -> Tensor:
    """SDFT's appendix A.1 to the letter, without the student's probability as the weight."""
    student, teacher = along(toy.student, sequence), along(toy.teacher, sequence)
    return ((student - teacher).detach() * student).sum(-1)


TOKEN, ANALYTIC = Estimation(Estimator.token), Estimation(Estimator.analytic)
REWARD_TO_GO, RAO_BLACKWELL = Estimation(Estimator.token, 1.0), Estimation(Estimator.rao_blackwellized)
NAMES = {
    "token": TOKEN,
    "reward to go": REWARD_TO_GO,
    "analytic": ANALYTIC,
    "Rao-Blackwellized": RAO_BLACKWELL,
}


@pytest.mark.parametrize(
    ("surrogate", "error"),
    [
        (by(TOKEN), 1.49),
        (by(ANALYTIC), 1.49),
        (analytic_as_printed, 6.3),
        (by(RAO_BLACKWELL), 0.0),
        (by(REWARD_TO_GO), 0.0),
    ],
)
def test_the_expected_gradient_of_an_estimator_is_as_far_from_the_exact_one_as_known(
    toy: Toy, surrogate: Surrogate, error: float
) -> None:
    found = relative_error(expected_gradient(toy, surrogate), exact_gradient(toy))
    assert found == pytest.approx(error, rel=0.01, abs=1e-9)


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("name", ["Rao-Blackwellized", "reward to go"])
def test_first_tokens_that_are_skipped_are_credited_with_what_they_lead_to(
    name: str, skip: int, toy: Toy
) -> None:
    """Without their scores the gradient of what is left is biased."""
    found = expected_gradient(toy, by(NAMES[name], skip))
    assert relative_error(found, exact_gradient(toy, skip)) < 1e-9


def test_the_token_estimator_and_the_weighted_analytic_one_agree_in_expectation(toy: Toy) -> None:
    for skip in range(T):
        torch.testing.assert_close(
            expected_gradient(toy, by(TOKEN, skip)), expected_gradient(toy, by(ANALYTIC, skip))
        )


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_product_over_the_prefix_makes_up_for_another_sampler_and_a_tokens_ratio_does_not(
    name: str, skip: int, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = NAMES[name]
    wanted = expected_gradient(toy, by(how, skip))

    def bias(weighting: Weighting) -> float:
        surrogate = by(how._replace(weighting=weighting), skip, weighed=True)
        return relative_error(expected_gradient(toy, surrogate, toy.sampler), wanted)

    assert bias(Weighting.prefix) < 0.3 * min(bias(Weighting.none), bias(Weighting.token))
    monkeypatch.setattr(losses, "IMPORTANCE_CAP", float("inf"))
    none, token, prefix = (
        bias(weighting) for weighting in (Weighting.none, Weighting.token, Weighting.prefix)
    )
    if how.estimator is Estimator.token:
        assert token < none  # it makes up for the token itself, and not for what it stands after
    else:
        assert token == pytest.approx(none)
    assert prefix < 1e-9 < none


def test_a_tokens_ratio_makes_the_analytic_estimator_noisier_for_nothing(toy: Toy) -> None:
    def variance(weighting: Weighting) -> float:
        surrogate = by(Estimation(Estimator.analytic, weighting=weighting), weighed=True)
        probabilities, found = gradients(toy, surrogate, toy.sampler)
        mean = torch.einsum("s,spv->pv", probabilities, found)
        return float(torch.einsum("s,spv->", probabilities, (found - mean) ** 2))

    assert variance(Weighting.token) > 1.05 * variance(Weighting.none)


def test_under_the_ratio_of_a_sequence_each_token_keeps_the_gradient_of_its_own_advantage() -> None:
    """The ratio of a sequence alone has the same gradient for all its tokens: of advantages whose mean is 0, none."""
    advantages_BT = torch.tensor([[5.0, -5.0, 0.0, 1.0, -1.0, 7.0]])
    mask_BT = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    drawn_BT = torch.tensor([[-0.4, -1.0, -2.0, -0.1, -3.0, -9.0]])
    logps_BT = (drawn_BT + torch.tensor([[0.3, -0.1, 0.2, 0.0, 0.1, 4.0]])).requires_grad_()
    ratio = ((logps_BT - drawn_BT) * mask_BT).sum().div(5).exp()
    as_sequences_BT = losses.drawn_as_sequences(logps_BT, drawn_BT, mask_BT)
    ratios_BT = (logps_BT - as_sequences_BT).exp()
    torch.testing.assert_close(ratios_BT[:, :5], ratio.expand(1, 5))
    (found_BT,) = torch.autograd.grad((ratios_BT * advantages_BT * mask_BT).sum(), logps_BT)
    torch.testing.assert_close(found_BT, ratio.detach() * advantages_BT * mask_BT)
    (alone_BT,) = torch.autograd.grad((ratio * advantages_BT * mask_BT).sum(), logps_BT)
    torch.testing.assert_close(alone_BT, torch.zeros(1, 6), atol=1e-6, rtol=0)


def test_the_jsd_lies_between_zero_and_the_logarithm_of_two() -> None:
    far = torch.tensor([[[0.0, -40.0]]]), torch.tensor([[[-40.0, 0.0]]])
    assert per_token(DivergenceKind.jsd, *far).item() == pytest.approx(0.6931, abs=1e-3)
