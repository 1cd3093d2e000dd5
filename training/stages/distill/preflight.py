"""Whether a teacher has anything to teach, measured before the first step.

Self-distillation rests on an assumption: shown the hint, the model answers better than without it, and still writes
much as it would have (SDFT calls it the in-context assumption). Both are measured on what the teacher itself writes.
"""

from typing import Any

import torch

from training.data.rewards import answers_rightly
from training.engine.model import prompt_tokens
from training.engine.padding import left_padded, right_padded
from training.engine.progress import EventWriter
from training.engine.projection import ComparedTokens, terms_of
from training.generation.rollouts import UNWATCHED, sample
from training.stages.distill.trainer import DistillTrainer

WORTH = 0.05  # what the hint must add to the share of right answers
_AT_ONCE = 16


def preflight(
    trainer: DistillTrainer, rows: list[dict[str, Any]], count: int, events: EventWriter
) -> dict[str, Any]:
    """Shares of right answers, and nats a token, over the first `count` different prompts.

    The random numbers of the training are left as they are.
    """
    chosen = list({str(row["teacher_prompt"]): row for row in rows if "example" in row}.values())[:count]
    if not chosen:
        return {}
    student = trainer.accelerator.unwrap_model(trainer.model)
    with torch.random.fork_rng(), torch.no_grad():
        own = _written(trainer, student, [row["prompt"] for row in chosen])
        with trainer.teaching(student) as teacher:
            hinted = _written(trainer, teacher, [row["teacher_prompt"] for row in chosen])
        distance = _distance_to_base(trainer, student, chosen, hinted)
    shares = [_right(trainer, texts, chosen) for texts in (own, hinted)]
    measured = {
        "preflight_student_right": round(shares[0], 4),
        "preflight_teacher_right": round(shares[1], 4),
        "preflight_teacher_kl_to_base": round(distance, 4),
        "preflight_prompts": len(chosen),
        "preflight_worth_it": shares[1] - shares[0] >= WORTH,
    }
    events.write("progress", message=_said(measured))
    return measured


def _said(measured: dict[str, Any]) -> str:
    found = (
        f"on {measured['preflight_prompts']} prompts the student is right for "
        f"{measured['preflight_student_right']:.0%} and the teacher for {measured['preflight_teacher_right']:.0%}, at "
        f"{measured['preflight_teacher_kl_to_base']:.2f} nats a token from the base"
    )
    if measured["preflight_worth_it"]:
        return found
    return f"{found}: this teacher knows little more than the student, and distilling it is hardly worth its time"


def _written(trainer: DistillTrainer, model: Any, prompts: list[Any]) -> list[list[int]]:
    tokenizer = trainer.processing_class
    tokens = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
    pad, watch = tokenizer.pad_token_id, trainer.watch
    watched = UNWATCHED if watch is None else watch.watched
    written = sample(model, tokens, 1, trainer.sampling, trainer.eos_token_ids, pad, watched)
    if watch is not None:
        watch.check()
    return written


def _right(trainer: DistillTrainer, written: list[list[int]], rows: list[dict[str, Any]]) -> float:
    texts = trainer.processing_class.batch_decode(written, skip_special_tokens=True)
    return sum(answers_rightly(text, row["example"]) for text, row in zip(texts, rows, strict=True)) / len(
        rows
    )


def _distance_to_base(
    trainer: DistillTrainer, student: Any, rows: list[dict[str, Any]], written: list[list[int]]
) -> float:
    """KL(teacher with the hint || base without), a mean over the tokens that the teacher wrote."""
    tokenizer, where = trainer.processing_class, student.device
    total, tokens = 0.0, 0
    for start in range(0, len(rows), _AT_ONCE):
        part, texts = rows[start : start + _AT_ONCE], written[start : start + _AT_ONCE]
        pad = tokenizer.pad_token_id
        inputs: dict[str, torch.Tensor] = {}
        for who in ("", "teacher_"):
            prompts = [prompt_tokens(tokenizer, row[f"{who}prompt"]) for row in part]
            inputs[f"{who}prompt_ids"], inputs[f"{who}prompt_mask"] = left_padded(prompts, pad, where)
        inputs["completion_ids"], inputs["completion_mask"] = right_padded(texts, pad, where)
        inputs["row"] = torch.arange(len(part), device=where)
        with student.disable_adapter():
            base = trainer.states(student, student, inputs, "")
        with trainer.teaching(student) as teacher:
            taught = trainer.states(student, teacher, inputs, "teacher_")
        chosen_N = inputs["completion_ids"][inputs["completion_mask"].bool()]
        total += terms_of(base, taught, chosen_N, ComparedTokens.forward()).divergences_N.sum().item()
        tokens += len(chosen_N)
    return total / max(1, tokens)
