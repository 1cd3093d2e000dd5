"""Train the starter model from nothing: `python -m training.starter.recipe --out DIR --minutes 120 [--corpus DIR]`.

Phases, by share of the time (a small model trained directly on the task describes conversations but never learns to
look a criterion up): pure lookup practice on random words; schemas of two or three categories; up to five; up to
eight; up to twenty-four. Weights are bf16 with fp32 masters; Muon moves the matrices and AdamW the rest. Left out:
dropout, distillation, any pretrained weight.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from evaluation.contract.render import choose_codes
from training.starter import corpus as real
from training.starter import tokenizer as vocabulary
from training.starter.batches import Batch, Make, Shape, Source, batch
from training.starter.exam import Exam

PROMPT_LOSS = 0.2
MATRIX_LEARNING_RATE = 2.5  # times the others'; Muon's steps are small at equal rates
LOOKUP_LOSS = 0.2  # nats a token; practice goes on until it is this low, at most until LOOKUP_UNTIL
LOOKUP_UNTIL = 0.3
LOOKUP, SHORT, LONG, WIDE = Shape(20, 320), Shape(20, 384), Shape(10, 768), Shape(5, 1536)


def attention(
    module: torch.nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float = 1.0, **_: Any
) -> tuple[Tensor, None]:
    """softmax(qk)v written out: on CPU the backward pass of the fused kernel took 42 % of a step, this one 17 %."""
    scores = torch.matmul(q * scaling, k.transpose(-1, -2)) + mask
    return torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).contiguous(), None


AttentionInterface.register("written_out", attention)


class Phase(NamedTuple):
    until: float
    shape: Shape
    sizes: tuple[int, int] | None  # None: lookup practice
    corpus_share: float
    hints: float
    conditions: float


PHASES = (
    Phase(0.0, LOOKUP, None, 0.0, 0.0, 0.0),
    Phase(0.25, SHORT, (2, 3), 0.10, 0.0, 0.2),
    Phase(0.40, LONG, (2, 5), 0.25, 0.10, 0.3),
    Phase(1.01, LONG, (2, 8), 0.35, 0.20, 0.4),
)
WIDE_FROM, WIDE_SHARE = 0.6, 0.12
WIDE_PHASE = Phase(1.01, WIDE, (9, 24), 0.4, 0.1, 0.3)


def config(width: int, layers: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=vocabulary.VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )


class Optimizers:
    """fp32 masters behind bf16 weights; Muon for matrices inside the blocks, AdamW for embeddings and norms."""

    def __init__(self, model: torch.nn.Module, learning_rate: float):
        self.weights = list(model.parameters())
        self.masters = [weight.detach().float().clone() for weight in self.weights]
        named = zip((name for name, _ in model.named_parameters()), self.masters, strict=True)
        matrices, others = [], []
        for name, master in named:
            (matrices if master.ndim == 2 and "embed" not in name else others).append(master)
        self.learning_rate = learning_rate
        self.parts = [
            torch.optim.Muon(matrices, lr=MATRIX_LEARNING_RATE * learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
        ]

    def step(self, scale: float) -> float:
        """Returns the gradient's norm before clipping at 1. Raises: FloatingPointError if it is not finite."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            assert weight.grad is not None
            master.grad, weight.grad = weight.grad.float(), None
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, 1.0))
        if not math.isfinite(norm):
            raise FloatingPointError("the gradient is not finite; start again from the last checkpoint")
        for part, rate in zip(self.parts, (MATRIX_LEARNING_RATE, 1.0), strict=True):
            for group in part.param_groups:
                group["lr"] = rate * self.learning_rate * scale
            part.step()
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.masters)
        return norm

    def state(self) -> dict[str, Any]:
        return {"masters": self.masters, "parts": [part.state_dict() for part in self.parts]}

    def load(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.masters, state["masters"])
            torch._foreach_copy_(self.weights, self.masters)
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


