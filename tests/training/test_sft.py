"""SFT in rows that share a schema: what it learns is what separate sequences teach, and no example is lost."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from tests.training.shop import Tenant
from training.artifacts import CHECKPOINTS
from training.config import Sft, StageManifest
from training.data import read_traces
from training.model import Loaded, load
from training.progress import Events
from training.settings import Lora
from training.stages import sft
from training.tree_rows import Collator, Row

SETTINGS = {
    "kind": "sft",
    "batch_size": 16,
    "micro_batch_size": 8,
    "max_steps": 1,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "precision": "fp32",
    "lora": {"rank": 4, "alpha": 8},
}


class Step(NamedTuple):
    """What one optimizer step did. log: what trl reports of it."""

    update: dict[str, Tensor]
    log: dict[str, float]


def manifest_of(tenant: Tenant, base: Path, traces: Path, out: Path, **settings: Any) -> StageManifest:
    return StageManifest.model_validate(
        {
            "stage": SETTINGS | settings,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "traces": str(traces),
            "out": str(out),
        }
    )


def settings_of(manifest: StageManifest) -> Sft:
    assert isinstance(manifest.stage, Sft)
    return manifest.stage


def changed(base: Path) -> Loaded:
    """With an adapter that changes something, so that all its matrices get a gradient."""
    loaded = load(str(base), None, Lora(rank=4, alpha=8), seed=0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return loaded


def drawn(manifest: StageManifest, loaded: Loaded, count: int, sharing: int) -> list[Row]:
    assert manifest.traces is not None
    traces = read_traces(manifest.traces, manifest.category_schema)
    return sft._rows(manifest, settings_of(manifest), traces, loaded, count, sharing)


def alone(row: Row) -> list[Row]:
    """Each example of a row as a row of its own."""
    trunk, *lengths = row.lengths
    rows, at = [], trunk
    for length in lengths:
        own = slice(at, at + length)
        rows.append(
            Row(
                row.input_ids[:trunk] + row.input_ids[own],
                row.labels[:trunk] + row.labels[own],
                [trunk, length],
            )
        )
        at += length
    return rows


def one_step(manifest: StageManifest, loaded: Loaded, rows: list[Row], sharing: int) -> Step:
    """By plain gradient descent, whose update is the gradient."""
    arguments = sft._config(manifest, settings_of(manifest), 1, sharing)
    arguments.optim = "sgd"
    trainer = sft.Trainer(
        model=loaded.model,
        args=arguments,
        data_collator=Collator(loaded.tokenizer.pad_token_id) if sharing > 1 else None,
        train_dataset=Dataset.from_list([row._asdict() for row in rows]),
        processing_class=loaded.tokenizer,
    )
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters() if p.requires_grad}
    trainer.train()
    after = dict(loaded.model.named_parameters())
    return Step({n: after[n].detach() - p for n, p in before.items()}, trainer.state.log_history[0])


@pytest.mark.parametrize("loss", ["nll", "dft"])
def test_a_step_on_rows_that_share_a_schema_is_the_step_on_separate_sequences(
    loss: str, tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    """Two micro-batches of two rows of four examples, of different lengths."""
    manifest = manifest_of(tenant, base, traces, tmp_path, loss=loss, perturb=True)
    loaded = changed(base)
    rows = drawn(manifest, loaded, 16, sharing=4)
    assert len({row.lengths[0] for row in rows}) > 1 and len({n for row in rows for n in row.lengths[1:]}) > 1
    shared = one_step(manifest, loaded, rows, sharing=4)
    separate = one_step(manifest, changed(base), [one for row in rows for one in alone(row)], sharing=1)
    for name in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
        assert shared.log[name] == pytest.approx(separate.log[name], rel=1e-4), name
    assert separate.log["grad_norm"] > 0
    for name, update in separate.update.items():
        torch.testing.assert_close(
            shared.update[name], update, rtol=1e-3, atol=1e-4 * float(update.abs().max())
        )


@pytest.mark.parametrize("sharing", [1, 4])
def test_an_epoch_holds_every_example_once_and_a_row_one_drawing_of_codes(
    sharing: int, tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(tenant, base, traces, tmp_path, balance=False)
    loaded = changed(base)
    rows = drawn(manifest, loaded, len(tenant.conversations), sharing)
    texts = [loaded.tokenizer.decode(one.input_ids) for row in rows for one in alone(row)]
    said = [re.search(r"\ncustomer: (.*)\n</conversation>", text) for text in texts]
    assert Counter(found and found[1] for found in said) == Counter(
        conversation.messages[-1].text for conversation in tenant.conversations
    )
    schemas = [text[: text.index("<conversation>")] for text in texts]
    by_row = [set(schemas[n : n + sharing]) for n in range(0, len(texts), sharing)]
    assert len(by_row) == len(rows) and all(len(found) == 1 for found in by_row)
    assert len(set(schemas)) > len(rows) // 2  # the tiny tokenizer's few codes are sometimes drawn alike
    assert drawn(manifest, loaded, len(tenant.conversations), sharing) == rows


def test_rows_keep_every_repetition_and_never_hold_an_example_twice(tenant: Tenant) -> None:
    chosen = tenant.conversations * 4
    rows = sft.by_length(chosen, 48, 4, lambda c: int(c.id.removeprefix("c")), random.Random(0))
    assert Counter(c.id for row in rows for c in row) == {c.id: 4 for c in tenant.conversations}
    assert all(len({c.id for c in row}) == len(row) == 4 for row in rows)


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(tenant, base, traces, tmp_path, max_steps=4, checkpoint_every=2)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    first = sft.run(manifest, settings_of(manifest), Events(tmp_path, "sft"))
    unbroken = weights.read_bytes()
    weights.unlink()
    (tmp_path / CHECKPOINTS / "checkpoint-4" / "complete.json").unlink()
    again = sft.run(manifest, settings_of(manifest), Events(tmp_path, "sft"))
    assert "resuming from checkpoint-2" in (tmp_path / "events.jsonl").read_text()
    assert weights.read_bytes() == unbroken
    assert first.step == again.step == 4
    assert first.metrics["examples_per_schema"] == 4 and first.metrics["sequences"] == 64
