"""On-policy distillation: the student writes, and a teacher that knows the answer says how it would have gone on.

The student samples a response to a prompt. The teacher reads the same response after a prompt that also holds a hint
(the worked example of the trace, or the right code with its condition), and the student is moved towards the
teacher's distribution at every token of what it wrote itself, mistakes included. SFT cannot do that: it never visits
the student's own states. By default the teacher is an exponential moving average of the student, so it keeps up with
it and averages its noise away; that state is kept in fp32 (in bf16 a small step rounds to nothing and the average
stalls) and travels with the checkpoint. It may also be the student as it is, the base, or another model.

The divergence is the full-vocabulary KL at each position, forward by default, as in SDFT's published results; the
other estimators of `losses.py` can be had. The first tokens are masked, because a teacher that was shown an example
begins by copying its first words.

Half of the prompts show a perturbed schema, so that what the student learns is to read definitions: there the
trace's codes are moved along with their meanings (a trace whose prose does not allow that is shown with the prompt that
it was written for), or, where there is no trace, the hint is the condition. A few
examples share one drawing of the schema, which student and teacher then read once (see `tree_rows`).

On the traces instead of its own words (`on_policy` false) this is offline distillation, by a teacher that is shown the
answer and never the trace that is being read, which it would copy; on general prompts with the
base as the teacher it is re-invocation, which gives back what earlier stages took.

Built on trl 1.16.0's DistillationTrainer through three private methods; tests hold what they must do.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from trl import DistillationConfig, DistillationTrainer
from trl.trainer.utils import use_adapter

from evaluation.contract.schema import CategorySchema
from training.artifacts import Finished, StageFailed
from training.config import Distill, StageManifest
from training.data.examples import (
    Example,
    Trace,
    draw_rendering,
    drawn,
    hint_for,
    read_general,
    read_labelled,
    read_left_out,
    read_traces,
    taught,
)
from training.engine.head import check_head, head_of
from training.engine.losses import Estimation, Written, estimated
from training.engine.model import (
    Loaded,
    backbone_of,
    check_fits,
    code_pool,
    completion_tokens,
    load,
    load_base,
    load_tokenizer,
    prompt_tokens,
)
from training.engine.padding import left_padded
from training.engine.progress import EventWriter
from training.engine.projection import ComparedTokens, States, terms_of
from training.engine.trainer import KeepsAdapters, Watch, fit, trainer_arguments
from training.generation.prefix.rows import (
    IGNORED,
    Collator,
    PromptAndCompletion,
    can_share,
    read_prefixes,
    row_of,
)
from training.generation.samplers import VllmSampler, Writes, chosen, sampling_of
from training.protocol import FailureCode
from training.settings import TeacherKind
from training.stages.preflight import preflight
from training.teachers.ema import TEACHER, Follow, add_teacher
from training.teachers.privileged import HintKind, with_hint

_REMEDY = "use hint `criterion` (the teacher reads the hint too), shorter definitions or fewer new tokens"


def run(manifest: StageManifest, stage: Distill, events: EventWriter) -> Finished:
    loaded = load(manifest, stage)
    rows = _general_rows(manifest, stage) if stage.prompts else _rows(manifest, stage, loaded)
    external = None if stage.teacher_model is None else _external(stage.teacher_model, loaded)
    longest = max(len(prompt_tokens(loaded.tokenizer, row["teacher_prompt"])) for row in rows)
    for model in (loaded.model, *filter(None, [external])):
        check_head(model)
        check_fits(model, longest, stage.max_new_tokens, _REMEDY)
    callbacks = []
    if stage.teacher is TeacherKind.ema:
        add_teacher(loaded.model)
        callbacks.append(Follow(loaded.model, stage.ema_rate))
    watch = Watch(manifest, stage, events)
    trainer = DistillTrainer(
        stage=stage,
        external=external,
        watch=watch,
        vllm=chosen(manifest, stage, loaded.model, longest, events) if stage.on_policy else None,
        model=loaded.model,
        args=_config(manifest, stage),
        train_dataset=Dataset.from_list([{k: v for k, v in row.items() if k != "example"} for row in rows]),
        processing_class=loaded.tokenizer,
        callbacks=callbacks,
    )
    measured = preflight(trainer, rows, stage.preflight, events) if stage.preflight else {}
    finished = fit(trainer, manifest, watch, events)
    with_trace = sum(row["traced"] for row in rows)
    counts = {"prompts": len(rows) // stage.rollouts, "with_trace": with_trace // stage.rollouts}
    return finished._replace(metrics=finished.metrics | counts | measured)


def _config(manifest: StageManifest, stage: Distill) -> DistillationConfig:
    return DistillationConfig(
        **trainer_arguments(manifest, stage, stage.steps),
        temperature=1.0,
        max_completion_length=stage.max_new_tokens,
        shuffle_dataset=False,
    )


def _rows(manifest: StageManifest, stage: Distill, loaded: Loaded) -> list[dict[str, Any]]:
    """As many as the steps take, each prompt as often as it has rollouts, next to each other."""
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    traces = {t.id: t for t in read_traces(manifest.traces, schema).traces} if manifest.traces else {}
    left_out = read_left_out(manifest.traces)
    labelled = read_labelled(manifest.conversations, schema, left_out).conversations
    if not stage.on_policy:
        labelled = [conversation for conversation in labelled if conversation.id in traces]
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    chosen, sharing = drawn(labelled, stage.balance, rng), sharing_of(stage)
    rows: list[dict[str, Any]] = []
    for _ in range(stage.steps * stage.batch_size // sharing):
        perturb = stage.perturb and rng.random() < stage.perturbed_share
        rendering = draw_rendering(schema, pool, rng, perturb)
        for conversation in islice(chosen, sharing // stage.rollouts):
            row = _row(rendering.example(conversation), stage, traces.get(conversation.id), schema)
            rows += [row] * stage.rollouts
    return rows


def _general_rows(manifest: StageManifest, stage: Distill) -> list[dict[str, Any]]:
    assert stage.prompts is not None
    prompts = read_general(stage.prompts)
    random.Random(manifest.seed).shuffle(prompts)
    rows: list[dict[str, Any]] = []
    for messages in islice(cycle(prompts), stage.steps * stage.batch_size // stage.rollouts):
        rows += [{"prompt": messages, "teacher_prompt": messages, "traced": False}] * stage.rollouts
    return rows


def _external(name: str, loaded: Loaded) -> PreTrainedModel:
    """Raises: StageFailed where its tokens are not the student's."""
    if load_tokenizer(name).get_vocab() != loaded.tokenizer.get_vocab():
        raise StageFailed(
            FailureCode.unfit_settings,
            f"{name} has another tokenizer than the student; choose a teacher of the student's family, or let it write "
            "traces for SFT",
        )
    return load_base(name).requires_grad_(False).eval()


