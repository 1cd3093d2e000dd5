"""The student's own words, read by the student and by a teacher that knows more: where the loss comes from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from trl import DistillationTrainer
from trl.trainer.utils import use_adapter

from training.config import Distill
from training.engine.head import head_of
from training.engine.losses import Estimation, Written, estimated
from training.engine.model import backbone_of, completion_tokens, prompt_tokens
from training.engine.padding import left_padded
from training.engine.projection import ComparedTokens, States, terms_of
from training.engine.trainer import KeepsAdapters, Watch
from training.generation.prefix.rows import (
    IGNORED,
    Collator,
    PromptAndCompletion,
    can_share,
    row_of,
    suffixes_of,
)
from training.generation.samplers import VllmSampler, Writes, sampling_of
from training.settings import TeacherKind
from training.teachers.ema import TEACHER


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
        self._stage, self._sharing, self._external = stage, stage.sharing, external
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
        out["row"] = torch.arange(len(inputs), device=where) // self._sharing
        return out

    def _compute_loss(
        self, student: PeftModel, inputs: dict[str, Tensor], num_items_in_batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        stage = self._stage
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
        """In the stage's precision: trl reads past the model's own forward, which is where accelerate casts."""
        shared = can_share(student) and can_share(model)
        with self.accelerator.autocast():
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
        suffixes = suffixes_of(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        labels_BT = suffixes.pop("labels")
        hidden_BTH = backbone_of(model)(**suffixes).last_hidden_state
        hidden_NH: Tensor = hidden_BTH[:, :-1][labels_BT[:, 1:] != IGNORED]
        return hidden_NH


def _unpadded(ids_BL: Tensor, mask_BL: Tensor) -> list[list[int]]:
    return [ids_L[mask_L.bool()].tolist() for ids_L, mask_L in zip(ids_BL, mask_BL, strict=True)]
