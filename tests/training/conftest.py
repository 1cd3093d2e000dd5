"""A tiny model of the starter's kind, and the files of a tenant."""

import json
import os
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract.record import Conversation, Message, Role
from evaluation.contract.schema import Category, CategorySchema
from tests.training.shop import THINGS, WORDS, Tenant, response
from tests.training.teacher_server import Server

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.hookimpl(tryfirst=True)  # xdist reads the group in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests that want the tiny model share a worker, as each other one would train it once more for them; the
    first of them takes seconds for that."""
    for item in items:
        wants = item.path.is_relative_to(Path(__file__).parent) and "base" in getattr(
            item, "fixturenames", ()
        )
        if wants and not any(map(item.get_closest_marker, ("seconds", "slow", "fault", "e2e"))):
            item.add_marker(pytest.mark.xdist_group("tiny model"))
            item.add_marker("seconds")


@pytest.fixture(scope="session")
def schema() -> CategorySchema:
    return CategorySchema(
        name="shop",
        none_of_these=True,
        categories=tuple(Category(key=k, name=k, definition=d) for k, (d, _) in WORDS.items()),
    )


@pytest.fixture(scope="session")
def tenant(schema: CategorySchema, tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    said = [(k, text.format(thing)) for thing in THINGS for k, (_, text) in WORDS.items()]
    said += [(None, f"do you sell {thing}") for thing in THINGS]  # type: ignore[list-item]
    conversations = [
        Conversation(id=f"c{n}", messages=(Message(role=Role.customer, text=text),), category=key)
        for n, (key, text) in enumerate(said)
    ]
    path = tmp_path_factory.mktemp("tenant") / "train.jsonl"
    path.write_text("".join(c.model_dump_json(exclude={"split"}) + "\n" for c in conversations))
    return Tenant(schema, conversations, path)


@pytest.fixture(scope="session")
def base(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of two layers that writes answers of the right form and guesses the code."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from evaluation.contract.render import candidate_codes, render
    from training.starter.tokenizer import CHAT_TEMPLATE

    letters = list(islice(candidate_codes(), len(tenant.schema.answers)))
    texts = ["\n".join(f'" = {c}\nAnswer: {c}\nsystem\nuser\nassistant\n' for c in letters) * 20]
    for conversation in tenant.conversations:
        prompt = render(tenant.schema, conversation, tuple(letters))
        texts += [m["content"] for m in prompt.messages]
        texts.append(response(conversation, tenant.schema, tuple(letters)))
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>", padding_side="left"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    _learn_the_form(model, tokenizer, tenant, letters)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def traces(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from evaluation.contract.render import render

    codes = ("C", "A", "D", "B")
    rows: list[dict[str, Any]] = [
        {
            "id": c.id,
            "prompt": render(tenant.schema, c, codes).messages,
            # Another opening than the tiny model knows, so that there is something to imitate.
            "completion": response(c, tenant.schema, codes).replace("The customer says", "They write that"),
            "codes": codes,
            "category": c.category,
            "teacher": "test",
            "attempt": 0,
        }
        for c in tenant.conversations
    ]
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def _learn_the_form(model: Any, tokenizer: Any, tenant: Tenant, letters: list[str]) -> None:
    import torch

    from evaluation.contract.render import render

    rng = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        sequences = []
        for conversation in rng.sample(tenant.conversations, 12):
            codes = tuple(rng.sample(letters, len(tenant.schema.answers)))
            messages = render(tenant.schema, conversation, codes).messages
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            sequences.append(text + response(conversation, tenant.schema, codes) + tokenizer.eos_token)
        batch = tokenizer(sequences, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("loss of the tiny base", loss.item())
