"""On-policy distillation: the student writes, and a teacher that knows the answer says how it would have gone on.

The student samples one response to a prompt. The teacher reads the same response after a prompt that also holds a
hint (the worked example of the trace, or the right code with its condition), and the student is moved towards the
teacher's distribution at every token of what it wrote itself, mistakes included. SFT cannot do that: it never visits
the student's own states. The teacher is an exponential moving average of the student, so it keeps up with it and
averages its noise away; that state is kept in fp32 (in bf16 a small step rounds to nothing and the average stalls)
and travels with the checkpoint.

The divergence is the full-vocabulary KL at each position, forward by default, as in SDFT's published results. The
score-function term for the tokens that come after is left out, as it is there; `losses.py` has it. The first tokens
are masked, because a teacher that was shown an example begins by copying its first words.

Half of the prompts show a perturbed schema, so that what the student learns is to read definitions: there the
trace's codes are moved along with their meanings, or, where there is no trace, the hint is the condition. A few
examples share one drawing of the schema, which student and teacher then read once (see `tree_rows`).

Built on trl 1.16.0's DistillationTrainer through three private methods; tests hold what they must do.
"""

import math
import random
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import DistillationConfig, DistillationTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss
from trl.trainer.utils import use_adapter

from evaluation.contract.schema import CategorySchema
from training.artifacts import Finished
from training.config import Distill, StageManifest
from training.data import Example, Trace, balanced, draw_rendering, read_labelled, read_traces, retarget
from training.learning import KeepsAdapters, Watch, fit, trainer_arguments
from training.losses import beta_of
from training.model import STUDENT, check_fits, code_pool, load, prompt_tokens, uses_bf16
from training.progress import Events
from training.rollouts import Sampling, left_padded, sample
from training.teachers.privileged import (
    Hint,
    HintKind,
    answer_hint,
    criterion_hint,
    demonstration_hint,
    no_hint,
    with_hint,
)
from training.tree_rows import IGNORED, Collator, Sequence, can_share, read_trunks, row_of

TEACHER = "teacher"
_REMEDY = "use hint `criterion` (the teacher reads the hint too), shorter definitions or fewer new tokens"


def run(manifest: StageManifest, stage: Distill, events: Events) -> Finished:
    rng = random.Random(manifest.seed)
    schema = manifest.category_schema
    traces = {t.id: t for t in read_traces(manifest.traces, schema)} if manifest.traces else {}
    labelled = read_labelled(manifest.conversations, schema).conversations
    loaded = load(manifest.base, manifest.adapter, stage.lora, manifest.seed)
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    rows: list[dict[str, Any]] = []
    chosen = balanced(labelled, rng)
    for _ in range(stage.steps * stage.batch_size // sharing_of(stage)):
        perturb = stage.perturb and rng.random() < stage.perturbed_share
        rendering = draw_rendering(schema, pool, rng, perturb)
        examples = [rendering.example(conversation) for conversation in islice(chosen, sharing_of(stage))]
        rows += [
            _row(example, hint_for(example, stage.hint, _demonstration(example, traces, schema)))
            for example in examples
        ]
    longest = max(len(prompt_tokens(loaded.tokenizer, row["teacher_prompt"])) for row in rows)
    check_fits(loaded.model, longest, stage.max_new_tokens, _REMEDY)
    add_teacher(loaded.model)
    watch = Watch(manifest, stage, events)
    trainer = Trainer(
        stage=stage,
        model=loaded.model,
        args=_config(manifest, stage),
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
        callbacks=[Follow(loaded.model, stage.ema_rate)],
    )
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics={**finished.metrics, "prompts": len(rows), "with_trace": len(traces)})


def _config(manifest: StageManifest, stage: Distill) -> DistillationConfig:
    return DistillationConfig(
        **trainer_arguments(manifest, stage, stage.steps),
        lr_scheduler_type="constant_with_warmup",
        beta=beta_of(stage.divergence),
        temperature=1.0,
        max_completion_length=stage.max_new_tokens,
        shuffle_dataset=False,
    )


def sharing_of(stage: Distill) -> int:
    """Examples under one drawing of the schema; as many micro-batches hold only whole rows of them."""
    return math.gcd(stage.examples_per_schema, stage.micro_batch_size)


def _demonstration(example: Example, traces: dict[str, Trace], schema: CategorySchema) -> str | None:
    trace = traces.get(example.conversation.id)
    return retarget(trace, schema, example) if trace else None


def _row(example: Example, hint: Hint) -> dict[str, Any]:
    return {"prompt": example.prompt.messages, "teacher_prompt": with_hint(example.prompt, hint)}


def hint_for(example: Example, kind: HintKind, demonstration: str | None) -> Hint:
    """A demonstration where there is one; the criterion stands in for it."""
    if kind is HintKind.none:
        return no_hint()
    if kind is HintKind.answer:
        return answer_hint(example.gold_code)
    if kind is HintKind.demonstration and demonstration is not None:
        return demonstration_hint(demonstration)
    return criterion_hint(example.schema, example.prompt.codes, example.gold)


