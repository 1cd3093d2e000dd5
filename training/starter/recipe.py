"""Train the starter model from nothing: `python -m training.starter.recipe --out DIR --minutes 120 [--corpus DIR]`.

A small model trained directly on the task describes conversations but never learns to look a criterion up. So: pure
lookup practice on random words; then, by share of the time, schemas of two or three categories, up to five, eight,
twenty-four, and in every phase some batches of the deciding step alone. Weights are bf16 with fp32 masters; Muon
moves the matrices and AdamW the rest. Left out: dropout, distillation, any pretrained weight.
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

from evaluation.atomic_files import whole
from evaluation.contract.render import choose_codes
from training.sittings import Sitting, rate
from training.starter import corpus as real
from training.starter import tokenizer as vocabulary
from training.starter.batches import Batch, BatchSource, Draw, Make, Shape, batch
from training.starter.held_out import HeldOutEvaluation
from training.starter.optimizers import Optimizers

PROMPT_LOSS = 0.2
LOOKUP_LOSS = 0.2  # nats a token; practice goes on until it is this low, at most until LOOKUP_UNTIL
LOOKUP_UNTIL = 0.3
WARM_UP = 40  # steps
LOOKUP, SHORT, LONG, WIDE = Shape(20, 320), Shape(20, 384), Shape(10, 768), Shape(5, 1536)


def attention(
    module: torch.nn.Module,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(qk)v written out: on CPU the backward pass of the fused kernel took 42 % of a step, this one 17 %."""
    scores = torch.matmul(q * scaling, k.transpose(-1, -2)) + mask
    return torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).contiguous(), None


AttentionInterface.register("written_out", attention)


class Phase(NamedTuple):
    until: float
    shape: Shape
    draw: Draw
    matching: float  # share of batches that train the deciding step alone


PHASES = (
    Phase(0.04, SHORT, Draw((2, 3), corpus_share=0.20, conditions=0.1, hints=0.0), 0.9),
    Phase(0.12, LONG, Draw((2, 5), corpus_share=0.25, conditions=0.2, hints=0.05), 0.7),
    Phase(0.40, LONG, Draw((2, 8), corpus_share=0.30, conditions=0.4, hints=0.15), 0.5),
    Phase(1.01, LONG, Draw((2, 8), corpus_share=0.35, conditions=0.4, hints=0.20), 0.2),
)
WIDE_FROM, WIDE_SHARE = 0.6, 0.12
WIDE_PHASE = Phase(1.01, WIDE, Draw((9, 24), corpus_share=0.4, conditions=0.3, hints=0.1), 0.2)


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


