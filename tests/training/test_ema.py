"""What is lost by averaging an adapter's two factors rather than their product, which is what acts."""

import pytest
import torch
from torch import Tensor

RANK, WIDTH, RATE = 4, 24, 0.02


def student(steps: int, speed: float) -> list[tuple[Tensor, Tensor]]:
    """An adapter's factors after each step of learning a change of the weights, from where PEFT begins."""
    torch.manual_seed(0)
    wanted = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
    b, a = (
        torch.zeros(WIDTH, RANK, requires_grad=True),
        torch.randn(RANK, WIDTH).div(WIDTH**0.5).requires_grad_(),
    )
    optimizer, found = torch.optim.AdamW([b, a], lr=speed, weight_decay=0.0), []
    for _ in range(steps):
        found.append((b.detach().clone(), a.detach().clone()))
        optimizer.zero_grad()
        ((b @ a - wanted) ** 2).sum().backward()
        optimizer.step()
    return found


def error(steps: int, speed: float) -> float:
    """Of the factors' average, as a share of the average product."""
    path = student(steps, speed)
    (b, a), product = path[0], path[0][0] @ path[0][1]
    for now_b, now_a in path[1:]:
        b, a = b.lerp(now_b, RATE), a.lerp(now_a, RATE)
        product = product.lerp(now_b @ now_a, RATE)
    return float((b @ a - product).norm() / product.norm())


@pytest.mark.parametrize(("steps", "speed", "most"), [(60, 1e-4, 0.015), (60, 1e-3, 0.1), (200, 1e-3, 0.06)])
def test_the_average_of_factors_is_near_the_average_of_products_at_the_rates_that_are_used(
    steps: int, speed: float, most: float
) -> None:
    assert most / 3 < error(steps, speed) < most


def test_the_error_is_not_small_where_the_student_is_fast() -> None:
    assert error(60, 1e-2) > 0.25
