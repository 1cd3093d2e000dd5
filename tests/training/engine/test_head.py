"""Losses from hidden states are those of a model's own logits, whatever its family does to them last."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from training.artifacts import StageFailed
from training.engine.head import check_head, head_of
from training.engine.model import backbone_of
from training.engine.projection import ComparedTokens, States, terms_of
from training.generation.prefix.scoring import score

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "qwen3": Qwen3Config(**SMALL, head_dim=16),
    "gemma2": Gemma2Config(**SMALL, head_dim=16, final_logit_softcapping=3.0),
    "granite": GraniteConfig(**SMALL, logits_scaling=8.0),
    "cohere": CohereConfig(**SMALL, logit_scale=0.25),
    "phi": PhiConfig(**SMALL),
}


def tiny(config: PreTrainedConfig) -> Any:
    """With an adapter; its logits are large enough for a cap to show."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    last = model.get_output_embeddings()
    with torch.no_grad():
        last.weight.mul_(20)
        if last.bias is not None:
            last.bias.normal_()
    shape = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, shape).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_terms_and_scores_are_those_of_the_models_own_logits(family: str) -> None:
    model = tiny(FAMILIES[family])
    check_head(model)
    ids = torch.randint(3, 50, (2, 9))
    with torch.no_grad():
        own = model(input_ids=ids).logits.float().log_softmax(-1)
        hidden = backbone_of(model)(input_ids=ids).last_hidden_state
    written = ids[:, 4:]
    wanted = own[:, 3:-1].gather(2, written[..., None]).squeeze(2)
    states = States(hidden[:, 3:-1].reshape(-1, 32), head_of(model))
    terms = terms_of(states, states, written.reshape(-1), ComparedTokens.forward())
    torch.testing.assert_close(terms.logps_N.view(2, -1), wanted, rtol=1e-4, atol=1e-4)
    ones = torch.ones_like(ids)
    scored = score(model, ids[:, :4], ones[:, :4], written, ones[:, 4:], 1.0)
    torch.testing.assert_close(scored.logps_BT.detach(), wanted, rtol=1e-3, atol=1e-3)


def test_a_family_that_does_something_else_to_its_logits_is_refused_by_name() -> None:
    model = tiny(FAMILIES["qwen3"])
    last = model.get_output_embeddings()
    last.register_forward_hook(lambda _module, _inputs, logits: logits * 1.5)
    with pytest.raises(StageFailed, match="Qwen3ForCausalLM does something to its logits"):
        check_head(model)
