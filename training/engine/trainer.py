"""What the stages that learn share: arguments of the trainer, watching it, resuming it, handing its adapter on."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.artifacts import Finished, StageFailed, latest_checkpoint, mark_complete, write_json
from training.config import StageManifest
from training.engine import encoder, processes
from training.engine.deadline import Deadline, TimeUp
from training.engine.model import STUDENT, Loaded, export, is_full, uses_bf16
from training.engine.progress import EventWriter
from training.engine.validation import Validation
from training.generation.rollouts import Watched
from training.protocol import ADAPTER, CHECKPOINTS, FailureCode
from training.settings import Learning, Schedule

_SHOWN = (
    "loss",
    "grad_norm",
    "learning_rate",
    "entropy",
    "kl",
    "reward",
    "reward_std",
    "label_accuracy",
    "top_answer_share",
    "paired_bonus",
    "never_right",
    "kl_to_base",
    "sampler_gap",
    "frac_reward_zero_std",
    "teacher_label_accuracy",
    "mean_token_accuracy",
    "completions/mean_length",
    "completions/clipped_ratio",
    "num_tokens",
    "step_time",
)

_SCHEDULES = {Schedule.constant: "constant_with_warmup", Schedule.cosine: "cosine"}


def trainer_arguments(manifest: StageManifest, stage: Learning, steps: int) -> dict[str, Any]:
    """Keyword arguments that every TRL configuration takes.

    Raises: StageFailed where the processes cannot share a batch.
    """
    on_cuda = torch.cuda.is_available()
    accumulation, rest = divmod(stage.accumulation, processes.count())
    if rest or not accumulation:
        raise StageFailed(
            FailureCode.unfit_settings,
            f"batch_size {stage.batch_size} is not a multiple of micro_batch_size {stage.micro_batch_size} times "
            f"{processes.count()} processes; halve micro_batch_size",
        )
    return {
        "output_dir": str(manifest.out / CHECKPOINTS),
        "seed": manifest.seed,
        "data_seed": manifest.seed,
        "max_steps": steps,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": _SCHEDULES[stage.schedule],
        "warmup_steps": min(stage.warmup_steps, steps // 4),
        "max_grad_norm": stage.max_grad_norm,
        "per_device_train_batch_size": stage.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "ddp_find_unused_parameters": False,
        "gradient_checkpointing": False,
        "bf16": uses_bf16(stage.precision),
        "use_cpu": not on_cuda,
        "dataloader_pin_memory": on_cuda,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": stage.checkpoint_every,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


_NOTHING_LEARNED: Final = (
    "max_seconds passed before one step was made: the stage leaves what it was given as it is; raise its "
    "max_seconds, or lower its batch_size"
)


class Watch(TrainerCallback):
    """Writes the events, and stops what must not go on."""

    def __init__(self, manifest: StageManifest, stage: Learning, events: EventWriter):
        self._sha256, self._events = manifest.sha256, events
        self.deadline = Deadline.after(stage.max_seconds)
        self._step, self._steps = 0, 0
        self.logs: list[dict[str, float]] = []
        self.stopped_by: str | None = None
        self.validation: Validation | None = None

    def stop(self, reason: str) -> None:
        """After the step that is being made; the first reason is the one that is said."""
        self.stopped_by = self.stopped_by or reason

    def check(self) -> None:
        """Every process of the stage must ask, and at the same place. Raises: TimeUp."""
        if processes.any_of(self.deadline.passed):
            raise TimeUp

    @property
    def watched(self) -> Watched:
        return Watched(self.deadline, self._say)

    def _say(self, message: str) -> None:
        self._events.write("progress", step=self._step, total_steps=self._steps, message=message)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What the process said that left the checkpoint, where there is one."""
        self.logs = [shown for log in state.log_history if "loss" in (shown := _shown(log))]

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step, self._steps = state.global_step, state.max_steps

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.check()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A gradient that is not finite would spoil every weight with one step."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if not all(torch.isfinite(gradient).all() for gradient in gradients):
            raise StageFailed(
                FailureCode.non_finite_loss,
                f"the gradient of step {state.global_step + 1} is not finite, so the step was not taken; lower the "
                "learning rate or set precision to fp32",
                step=state.global_step,
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.deadline.passed:
            self.stop("max_seconds")
        if self.validation is not None and self.validation.plateau:
            self.stop("plateau")
        if processes.any_of(self.stopped_by is not None):
            control.should_training_stop = True

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        shown = _shown(kwargs["logs"])
        if "loss" in shown:
            self.logs.append(shown)
            self._events.write("metric", step=state.global_step, total_steps=state.max_steps, metrics=shown)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if processes.is_first():
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}", self._sha256)


def _shown(log: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in log.items() if name in _SHOWN and value is not None}


