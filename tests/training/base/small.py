"""A network of the base's kind, small enough for a test, and the tokenizer of the starter in the base's clothes."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.serving.base import STARTER, find_base
from evaluation.contract.render import choose_codes
from training.base.network import Network
from training.base.trees import Planter


def planter() -> Planter:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(find_base(STARTER).folder)
    codes = choose_codes(lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]), 40)
    return Planter(tokenizer, codes)


def llama(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def network(model: LlamaForCausalLM) -> Network:
    """With changes that change something."""
    made = Network(model, rank=4, alpha=8, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.changes.named_parameters():
        if name.endswith(".B"):
            parameter.data.normal_(std=0.3, generator=generator)
    made.merge()
    return made
