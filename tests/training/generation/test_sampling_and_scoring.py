"""What replaces transformers' and trl's own paths gives what they give."""

from pathlib import Path

import pytest
import torch

from tests.training.shop import Tenant
from training.config import Rl, StageManifest
from training.data.examples import make_example
from training.engine.model import Loaded, load, merged, prompt_tokens
from training.engine.padding import left_padded
from training.generation.prefix.scoring import score
from training.generation.rollouts import Sampling, draw, sample, sample_repeated
from training.settings import Lora


@pytest.fixture
def loaded(base: Path, tenant: Tenant, tmp_path: Path) -> Loaded:
    """With an adapter that changes something, unlike a fresh one."""
    stage = Rl(lora=Lora(rank=4, alpha=8))
    manifest = StageManifest(
        stage=stage, base=str(base), category_schema=tenant.schema, conversations=tenant.path, out=tmp_path
    )
    loaded = load(manifest, stage)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return loaded


@pytest.fixture
def prompts(loaded: Loaded, tenant: Tenant) -> list[list[int]]:
    import random

    rng = random.Random(0)
    examples = [make_example(c, tenant.schema, ("A", "B", "C", "D"), rng, True) for c in tenant.conversations]
    return [prompt_tokens(loaded.tokenizer, e.prompt.messages) for e in examples[:6]]


def greedy(loaded: Loaded, prompts: list[list[int]], copies: int, rows: int = 64) -> list[list[int]]:
    sampling = Sampling(1e-4, 40, rows)
    return sample(loaded.model, prompts, copies, sampling, [loaded.tokenizer.eos_token_id], 0)


def test_sampling_with_almost_no_temperature_is_greedy_generation(
    loaded: Loaded, prompts: list[list[int]]
) -> None:
    ids, mask = left_padded(prompts, loaded.tokenizer.pad_token_id, torch.device("cpu"))
    theirs = loaded.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=40)
    eos = loaded.tokenizer.eos_token_id
    expected = []
    for row in theirs[:, ids.size(1) :].tolist():
        expected.append(row[: row.index(eos) + 1] if eos in row else row)
    assert greedy(loaded, prompts, 1) == expected


def test_copies_stand_next_to_each_other_whatever_the_batches(
    loaded: Loaded, prompts: list[list[int]]
) -> None:
    once = greedy(loaded, prompts, 1)
    assert greedy(loaded, prompts, 3, rows=6) == [completion for completion in once for _ in range(3)]


def test_repeated_prompts_are_sampled_in_their_order(loaded: Loaded, prompts: list[list[int]]) -> None:
    sampling = Sampling(1e-4, 40, 64)
    eos = [loaded.tokenizer.eos_token_id]
    once = greedy(loaded, prompts, 1)
    repeated = [prompt for prompt in prompts for _ in range(2)]
    assert sample_repeated(loaded.model, repeated, sampling, eos, 0) == [c for c in once for _ in range(2)]
    uneven = [prompts[0], prompts[0], prompts[1]]
    assert sample_repeated(loaded.model, uneven, sampling, eos, 0) == [once[0], once[0], once[1]]


@pytest.mark.parametrize("bf16", [False, True])
def test_samples_follow_the_models_distribution(bf16: bool, loaded: Loaded, prompts: list[list[int]]) -> None:
    """The first token of 2,000 samples against its probabilities."""
    torch.manual_seed(0)
    sampling = Sampling(1.0, 1, 2000, bf16)
    drawn = sample(loaded.model, prompts[:1], 2000, sampling, [loaded.tokenizer.eos_token_id], 0)
    counts = torch.bincount(torch.tensor([c[0] for c in drawn]), minlength=loaded.model.config.vocab_size)
    with torch.no_grad():
        wanted = loaded.model(input_ids=torch.tensor(prompts[:1])).logits[0, -1].softmax(-1)
    assert (counts / 2000 - wanted).abs().max().item() < 0.04


def test_merging_for_sampling_changes_nothing_and_puts_the_very_same_weights_back(loaded: Loaded) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    before = {name: parameter.detach().clone() for name, parameter in loaded.model.named_parameters()}
    with torch.no_grad():
        plain = loaded.model(input_ids=ids).logits
        with merged(loaded.model):
            inside = loaded.model(input_ids=ids).logits
        after = loaded.model(input_ids=ids).logits
        with loaded.model.disable_adapter():
            without = loaded.model(input_ids=ids).logits
    torch.testing.assert_close(inside, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(after, plain)
    assert not torch.allclose(without, plain, atol=1e-2)
    assert all(torch.equal(before[name], parameter) for name, parameter in loaded.model.named_parameters())


def test_sampling_in_bf16_puts_the_very_same_weights_back(loaded: Loaded, prompts: list[list[int]]) -> None:
    before = {name: parameter.detach().clone() for name, parameter in loaded.model.named_parameters()}
    sample(loaded.model, prompts, 2, Sampling(1.0, 8, 64, bf16=True), [loaded.tokenizer.eos_token_id], 0)
    assert all(torch.equal(before[name], parameter) for name, parameter in loaded.model.named_parameters())


def test_a_token_of_no_probability_is_never_drawn() -> None:
    logits = torch.full((4000, 6), -torch.inf)
    logits[:, 1], logits[:, 4] = 0.0, 0.0
    drawn = torch.bincount(draw(logits, 1.0), minlength=6)
    assert drawn[[0, 2, 3, 5]].sum() == 0
    assert 1800 < drawn[1] < 2200


def test_scores_with_shared_prompts_and_their_gradients_are_those_of_the_plain_forward_pass(
    loaded: Loaded, prompts: list[list[int]]
) -> None:
    torch.manual_seed(0)
    prompt_ids, prompt_mask = left_padded([p for p in prompts[:3] for _ in range(2)], 0, torch.device("cpu"))
    completion_ids = torch.randint(3, 300, (6, 7))
    completion_mask = torch.ones_like(completion_ids)
    completion_mask[1, 4:], completion_mask[4, 1:] = 0, 0
    ids = torch.cat([prompt_ids, completion_ids], 1)
    logits = loaded.model(input_ids=ids, attention_mask=torch.cat([prompt_mask, completion_mask], 1)).logits
    logps = (logits[:, -8:-1] / 0.7).log_softmax(-1)
    wanted = logps.gather(2, completion_ids[:, :, None]).squeeze(2) * completion_mask
    entropy = -(logps.exp() * logps).sum(-1) * completion_mask
    trained = [p for p in loaded.model.parameters() if p.requires_grad]
    wanted_gradients = torch.autograd.grad(wanted.sum(), trained)
    found = score(loaded.model, prompt_ids, prompt_mask, completion_ids, completion_mask, temperature=0.7)
    gradients = torch.autograd.grad(found.logps_BT.sum(), trained)
    torch.testing.assert_close(found.logps_BT, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.entropies_BT, entropy, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    some_at_once = score(
        loaded.model, prompt_ids, prompt_mask, completion_ids, completion_mask, 0.7, at_once=4
    )
    torch.testing.assert_close(some_at_once.logps_BT, found.logps_BT, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(some_at_once.entropies_BT, found.entropies_BT, rtol=1e-4, atol=1e-4)