def loss_of(model: Qwen3ForCausalLM, ids: Tensor, positions: Tensor, mask: Tensor, where: Tensor, targets: Tensor,
            weights: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weighted cross-entropy in nats, and each target's own."""
    hidden = model.model(
        input_ids=ids, position_ids=positions, attention_mask={"full_attention": mask}, use_cache=False
    ).last_hidden_state
    logits = F.linear(hidden.flatten(0, 1)[where], model.lm_head.weight).float()
    each = F.cross_entropy(logits, targets, reduction="none")
    return (each * weights).sum(), each.detach()


def schedule(share: float, step: int) -> float:
    warm = min(1.0, (step + 1) / 40)
    return warm * (0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def phase_at(share: float, practising: bool, rng: random.Random) -> Phase:
    if practising:  # quoting customers teaches to copy, which looking up builds on: half of each
        return PHASES[rng.randrange(2)]
    if share > WIDE_FROM and rng.random() < WIDE_SHARE:
        return WIDE_PHASE
    return next(phase for phase in PHASES[1:] if share < phase.until)


def maker(source: Source, phase: Phase) -> Make:
    if phase.sizes is None:
        return source.lookup
    sizes = phase.sizes
    return lambda rng: source.task(
        rng, sizes, corpus_share=phase.corpus_share, hints=phase.hints, conditions=phase.conditions
    )


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    out: Path = options.out
    corpus = real.load(options.corpus) if options.corpus else None
    if corpus is None:
        print("no --corpus: the starter will know the world's English only", flush=True)
    tokenizer = (
        PreTrainedTokenizerFast.from_pretrained(out)
        if (out / "tokenizer.json").exists()
        else vocabulary.build(out, corpus)
    )
    codes = choose_codes(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], vocabulary.CODE_COUNT)
    source, exam = Source(tokenizer, codes, corpus), Exam(tokenizer, codes, corpus)
    model = Qwen3ForCausalLM(config(options.width, options.layers))
    model.config._attn_implementation = "written_out"
    model = model.to(options.device, torch.bfloat16)
    examinee = Qwen3ForCausalLM(config(options.width, options.layers)).to(options.device, torch.bfloat16)
    optimizers = Optimizers(model, options.learning_rate)
    step, tokens, spent, practising = 0, 0, 0.0, True
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        optimizers.load(saved["optimizers"])
        rng.setstate(saved["rng"])
        step, tokens, spent, practising = (saved[name] for name in ("step", "tokens", "spent", "practising"))
        print(f"resumed at step {step}", flush=True)
    if options.compile:  # one block, compiled once a shape, serves all layers
        for block in model.model.layers:
            block.compile(dynamic=False)
    size = sum(weight.numel() for weight in model.parameters())
    print(f"{size / 1e6:.2f} M parameters", flush=True)
    begun = last_saved = last_exam = last_line = time.monotonic()
    recent: list[float] = []
    lookups: list[float] = []
    while (share := (spent + time.monotonic() - begun) / (60 * options.minutes)) < 1:
        phase = phase_at(share, practising, rng)
        prompt_loss = PROMPT_LOSS if phase.sizes else 0.0
        data: Batch = batch(maker(source, phase), phase.shape, rng, tokenizer.pad_token_id, prompt_loss)
        data = Batch(*(tensor.to(options.device) for tensor in data))
        loss, each = loss_of(model, *data[:-1])
        loss.backward()
        norm = optimizers.step(schedule(share, step))
        (recent if phase.sizes else lookups).append(float(each[data.looked_up].mean()))
        if practising and (share > LOOKUP_UNTIL or (len(lookups) > 20 and sum(lookups[-20:]) / 20 < LOOKUP_LOSS)):
            print(f"{share:.3f} step {step}: lookup practice ends", flush=True)
            practising = False
        step, tokens = step + 1, tokens + data.ids_BT.numel()
        now = time.monotonic()
        if now - last_line > 30:
            means = [f"{sum(part[-20:]) / max(1, len(part[-20:])):.3f}" for part in (recent, lookups)]
            rate = tokens / (spent + now - begun)
            print(f"{share:.3f} step {step} {tokens / 1e6:.2f} M tokens {rate:.0f}/s codes {means[0]} lookup {means[1]} norm {norm:.2f}",
                  flush=True)  # fmt: skip
            last_line = now
        if now - last_exam > options.exam_every * 60 and phase.sizes:
            examinee.load_state_dict(model.state_dict())
            print(json.dumps({"step": step, "share": round(share, 3)} | exam.sit(examinee, options.exam_size)), flush=True)
            last_exam = time.monotonic()
        if now - last_saved > 240:
            _save(checkpoint, optimizers, rng, step, tokens, spent + now - begun, practising)
            last_saved = time.monotonic()
    _save(checkpoint, optimizers, rng, step, tokens, spent + time.monotonic() - begun, practising)
    examinee.load_state_dict(model.state_dict())
    examinee.save_pretrained(out)
    print(json.dumps({"step": step, "tokens": tokens} | exam.sit(examinee, 4 * options.exam_size)), flush=True)


def _save(path: Path, optimizers: Optimizers, rng: random.Random, step: int, tokens: int, spent: float, practising: bool) -> None:
    progress = {"step": step, "tokens": tokens, "spent": spent, "practising": practising}
    state = {"optimizers": optimizers.state(), "rng": rng.getstate()} | progress
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the starter model from nothing.")
    parser.add_argument("--out", type=Path, required=True, help="tokenizer, weights and checkpoint; resumes from there")
    parser.add_argument("--corpus", type=Path, help="folder with utterances.jsonl.gz and dialogues.jsonl.gz")
    parser.add_argument("--minutes", type=float, default=120, help="training time; phases and learning rate follow it")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--exam-every", type=float, default=12, help="minutes between exams")
    parser.add_argument("--exam-size", type=int, default=40, help="questions per part of an exam")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