def loss_of(model: Qwen3ForCausalLM, ids: Tensor, positions: Tensor, mask: Tensor, where: Tensor, targets: Tensor,
            weights: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weighted cross-entropy in nats, and each target's own."""
    hidden = model.model(
        input_ids=ids, position_ids=positions, attention_mask={"full_attention": mask}, use_cache=False
    ).last_hidden_state
    logits = F.linear(hidden.flatten(0, 1)[where], model.lm_head.weight).float()
    each = F.cross_entropy(logits, targets, reduction="none")
    return (each * weights).sum(), each.detach()


def phase_at(share: float, rng: random.Random) -> Phase:
    if share > WIDE_FROM and rng.random() < WIDE_SHARE:
        return WIDE_PHASE
    return next(phase for phase in PHASES if share < phase.until)


class LessonPlan(NamedTuple):
    kind: str  # lookup | matching | task
    shape: Shape
    make: Make


class TokenCounts(NamedTuple):
    """Where a training stands; spent_s is the time used in earlier sittings."""

    step: int = 0
    tokens: int = 0
    spent_s: float = 0.0
    practising: bool = True


class TrainingRun:
    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(options.seed)
        self.options, self.out, self.rng = options, options.out, random.Random(options.seed)
        corpus = real.load(options.corpus) if options.corpus else None
        if corpus is None:
            print("no --corpus: the starter will know the world's English only", flush=True)
        self.tokenizer = self._tokenizer(corpus)
        codes = choose_codes(self._tokens_of, vocabulary.CODE_COUNT)
        self.source, self.held_out = (
            BatchSource(self.tokenizer, codes, corpus),
            HeldOutEvaluation(self.tokenizer, codes, corpus),
        )
        self.model, self.plain = self._model(), self._model()
        self.model.config._attn_implementation = "written_out"
        self.optimizers = Optimizers(self.model, options.learning_rate)
        self.counts = self._resumed()
        self.sitting = Sitting(options.minutes, self.counts.spent_s)
        self.code_losses: dict[str, list[float]] = {"lookup": [], "matching": [], "task": []}
        if options.compile:  # one block, compiled once a shape, serves all layers
            for block in self.model.model.layers:
                block.compile(dynamic=False)

    def step(self) -> float:
        """Returns the gradient's norm."""
        share, counts = self.sitting.share, self.counts
        lesson = self._lesson(phase_at(share, self.rng))
        prompt_loss = PROMPT_LOSS if lesson.kind == "task" else 0.0
        made = batch(lesson.make, lesson.shape, self.rng, self.tokenizer.pad_token_id, prompt_loss)
        data = Batch(*(tensor.to(self.options.device) for tensor in made))
        loss, each = loss_of(self.model, *data[:-1])
        loss.backward()
        norm = self.optimizers.step(rate(share, counts.step, WARM_UP))
        self.code_losses[lesson.kind].append(float(each[data.looked_up].mean()))
        lookups = self.code_losses["lookup"]
        learned = len(lookups) > 20 and _mean(lookups) < LOOKUP_LOSS
        self.counts = counts._replace(
            step=counts.step + 1,
            tokens=counts.tokens + data.ids_BT.numel(),
            practising=counts.practising and share < LOOKUP_UNTIL and not learned,
        )
        return norm

    def _lesson(self, phase: Phase) -> LessonPlan:
        if self.counts.practising:
            return LessonPlan("lookup", LOOKUP, self.source.lookup)
        if self.rng.random() < phase.matching:
            return LessonPlan("matching", phase.shape, lambda rng: self.source.matching(rng, phase.draw))
        return LessonPlan("task", phase.shape, lambda rng: self.source.task(rng, phase.draw))

    def line(self, norm: float) -> str:
        counts = self.counts
        codes = " ".join(f"{kind} {_mean(losses):.3f}" for kind, losses in self.code_losses.items() if losses)
        return (
            f"{self.sitting.share:.3f} step {counts.step} {counts.tokens / 1e6:.2f} M tokens "
            f"{self.sitting.seconds:.0f} s codes {codes} norm {norm:.2f}"
        )

    def measured(self, questions: int) -> str:
        self.plain.load_state_dict(self.model.state_dict())
        counts = {
            "step": self.counts.step,
            "tokens": self.counts.tokens,
            "share": round(self.sitting.share, 3),
        }
        return json.dumps(counts | self.held_out.measure(self.plain, questions))

    def save(self) -> None:
        counts = self.counts._replace(spent_s=self.sitting.seconds)._asdict()
        state = {"optimizers": self.optimizers.state(), "rng": self.rng.getstate(), "counts": counts}
        with whole(self.out / "checkpoint.pt") as sink:
            torch.save(state, sink)

    def publish(self) -> None:
        self.plain.load_state_dict(self.model.state_dict())
        self.plain.save_pretrained(self.out)

    def _tokenizer(self, corpus: real.Corpus | None) -> PreTrainedTokenizerFast:
        known = next(
            (f for f in (self.out, self.options.start) if f and (f / "tokenizer.json").exists()), None
        )
        tokenizer = (
            PreTrainedTokenizerFast.from_pretrained(known) if known else vocabulary.build(self.out, corpus)
        )
        tokenizer.save_pretrained(self.out)
        return tokenizer

    def _tokens_of(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _model(self) -> Qwen3ForCausalLM:
        model = Qwen3ForCausalLM(config(self.options.width, self.options.layers))
        return model.to(self.options.device, torch.bfloat16)

    def _resumed(self) -> TokenCounts:
        checkpoint = self.out / "checkpoint.pt"
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=False)
            self.optimizers.load(saved["optimizers"])
            self.rng.setstate(saved["rng"])
            print(f"resumed at step {saved['counts']['step']}", flush=True)
            return TokenCounts(**saved["counts"])
        if self.options.start:
            self.optimizers.start_from(
                Qwen3ForCausalLM.from_pretrained(self.options.start, dtype=torch.bfloat16)
            )
        skipped_s = 60 * self.options.minutes * self.options.begin
        return TokenCounts(practising=not self.options.start, spent_s=skipped_s)


def train(options: argparse.Namespace) -> None:
    run = TrainingRun(options)
    saved_at = measured_at = printed_at = time.monotonic()
    while run.sitting.share < 1:
        norm = run.step()
        now = time.monotonic()
        if now - printed_at > 30:
            print(run.line(norm), flush=True)
            printed_at = now
        if now - measured_at > options.measure_every * 60 and not run.counts.practising:
            print(run.measured(options.measure_size), flush=True)
            measured_at = time.monotonic()
        if now - saved_at > 240:
            run.save()
            saved_at = now
    run.save()
    run.publish()
    print(run.measured(4 * options.measure_size), flush=True)


def _mean(losses: list[float]) -> float:
    """Of the last twenty; nan before the first."""
    recent = losses[-20:]
    return sum(recent) / len(recent) if recent else math.nan


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the starter model from nothing.")
    parser.add_argument(
        "--out", type=Path, required=True, help="tokenizer, weights and checkpoint; resumes from there"
    )
    parser.add_argument("--corpus", type=Path, help="folder with utterances.jsonl.gz and dialogues.jsonl.gz")
    parser.add_argument(
        "--minutes", type=float, default=120, help="training time; phases and learning rate follow it"
    )
    parser.add_argument("--start", type=Path, help="folder of a starter to go on from; skips lookup practice")
    parser.add_argument(
        "--begin",
        type=float,
        default=0.0,
        help="share of the time to begin at, 0..1; for going on with a starter",
    )
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--measure-every", type=float, default=12, help="minutes between measurements on held-out problems"
    )
    parser.add_argument("--measure-size", type=int, default=40, help="questions per part of one")
    return parser


def main() -> None:
    train(parser().parse_args())


if __name__ == "__main__":
    main()