class Flops(TrainerCallback):
    """Counts the floating-point operations of the first step, sampling and teacher included; counting all is slow.

    Only of the very first: counting takes other kernels, whose last digits differ, and a stage that is resumed must go
    on as it would have.
    """

    def __init__(self, stack: ExitStack, kept: Path):
        """stack: ends the counting where the step does not. kept: file for the count."""
        self._stack, self._kept, self._counter = stack, kept, FlopCounterMode(display=False)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self._stack.enter_context(self._counter)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 1:
            self._stack.close()
            if processes.is_first():
                write_json(self._kept, int(self._counter.get_total_flops()))

    @property
    def of_step(self) -> int:
        return int(json.loads(self._kept.read_text()))


class KeepsAdapters:
    """Mixed into a trainer: a checkpoint restores every adapter.

    transformers 5.17 restores those in subdirectories and then forgets the one at the top, which is the student; and
    peft refuses to load an adapter that is already there.
    """

    model: PeftModel

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PeftModel | None = None) -> None:
        model = self.model if model is None else model
        for name in model.peft_config:
            folder = Path(resume_from_checkpoint) / ("" if name == STUDENT else name)
            weights = load_file(folder / "adapter_model.safetensors")
            set_peft_model_state_dict(model, weights, adapter_name=name)


def fit(trainer: Trainer, manifest: StageManifest, watch: Watch, events: EventWriter) -> Finished:
    """Train, from the last whole checkpoint where there is one, and leave the student in out/adapter.

    Where every weight was trained, out/model has it as a model of its own too, and the trainer's cannot be used again.
    A step that the deadline finds half made is not taken. Where it was the first, what a stage before has learned is
    left as it is. Raises: TimeUp where there is nothing of a stage before either.
    """
    checkpoint = latest_checkpoint(manifest.out, manifest.sha256)
    watch.validation = _validation(trainer, manifest, watch, events)
    message = f"resuming from {checkpoint.name}" if checkpoint else "training"
    events.write(
        "progress", step=trainer.state.global_step, total_steps=trainer.args.max_steps, message=message
    )
    trainer.remove_callback(PrinterCallback)  # the events say the same
    with ExitStack() as stack:
        flops = Flops(stack, manifest.out / "flops.json")
        for callback in filter(None, (flops, watch.validation, watch)):  # a validation is no part of a step
            trainer.add_callback(callback)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except TimeUp:
            if not trainer.state.global_step:
                if manifest.adapter is None:
                    raise
                events.write("progress", step=0, total_steps=trainer.args.max_steps, message=_NOTHING_LEARNED)
            watch.stop("max_seconds")
    metrics = _summary(watch)
    if processes.is_first():
        steps = trainer.state.global_step
        metrics["flops"] = flops.of_step * processes.count() * steps if steps else 0
    if watch.validation is not None:
        metrics |= watch.validation.restore(trainer.model, trainer.state.global_step)
    if processes.is_first():
        trainer.model.save_pretrained(str(manifest.out / ADAPTER), selected_adapters=[STUDENT])
        # Serving takes weights and config, nothing else.
        (manifest.out / ADAPTER / "README.md").unlink(missing_ok=True)
        _sort_modules(manifest.out / ADAPTER / "adapter_config.json")
        encoder.bring_along(manifest)
        if is_full(trainer.model):
            export(Loaded(trainer.model, trainer.processing_class), manifest.out / "model")
    return Finished(trainer.state.global_step, _tokens(watch), metrics)


def _sort_modules(config: Path) -> None:
    """peft writes a set, in another order each time; the same adapter is to have the same digest."""
    content = json.loads(config.read_text())
    if isinstance(content["target_modules"], list):
        write_json(config, content | {"target_modules": sorted(content["target_modules"])})


def _validation(
    trainer: Trainer, manifest: StageManifest, watch: Watch, events: EventWriter
) -> Validation | None:
    stage = manifest.stage
    if not isinstance(stage, Learning) or stage.validate_every is None:
        return None
    return Validation(manifest, stage, Loaded(trainer.model, trainer.processing_class), watch, events)


def _tokens(watch: Watch) -> int:
    """An update that learns again from what was written before counts nothing, and says no number."""
    return int(max((log["num_tokens"] for log in watch.logs if "num_tokens" in log), default=0))


def _summary(watch: Watch) -> dict[str, Any]:
    """Each metric at the beginning and at the end, as means over the first and the last tenth of the steps."""
    summary: dict[str, Any] = {"stopped_by": watch.stopped_by or "steps"}
    width = max(1, len(watch.logs) // 10)
    for name in watch.logs[0] if watch.logs else ():
        values = [log[name] for log in watch.logs if name in log]
        if name not in ("learning_rate", "num_tokens"):
            summary[f"{name}_first"] = round(sum(values[:width]) / len(values[:width]), 6)
            summary[f"{name}_last"] = round(sum(values[-width:]) / len(values[-width:]), 6)
    return summary