def add_teacher(model: PeftModel) -> None:
    """A frozen fp32 copy of the student beside it."""
    model.add_adapter(TEACHER, model.peft_config[STUDENT])
    with torch.no_grad():
        for student, teacher in pairs(model):
            teacher.data = student.detach().to(torch.float32, copy=True)
    model.set_adapter(STUDENT)
    for _, teacher in pairs(model):
        teacher.requires_grad_(False)


def pairs(model: PeftModel) -> list[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Every weight of the student with the teacher's."""
    named = dict(model.named_parameters())
    return [
        (p, named[n.replace(f".{STUDENT}.", f".{TEACHER}.")]) for n, p in named.items() if f".{STUDENT}." in n
    ]


class Follow(TrainerCallback):
    """Moves the teacher after every step of the student."""

    def __init__(self, model: PeftModel, rate: float):
        self._model, self._rate = model, rate

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for student, teacher in pairs(self._model):
            teacher.lerp_(student.to(torch.float32), self._rate)


class Trainer(KeepsAdapters, DistillationTrainer):
    """Axes: B sequences, P prompt tokens (left-padded), T completion tokens, H hidden, N tokens of the loss."""

    def __init__(self, stage: Distill, **kwargs: Any):
        self._skip, self._sharing = stage.skip_tokens, sharing_of(stage)
        self._sampling = Sampling(1.0, stage.max_new_tokens, stage.batch_size, uses_bf16(stage.precision))
        super().__init__(teacher_model=None, **kwargs)

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> list[list[int]]:
        model = self.accelerator.unwrap_model(self.model)
        pad = self.processing_class.pad_token_id
        return sample(model, prompt_ids, 1, self._sampling, self.eos_token_ids, pad)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)
        where = out["completion_ids"].device
        prompts = [prompt_tokens(self.processing_class, row["teacher_prompt"]) for row in inputs]
        pad = self.processing_class.pad_token_id
        out["teacher_prompt_ids"], out["teacher_prompt_mask"] = left_padded(prompts, pad, where)
        position_T = torch.arange(out["completion_mask"].size(1), device=where)
        out["loss_mask"] = out["completion_mask"] * (position_T >= self._skip).to(
            out["completion_mask"].dtype
        )
        out["num_items_in_batch"] = out["loss_mask"].sum()
        # trl shuffles what is generated for a step, so every sequence says which row it belongs to.
        out["row"] = torch.arange(len(inputs), device=where) // self._sharing
        return out

    def _compute_loss(
        self, student: PeftModel, inputs: dict[str, Tensor], num_items_in_batch: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden_of = self._hidden_in_rows if can_share(student) else self._hidden
        hidden_1NH = hidden_of(student, inputs, "")[None]
        with torch.no_grad(), use_adapter(student, TEACHER):
            teacher_1NH = hidden_of(student, inputs, "teacher_")[None]
        # Only tokens of the loss are projected to the vocabulary; off CUDA trl would project all.
        head = student.get_output_embeddings().weight
        mask_1N = torch.ones(hidden_1NH.shape[:2], device=hidden_1NH.device)
        loss, entropy, count = _chunked_divergence_loss(
            hidden_1NH,
            teacher_1NH,
            head,
            head,
            mask_1N,
            self.beta,
            num_items_in_batch,
            temperature=self.temperature,
        )
        return loss, entropy.detach(), count

    def _hidden(self, model: PeftModel, inputs: dict[str, Tensor], who: str) -> Tensor:
        """The states before the tokens of the loss, (N, H)."""
        ids_BL = torch.cat([inputs[f"{who}prompt_ids"], inputs["completion_ids"]], dim=1)
        mask_BL = torch.cat([inputs[f"{who}prompt_mask"], inputs["completion_mask"]], dim=1)
        hidden_BTH = self._get_last_hidden_state(model, ids_BL, mask_BL, inputs["completion_ids"].size(1))
        hidden_NH: Tensor = hidden_BTH[inputs["loss_mask"].bool()]
        return hidden_NH

    def _hidden_in_rows(self, model: PeftModel, inputs: dict[str, Tensor], who: str) -> Tensor:
        """The same from rows that read their schema once, row by row."""
        prompts = _unpadded(inputs[f"{who}prompt_ids"], inputs[f"{who}prompt_mask"])
        completions = _unpadded(inputs["completion_ids"], inputs["completion_mask"])
        rows: dict[int, list[Sequence]] = {}
        for number, prompt, completion in zip(inputs["row"].tolist(), prompts, completions, strict=True):
            rows.setdefault(number, []).append(Sequence(prompt, completion))
        collate = Collator(self.processing_class.pad_token_id)
        batch = collate([row_of(members, self._skip)._asdict() for members in rows.values()])
        branches = read_trunks(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        labels_BT = branches.pop("labels")
        hidden_BTH = model.get_base_model().base_model(**branches).last_hidden_state
        hidden_NH: Tensor = hidden_BTH[:, :-1][labels_BT[:, 1:] != IGNORED]
        return hidden_NH


def _unpadded(ids_BL: Tensor, mask_BL: Tensor) -> list[list[int]]:
    return [ids_L[mask_L.bool()].tolist() for ids_L, mask_L in zip(ids_BL, mask_BL, strict=True)]
