"""SFT in rows that share a schema: what it learns is what separate sequences teach, and no example is lost."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerControl

from evaluation.contract.render import condition_text
from tests.training.shop import Tenant
from training.artifacts import StageFailed, failure_of
from training.config import Sft, StageManifest
from training.engine.deadline import TimeUp
from training.engine.model import Loaded, load
from training.engine.progress import EventWriter
from training.engine.trainer import Watch
from training.generation.prefix.rows import IGNORED, Collator, PackedRow
from training.protocol import CHECKPOINTS, FailureCode, Fault
from training.stages import sft

pytestmark = pytest.mark.slow  # trains

SETTINGS = {
    "kind": "sft",
    "batch_size": 16,
    "micro_batch_size": 8,
    "max_steps": 1,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "precision": "fp32",
    "perturb": False,
    "at_once": 0.0,
    "lora": {"rank": 4, "alpha": 8},
}


class Step(NamedTuple):
    """What one optimizer step did. log: what trl reports of it."""

    update: dict[str, Tensor]
    log: dict[str, float]


def manifest_of(tenant: Tenant, base: Path, traces: Path | None, out: Path, **settings: Any) -> StageManifest:
    return StageManifest.model_validate(
        {
            "stage": SETTINGS | settings,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "traces": traces,
            "out": str(out),
        }
    )


def settings_of(manifest: StageManifest) -> Sft:
    assert isinstance(manifest.stage, Sft)
    return manifest.stage


def changed(manifest: StageManifest) -> Loaded:
    """With an adapter that changes something, so that all its matrices get a gradient."""
    loaded = load(manifest, settings_of(manifest))
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return loaded


def drawn(manifest: StageManifest, loaded: Loaded, count: int, sharing: int) -> list[PackedRow]:
    stage = settings_of(manifest)
    exercises = sft._exercises(sft._material(manifest, stage), stage, count, random.Random(manifest.seed))
    return sft._rows(manifest, stage, exercises, loaded, sharing)[0]


def alone(row: PackedRow) -> list[PackedRow]:
    """Each example of a row as a row of its own."""
    prefix, *lengths = row.lengths
    rows, at = [], prefix
    for length in lengths:
        own = slice(at, at + length)
        rows.append(
            PackedRow(
                row.input_ids[:prefix] + row.input_ids[own],
                row.labels[:prefix] + row.labels[own],
                [prefix, length],
            )
        )
        at += length
    return rows


def one_step(manifest: StageManifest, loaded: Loaded, rows: list[PackedRow], sharing: int) -> Step:
    """By plain gradient descent, whose update is the gradient."""
    arguments = sft._config(manifest, settings_of(manifest), sft.Lesson(rows, 1, sharing, {}))
    arguments.optim = "sgd"
    trainer = sft.SftTrainer(
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
    loaded = changed(manifest)
    rows = drawn(manifest, loaded, 16, sharing=4)
    assert len({row.lengths[0] for row in rows}) > 1 and len({n for row in rows for n in row.lengths[1:]}) > 1
    shared = one_step(manifest, loaded, rows, sharing=4)
    separate = one_step(manifest, changed(manifest), [one for row in rows for one in alone(row)], sharing=1)
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
    loaded = changed(manifest)
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


def test_labels_are_answered_at_once_and_the_words_before_the_code_are_not_learned(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    """Half of the examples, of labels without a trace too; of a conversation that is left out there is none."""
    traced, out = traces.read_text().splitlines()[:6], tenant.conversations[7]
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join([*traced, json.dumps({"id": out.id, "left_out": "its label is in doubt"})]))
    manifest = manifest_of(tenant, base, few, tmp_path, at_once=0.5, balance=False)
    loaded, count = changed(manifest), 2 * (len(tenant.conversations) - 1)
    assert sft._material(manifest, settings_of(manifest)).size == 6 + count // 2
    shown: dict[bool, list[str]] = {True: [], False: []}
    for row in drawn(manifest, loaded, count, sharing=1):
        learned = [token for token in row.labels if token != IGNORED]
        before = loaded.tokenizer.decode(row.input_ids[: -len(learned)])
        written = loaded.tokenizer.decode(learned)
        fast = before.endswith("Answer:")
        assert re.fullmatch(r" [A-Z]<\|im_end\|>", written) if fast else written.startswith("They write")
        shown[fast].append(before)
    assert len(shown[True]) == count // 2
    said = {c.messages[-1].text: c.id for c in tenant.conversations}
    at_once = {said[re.findall(r"customer: (.*)", text)[-1]] for text in shown[True]}
    reasoned = {said[re.findall(r"customer: (.*)", text)[-1]] for text in shown[False]}
    assert at_once == {c.id for c in tenant.conversations} - {out.id}
    assert reasoned == {json.loads(line)["id"] for line in traced}


def test_where_a_schema_lacks_categories_all_is_answered_at_once(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "_LACKING_SHARE", 1.0)
    manifest = manifest_of(tenant, base, traces, tmp_path, at_once=0.5, perturb=True, perturbed_share=1.0)
    loaded = changed(manifest)
    count = len(tenant.conversations)
    definitions = [condition_text(one.definition) for one in tenant.schema.categories]
    for row in drawn(manifest, loaded, count, sharing=1):
        learned = [token for token in row.labels if token != IGNORED]
        before = loaded.tokenizer.decode(row.input_ids[: -len(learned)])
        assert before.endswith("Answer:") and len(learned) == 2  # the code, and the end
        assert 1 <= sum(definition in before for definition in definitions) < len(definitions)
    stage = settings_of(manifest)
    exercises = sft._exercises(sft._material(manifest, stage), stage, count, random.Random(0))
    assert any(one.trace for one in exercises)
    assert sft._rows(manifest, stage, exercises, loaded, 1)[1]["sequences_at_once"] == count
    only_traces = manifest_of(tenant, base, traces, tmp_path, at_once=0.0, perturb=True, perturbed_share=1.0)
    for row in drawn(only_traces, loaded, count, sharing=1):
        text = loaded.tokenizer.decode(row.input_ids)
        assert all(definition in text for definition in definitions)


@pytest.mark.parametrize("looks", [1, 2])
def test_a_step_that_the_deadline_finds_half_made_is_not_taken(
    looks: int, tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is looked at between the two micro-batches of each step: at the first look, or at the second."""
    seen: list[None] = []

    def check(self: Watch) -> None:
        seen.append(None)
        if len(seen) == looks:
            raise TimeUp

    monkeypatch.setattr(Watch, "check", check)
    manifest = manifest_of(tenant, base, traces, tmp_path, max_steps=3)
    if looks == 1:
        with pytest.raises(TimeUp) as caught:
            sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))
        failure = failure_of(caught.value)
        assert failure.code is FailureCode.no_time and failure.code.fault is Fault.theirs
        assert not (tmp_path / "adapter").exists()
        return
    finished = sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))
    assert (finished.step, finished.metrics["stopped_by"]) == (1, "max_seconds")
    one = manifest_of(tenant, base, traces, tmp_path / "one", max_steps=3)
    monkeypatch.setattr(Watch, "check", lambda self: None)
    monkeypatch.setattr(Watch, "on_step_end", lambda self, args, state, control, **_: ended(control))
    sft.run(one, settings_of(one), EventWriter(tmp_path / "one", "sft"))
    weights = [folder / "adapter" / "adapter_model.safetensors" for folder in (tmp_path, one.out)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_stage_without_time_for_a_step_leaves_what_it_was_given_as_it_is(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on a busy machine goes on with what its stages have learned, and says which had no time."""
    before = manifest_of(tenant, base, traces, tmp_path / "before", max_steps=1)
    sft.run(before, settings_of(before), EventWriter(before.out, "sft"))
    after = manifest_of(tenant, base, traces, tmp_path / "after", max_steps=3)
    after = after.model_copy(update={"adapter": before.out / "adapter"})

    def check(self: Watch) -> None:
        raise TimeUp

    monkeypatch.setattr(Watch, "check", check)
    finished = sft.run(after, settings_of(after), EventWriter(after.out, "sft"))
    assert (finished.step, finished.metrics["stopped_by"], finished.metrics["flops"]) == (0, "max_seconds", 0)
    kept = [load_file(one.out / "adapter" / "adapter_model.safetensors") for one in (before, after)]
    assert kept[0].keys() == kept[1].keys() and all(kept[0][name].equal(kept[1][name]) for name in kept[0])
    said = [json.loads(line)["message"] for line in (after.out / "events.jsonl").read_text().splitlines()]
    assert any("before one step was made" in message for message in said)


def ended(control: TrainerControl) -> None:
    control.should_training_stop = True


def test_rows_keep_every_repetition_and_never_hold_an_example_twice(tenant: Tenant) -> None:
    chosen = tenant.conversations * 4
    rows = sft.by_length(chosen, 48, 4, lambda c: int(c.id.removeprefix("c")), random.Random(0))
    assert Counter(c.id for row in rows for c in row) == {c.id: 4 for c in tenant.conversations}
    assert all(len({c.id for c in row}) == len(row) == 4 for row in rows)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    tuning: str, tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(tenant, base, traces, tmp_path, max_steps=4, checkpoint_every=2, tuning=tuning)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    first = sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))
    unbroken = weights.read_bytes()
    weights.unlink()
    (tmp_path / CHECKPOINTS / "checkpoint-4" / "complete.json").unlink()
    again = sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))
    assert "resuming from checkpoint-2" in (tmp_path / "events.jsonl").read_text()
    assert weights.read_bytes() == unbroken
    assert first.step == again.step == 4
    assert first.tokens == again.tokens > 0, "of both processes"
    assert first.metrics["loss_first"] == again.metrics["loss_first"]
    assert first.metrics["examples_per_schema"] == 4 and first.metrics["sequences"] == 64


def test_every_weight_is_trained_and_the_model_stands_for_itself(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    """out/model says what the base with the student says, and a later stage goes on with the student."""
    from transformers import AutoModelForCausalLM

    manifest = manifest_of(tenant, base, traces, tmp_path, max_steps=3, tuning="full", learning_rate=1e-3)
    sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))
    later = manifest.model_copy(update={"adapter": tmp_path / "adapter"})
    student = load(later, settings_of(later)).model
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    untrained = AutoModelForCausalLM.from_pretrained(base)
    assert alone.lm_head.weight is alone.model.embed_tokens.weight
    for name, weight in untrained.named_parameters():
        assert not torch.equal(alone.get_parameter(name), weight), name
    ids = torch.arange(20)[None]
    said = alone(input_ids=ids).logits
    torch.testing.assert_close(student(input_ids=ids).logits, said)
    with student.disable_adapter():
        torch.testing.assert_close(student(input_ids=ids).logits, untrained(input_ids=ids).logits)
    as_lora = settings_of(later).model_copy(update={"tuning": "lora"})
    with pytest.raises(StageFailed, match="set tuning to full"):
        load(later, as_lora)


def test_a_whole_model_learns_slowly_unless_told_otherwise() -> None:
    assert Sft(tuning="full").learning_rate == 1e-5 < Sft().learning_rate
    assert Sft(tuning="full", learning_rate=1e-4).learning_rate == 1e-4


def test_text_is_learned_word_for_word_and_in_blocks(
    tenant: Tenant, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "_BLOCK", 16)
    written = ["orbita is the name of an order", "a parcel that is lost is looked for by the carrier " * 4]
    texts = tmp_path / "text.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in written))
    manifest = manifest_of(tenant, base, None, tmp_path, text=str(texts), max_steps=12, learning_rate=1e-2)
    loaded = load(manifest, settings_of(manifest))
    lesson = sft._text(settings_of(manifest), loaded, seed=0)
    assert all(row.labels == row.input_ids and len(row.labels) <= 16 for row in lesson.rows)
    said = "".join(loaded.tokenizer.decode(ids) for ids in {tuple(row.input_ids): 0 for row in lesson.rows})
    assert written[0] in said and said.count("<|im_end|>") == len(written)
    finished = sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))
    assert finished.metrics["loss_last"] < 0.7 * finished.metrics["loss_first"]


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "is empty"), ('{"text": "a"}\n{"texts": "b"}\n', "line 2"), ("not json\n", "line 1")],
)
def test_texts_that_cannot_be_read_are_named(
    content: str, said: str, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "text.jsonl"
    texts.write_text(content)
    manifest = manifest_of(tenant, base, None, tmp_path, text=str(texts))
    with pytest.raises(StageFailed, match=said):
        sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft"))


def test_on_general_prompts_the_responses_are_learned_and_nothing_else(
    tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    said = {"Where is it?": "In the cellar.", "Who asks?": "Ruth."}
    prompts.write_text(
        "\n".join(
            json.dumps({"id": q, "messages": [{"role": "user", "content": q}], "response": a})
            for q, a in said.items()
        )
    )
    manifest = manifest_of(tenant, base, None, tmp_path / "out", prompts=str(prompts))
    loaded = load(manifest, settings_of(manifest))
    lesson = sft._lesson(manifest, settings_of(manifest), loaded)
    assert (lesson.sharing, lesson.counts["prompts"], lesson.counts["sequences"]) == (1, 2, 16)
    for row in lesson.rows:
        text = loaded.tokenizer.decode([t for t in row.labels if t != IGNORED])
        question = next(q for q in said if q in loaded.tokenizer.decode(row.input_ids))
        assert text == f"{said[question]}{loaded.tokenizer.eos_token}"
    assert sft.run(manifest, settings_of(manifest), EventWriter(tmp_path, "sft")).step == 1
