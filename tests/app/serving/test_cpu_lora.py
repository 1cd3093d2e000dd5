"""The plugin must compute what vLLM's own kernels compute, for tokens that have an adapter."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

TOKENS, WIDTH, RANK, SLOTS = 7, 12, 4, 3


def kernels() -> tuple[Any, Any]:
    from vllm.lora.ops.torch_ops import lora_ops

    from app.serving import cpu_lora

    return cpu_lora, lora_ops


def outputs(run: Callable[[Any, Any], None]) -> tuple[Any, Any]:
    ours, theirs = kernels()
    torch.manual_seed(0)
    start = torch.randn(TOKENS, WIDTH)
    mine, reference = start.clone(), start.clone()
    run(ours, mine)
    run(theirs, reference)
    return mine, reference


@pytest.mark.slow  # importing vLLM
@pytest.mark.parametrize("slots", [[1] * TOKENS, [0, 2, 1, 0, 2, 2, 1]])
def test_shrink_expand_and_slices_agree_with_vllm(slots: list[int]) -> None:
    indices = torch.tensor(slots)
    x, low = torch.randn(TOKENS, WIDTH), torch.randn(TOKENS, RANK)
    a, b = torch.randn(SLOTS, 1, RANK, WIDTH), torch.randn(SLOTS, 1, WIDTH, RANK)
    half = torch.randn(SLOTS, 1, WIDTH // 2, RANK)
    for run in (
        lambda m, out: m.bgmv_shrink(x, a, out, indices, 0.5),
        lambda m, out: m.bgmv_expand(low, b, out, indices, True),
        lambda m, out: m.bgmv_expand(low, b, out, indices, False),
        lambda m, out: m.bgmv_expand_slice(low, half, out, indices, 3, WIDTH // 2, True),
    ):
        mine, reference = outputs(run)
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


def test_a_token_without_an_adapter_is_left_alone() -> None:
    from app.serving.cpu_lora import bgmv_expand

    out = torch.zeros(2, WIDTH)
    bgmv_expand(torch.ones(2, RANK), torch.ones(SLOTS, 1, WIDTH, RANK), out, torch.tensor([-1, 0]))
    assert out[0].abs().sum() == 0
    assert (out[1] == RANK).all()
