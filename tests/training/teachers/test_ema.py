"""What is lost by averaging an adapter's two factors rather than their product, which is what acts."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from training.engine.model import STUDENT
from training.teachers.ema import TEACHER, Follow, add_teacher

RANK, WIDTH, RATE = 4, 24, 0.02


class Toy(nn.Module):
    """One matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(WIDTH, WIDTH, bias=False)


def adapted() -> PeftModel:
    torch.manual_seed(0)
    model = get_peft_model(
        Toy(), LoraConfig(target_modules=["matrix"], r=RANK, lora_alpha=RANK, lora_dropout=0.0)
    )
    with torch.no_grad():
        factors(model, STUDENT)[1].copy_(torch.randn(RANK, WIDTH) / WIDTH**0.5)
    add_teacher(model)
    return model


def factors(model: PeftModel, who: str) -> tuple[Tensor, Tensor]:
    layer = model.base_model.model.matrix
    return layer.lora_B[who].weight, layer.lora_A[who].weight


def product(model: PeftModel, who: str) -> Tensor:
    b, a = factors(model, who)
    return (b @ a).detach()


def error(steps: int, speed: float, out: Path) -> float:
    """Of the teacher's product, as a share of the student's average product, after learning a change of the weights."""
    model = adapted()
    wanted, average = torch.randn(WIDTH, WIDTH) / WIDTH**0.5, product(model, STUDENT)
    b, a = factors(model, STUDENT)
    optimizer = torch.optim.AdamW([b, a], lr=speed, weight_decay=0.0)
    follow, arguments = Follow(model, RATE), TrainingArguments(str(out))
    for _ in range(steps):
        optimizer.zero_grad()
        ((b @ a - wanted) ** 2).sum().backward()
        optimizer.step()
        follow.on_step_end(arguments, TrainerState(), TrainerControl())
        average = average.lerp(product(model, STUDENT), RATE)
    return float((product(model, TEACHER) - average).norm() / average.norm())


@pytest.mark.parametrize(("steps", "speed", "most"), [(60, 1e-4, 0.015), (60, 1e-3, 0.1), (200, 1e-3, 0.06)])
def test_the_average_of_factors_is_near_the_average_of_products_at_the_rates_that_are_used(
    steps: int, speed: float, most: float, tmp_path: Path
) -> None:
    assert most / 3 < error(steps, speed, tmp_path) < most


def test_the_error_is_not_small_where_the_student_is_fast(tmp_path: Path) -> None:
    assert error(60, 1e-2, tmp_path) > 0.25
