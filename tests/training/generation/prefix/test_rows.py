import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from training.generation.prefix.rows import (
    IGNORED,
    Collator,
    PromptAndCompletion,
    can_share,
    row_of,
    together,
)

TINY = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def test_a_trunk_is_what_all_prompts_begin_with_and_answers_alone_are_learned() -> None:
    row = row_of([PromptAndCompletion([5, 6, 7, 8], [1, 2]), PromptAndCompletion([5, 6, 9], [3])])
    assert row.lengths == [2, 4, 2]
    assert row.input_ids == [5, 6, 7, 8, 1, 2, 9, 3]
    assert row.labels == [IGNORED, IGNORED, IGNORED, IGNORED, 1, 2, IGNORED, 3]


def test_the_token_that_an_answer_is_predicted_from_stays_with_it_where_prompts_are_equal() -> None:
    row = row_of([PromptAndCompletion([5, 6], [1]), PromptAndCompletion([5, 6], [2])])
    assert row.input_ids == [5, 6, 1, 6, 2] and row.lengths == [1, 2, 2]


def test_branches_are_padded_behind_and_trunks_before_what_they_hold() -> None:
    two = row_of([PromptAndCompletion([5, 6, 7, 8], [1, 2]), PromptAndCompletion([5, 6, 9], [3])])
    one = row_of([PromptAndCompletion([4, 6], [1])])
    batch = Collator(pad=0)([two._asdict(), one._asdict()])
    assert batch["prefix_ids"].tolist() == [[5, 6], [0, 4]]
    assert batch["prefix_of"].tolist() == [0, 0, 1]
    assert batch["input_ids"].tolist() == [[7, 8, 1, 2], [9, 3, 0, 0], [6, 1, 0, 0]]
    assert batch["labels"].tolist()[2] == [IGNORED, 1, IGNORED, IGNORED]
    assert batch["prefix_mask"].tolist() == [[1, 1], [0, 1]]
    assert batch["suffix_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_one_that_begins_otherwise_does_not_take_the_prefix_from_the_others() -> None:
    alike = [PromptAndCompletion([1, *range(5, 15), n], [n, 2]) for n in (30, 31, 32)]
    odd = PromptAndCompletion([1, *range(15, 25), 40], [40])
    row = row_of([*alike[:2], odd, alike[2]])
    assert row.lengths[0] == 1  # all that the four have in common
    batch = Collator(pad=0)([row._asdict()])
    assert batch["prefix_ids"].tolist() == [[1, *range(5, 15)], [1, *range(15, 25)]]
    assert batch["prefix_of"].tolist() == [0, 0, 1, 0]
    assert batch["input_ids"].tolist() == [[30, 30, 2], [31, 31, 2], [40, 40, 0], [32, 32, 2]]
    assert batch["labels"].tolist()[2] == [IGNORED, 40, IGNORED]


def test_a_short_beginning_is_shared_where_it_is_all_that_there_is() -> None:
    row = row_of([PromptAndCompletion([1, 2, *[n] * 8], [n]) for n in (5, 6, 7)])
    batch = Collator(pad=0)([row._asdict()])
    assert batch["prefix_ids"].tolist() == [[1, 2]] and batch["prefix_of"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (Qwen3ForCausalLM(Qwen3Config(**TINY)), True),
        (Qwen3MoeForCausalLM(Qwen3MoeConfig(**TINY, num_experts=2, moe_intermediate_size=8)), False),
        (MambaForCausalLM(MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1)), False),
    ],
)
def test_a_model_whose_tokens_reach_others_by_more_than_attention_does_not_share(
    model: PreTrainedModel, wanted: bool
) -> None:
    assert can_share(get_peft_model(model, LoraConfig(target_modules=["q_proj", "in_proj"]))) is wanted


def test_what_was_shuffled_is_cut_into_batches_of_whole_rows() -> None:
    row_B = torch.tensor([1, 0, 2, 1, 3, 0, 2, 3])
    shuffled = {"row": row_B, "ids": torch.arange(8)[:, None] * 10, "count": torch.tensor(7), "none": None}
    batches = [
        {name: value[part] if name in ("row", "ids") else value for name, value in shuffled.items()}
        for part in (slice(0, 4), slice(4, 8))
    ]
    first, second = together(batches)
    assert first["row"].tolist() == [0, 0, 1, 1] and second["row"].tolist() == [2, 2, 3, 3]
    assert first["ids"].squeeze(1).tolist() == [10, 50, 0, 30]
    assert second["ids"].squeeze(1).tolist() == [20, 60, 40, 70]
    assert (first["count"], second["none"]) == (torch.tensor(7), None)
