"""Heads of a group that share keys and values attend as transformers' own do, which have copies."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import sdpa_attention

from training.engine import attention

SHAPE = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 50}


def model(heads_of_keys: int, implementation: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=heads_of_keys)
    config._attn_implementation = implementation
    return LlamaForCausalLM(config)


def answers(one: LlamaForCausalLM) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of padded rows read in two parts, so that queries are fewer than keys, with gradients."""
    ids_BL = torch.arange(30).view(3, 10)
    mask_BL = (torch.arange(10) >= torch.tensor([[0], [3], [1]])).long()
    begun = one(ids_BL[:, :6], attention_mask=mask_BL[:, :6], use_cache=True)
    logits = one(ids_BL[:, 6:], attention_mask=mask_BL, past_key_values=begun.past_key_values).logits
    grads = torch.autograd.grad(logits.log_softmax(-1)[..., 7].sum(), list(one.model.parameters()))
    return logits, list(grads)


@pytest.mark.parametrize("heads_of_keys", [1, 2, 4])
def test_logits_and_gradients_are_those_of_transformers(heads_of_keys: int) -> None:
    wanted, wanted_grads = answers(model(heads_of_keys, "sdpa"))
    found, grads = answers(model(heads_of_keys, attention.implementation()))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(grads, wanted_grads)


def test_nothing_is_copied_for_the_heads_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    real = sdpa_attention.repeat_kv

    def watched(states: torch.Tensor, times: int) -> torch.Tensor:
        copied.append(times)
        return real(states, times)

    monkeypatch.setattr(sdpa_attention, "repeat_kv", watched)
    answers(model(2, "sdpa"))
    assert set(copied) == {2}
    copied.clear()
    answers(model(2, attention.implementation()))
    assert not copied


def test_on_a_gpu_it_is_transformers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert attention.implementation() == "sdpa"