def sharing_of(stage: Distill) -> int:
    """Sequences under one drawing of the schema; micro-batches of any number of them hold only whole rows."""
    return math.gcd(stage.examples_per_schema * stage.rollouts, stage.micro_batch_size)


def _row(example: Example, stage: Distill, trace: Trace | None, schema: CategorySchema) -> dict[str, Any]:
    text = None
    if trace is not None and (stage.hint is HintKind.demonstration or not stage.on_policy):
        example, text, _ = taught(trace, schema, example)
    hint = hint_for(example, stage.hint, text)
    row = {
        "prompt": example.prompt.messages,
        "teacher_prompt": with_hint(example.prompt, hint),
        "example": example,
        "traced": text is not None,
    }
    return row if stage.on_policy else row | {"completion": text}


class DistillTrainer(Writes, KeepsAdapters, DistillationTrainer):
    """Axes: B sequences, P prompt tokens (left-padded), T completion tokens, H hidden, N completion tokens in a row."""

    def __init__(
        self,
        stage: Distill,
        external: PreTrainedModel | None = None,
        watch: Watch | None = None,
        vllm: VllmSampler | None = None,
        **kwargs: Any,
    ):
        self._stage, self._sharing, self._external = stage, sharing_of(stage), external
        self.sampling, self.watch, self.vllm = sampling_of(stage), watch, vllm
        self._given: list[list[int]] = []
        super().__init__(teacher_model=None, **kwargs)

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> list[list[int]]:
        if not self._stage.on_policy:
            return self._given
        return self.write(prompt_ids)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self._stage.on_policy:
            self._given = [completion_tokens(self.processing_class, row["completion"]) for row in inputs]
            inputs = [{name: row[name] for name in ("prompt", "teacher_prompt")} for row in inputs]
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)
        where = out["completion_ids"].device
        prompts = [prompt_tokens(self.processing_class, row["teacher_prompt"]) for row in inputs]
        pad = self.processing_class.pad_token_id
        out["teacher_prompt_ids"], out["teacher_prompt_mask"] = left_padded(prompts, pad, where)
        position_T = torch.arange(out["completion_mask"].size(1), device=where)
        learned_T = (position_T >= self._stage.skip_tokens).to(out["completion_mask"].dtype)
        out["loss_mask"] = out["completion_mask"] * learned_T
        drawn_BT = self.drawn_logps(out["completion_ids"])
        if drawn_BT is not None:
            out["drawn_logps"] = drawn_BT
        out["num_items_in_batch"] = self.accelerator.gather(out["loss_mask"].sum()).sum()
        # trl shuffles what is generated for a step, so every sequence says which row it belongs to.
        out["row"] = torch.arange(len(inputs), device=where) // self._sharing
        return out

    def _compute_loss(
        self, student: PeftModel, inputs: dict[str, Tensor], num_items_in_batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        stage = self._stage
        inputs = _row_by_row(inputs)
        states = self.states(student, student, inputs, "")
        with torch.no_grad(), self.teaching(student) as teacher:
            teacher_states = self.states(student, teacher, inputs, "teacher_")
        written_N = inputs["completion_ids"][inputs["completion_mask"].bool()]
        terms = terms_of(
            states, teacher_states, written_N, ComparedTokens(stage.divergence, stage.top_k, stage.clip)
        )
        drawn_BT = inputs.get("drawn_logps")
        if drawn_BT is not None:
            gap_N = terms.logps_N - drawn_BT[inputs["completion_mask"].bool()]
            self._metrics["train"]["sampler_gap"].append(gap_N.abs().mean().item())
        how = Estimation(stage.estimator, stage.discount, stage.weighting)
        written = Written(inputs["completion_mask"], inputs["loss_mask"], drawn_BT)
        loss = estimated(how, terms, written).sum() / num_items_in_batch
        count = torch.tensor(len(written_N), device=loss.device)
        return loss, terms.entropies_N.sum(), count

    @contextmanager
    def teaching(self, student: PeftModel) -> Iterator[PreTrainedModel | PeftModel]:
        """The model to read with as the teacher; the student's own is another adapter's inside, or none's."""
        match self._stage.teacher:
            case TeacherKind.external:
                assert self._external is not None  # the stage's validator requires its name
                yield self._external
            case TeacherKind.base:
                with student.disable_adapter():
                    yield student
            case TeacherKind.ema:
                with use_adapter(student, TEACHER):
                    yield student
            case TeacherKind.live:
                yield student

    def states(
        self, student: PeftModel, model: PreTrainedModel | PeftModel, inputs: dict[str, Tensor], who: str
    ) -> States:
        shared = can_share(student) and can_share(model)
        hidden_NH = (self._hidden_in_rows if shared else self._hidden)(model, inputs, who)
        return States(hidden_NH, head_of(model))

    def _hidden(self, model: PreTrainedModel | PeftModel, inputs: dict[str, Tensor], who: str) -> Tensor:
        """The states before the completion tokens, (N, H)."""
        ids_BL = torch.cat([inputs[f"{who}prompt_ids"], inputs["completion_ids"]], dim=1)
        mask_BL = torch.cat([inputs[f"{who}prompt_mask"], inputs["completion_mask"]], dim=1)
        hidden_BTH = self._get_last_hidden_state(model, ids_BL, mask_BL, inputs["completion_ids"].size(1))
        hidden_NH: Tensor = hidden_BTH[inputs["completion_mask"].bool()]
        return hidden_NH

    def _hidden_in_rows(
        self, model: PreTrainedModel | PeftModel, inputs: dict[str, Tensor], who: str
    ) -> Tensor:
        """The same from rows that read their schema once."""
        prompts = _unpadded(inputs[f"{who}prompt_ids"], inputs[f"{who}prompt_mask"])
        completions = _unpadded(inputs["completion_ids"], inputs["completion_mask"])
        rows: dict[int, list[PromptAndCompletion]] = {}
        for number, prompt, completion in zip(inputs["row"].tolist(), prompts, completions, strict=True):
            rows.setdefault(number, []).append(PromptAndCompletion(prompt, completion))
        collate = Collator(self.processing_class.pad_token_id)
        batch = collate([row_of(members)._asdict() for members in rows.values()])
        suffixes = read_prefixes(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        labels_BT = suffixes.pop("labels")
        hidden_BTH = backbone_of(model)(**suffixes).last_hidden_state
        hidden_NH: Tensor = hidden_BTH[:, :-1][labels_BT[:, 1:] != IGNORED]
        return hidden_NH


def _row_by_row(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sequences of one row next to each other, so that tokens have one order however they are read."""
    order_B = torch.argsort(inputs["row"], stable=True)
    size = len(order_B)
    return {
        name: tensor[order_B] if torch.is_tensor(tensor) and tensor.dim() and len(tensor) == size else tensor
        for name, tensor in inputs.items()
    }


def _unpadded(ids_BL: Tensor, mask_BL: Tensor) -> list[list[int]]:
    return [ids_L[mask_L.bool()].tolist() for ids_L, mask_L in zip(ids_BL, mask_BL, strict=True)]
