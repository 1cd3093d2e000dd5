"""Train the adapter of the base that ships: `python -m training.base.recipe --out DIR --minutes 100 [--corpus DIR]`.

A small pretrained instruct model reads English and cannot yet decide by written definitions; a low-rank adapter learns
that from businesses written for this project, from a corpus of utterances, and a little from the generated world. The
same command goes on from DIR's checkpoint, on any machine; on a new one from an adapter (`--start`), with a warm-up.
On a processor with bf16 in hardware, or on a GPU, what is read is bf16; the changes are always fp32.
Left out: dropout, losses on prompts, reinforcement, every weight that the package brought.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

from evaluation.contract.render import choose_codes
from evaluation.contract.schema import MAX_CATEGORIES
from training.base import adapter, businesses
from training.base.build import build
from training.base.held_out import HeldOutAccuracy
from training.base.lessons import Source, phase_at
from training.base.network import Network
from training.base.trees import AnswerKind, Planter, TreeRow, lay_out
from training.hardware import multiplies_in_bf16
from training.sittings import Every, Sitting, rate, read_state, write_state
from training.starter import corpus as utterances

WEIGHTS = {
    AnswerKind.copied: 0.15,
    AnswerKind.quoted: 0.5,
    AnswerKind.opening: 0.3,
    AnswerKind.chosen: 1.0,
    AnswerKind.at_once: 1.0,
}
WARM_UP = 10  # steps, from the start and after every restart
LINE_S, CHECKPOINT_S, HELD_OUT_S = 30, 180, 1500


class BaseTokenCounts(NamedTuple):
    """Where a training stands; spent_s is the time used in earlier sittings."""

    step: int = 0
    tokens: int = 0
    choices: int = 0
    spent_s: float = 0.0


class BaseTrainingRun:
    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(options.seed)
        self.options, self.out = options, options.out
        self.rng = random.Random(options.seed)
        tokenizer = AutoTokenizer.from_pretrained(options.base)
        codes = choose_codes(
            lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]), MAX_CATEGORIES + 1
        )
        corpus = utterances.load(options.corpus) if options.corpus else None
        if corpus is None:
            print("no --corpus: businesses and the world alone", flush=True)
        shops = businesses.load()
        further = list(businesses.load_further().values())
        self.source = Source(businesses.for_training(shops), further, corpus)
        self.planter = Planter(tokenizer, codes)
        self.held_out = HeldOutAccuracy(self.planter, shops, corpus)
        self.network = self._network()
        self.optimizer = torch.optim.AdamW(
            self.network.changes.parameters(),
            lr=options.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        )
        self.counts = self._resumed()
        self.restarted_at = self.counts.step
        self.network.merge()
        self.sitting = Sitting(options.minutes, self.counts.spent_s)
        self.seen: dict[AnswerKind, list[float]] = defaultdict(list)

    def step(self) -> float:
        """Returns the gradient's norm. Raises: FloatingPointError before the weights are touched."""
        rows = self._rows()
        totals = {kind: sum(int((row.kinds_N == kind).sum()) for row in rows) for kind in AnswerKind}
        for row in rows:
            self._losses(row, totals).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.changes.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient of step {self.counts.step} is not finite")
        falling = rate(self.sitting.share, self.counts.step - self.restarted_at, WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * falling
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.network.merge()
        self.counts = self.counts._replace(
            step=self.counts.step + 1,
            tokens=self.counts.tokens + sum(row.tokens for row in rows),
            choices=self.counts.choices + totals[AnswerKind.chosen] + totals[AnswerKind.at_once],
        )
        return float(norm)

    def _rows(self) -> list[TreeRow]:
        phase = phase_at(self.sitting.share)
        rows: list[TreeRow] = []
        while len(rows) < phase.trees * self.options.trees:
            tree = self.planter.tree(self.source.problem(phase, self.rng), self.rng, phase.mix)
            row = lay_out(tree, phase.room)
            if len(row.spans) > 2:
                rows.append(row)
        return rows

    def _losses(self, row: TreeRow, totals: dict[AnswerKind, int]) -> Tensor:
        """Every kind of target counts by its own mean over the step, so long quotations do not drown the choices."""
        logits = self.network(row)
        targets, kinds = row.targets_N.to(logits.device), row.kinds_N.to(logits.device)
        each = F.cross_entropy(logits, targets, reduction="none")
        loss = logits.new_zeros(())
        for kind, weight in WEIGHTS.items():
            of_kind = kinds == kind
            if of_kind.any():
                loss = loss + weight * each[of_kind].sum() / totals[kind]
                right = logits[of_kind].argmax(-1) == targets[of_kind]
                self.seen[kind] += right.float().tolist()
        return loss

    def line(self, norm: float) -> str:
        shares = " ".join(
            f"{kind.name} {_mean(self.seen[kind][-400:]):.3f}" for kind in AnswerKind if self.seen[kind]
        )
        counts = self.counts
        return (
            f"{self.sitting.share:.3f} step {counts.step} {counts.tokens / 1e6:.3f} M tokens {counts.choices} choices "
            f"{self.sitting.seconds:.0f} s {shares} norm {norm:.2f}"
        )

    def measured(self) -> str:
        counts = self.counts._replace(spent_s=round(self.sitting.seconds))._asdict()
        return json.dumps(counts | self.held_out.measure(self.network))

    def save(self) -> None:
        """Adapter, moments and counts; each file is whole, and the counts come last."""
        self.out.mkdir(parents=True, exist_ok=True)
        factors = dict(self.network.changes.named_parameters())
        moments = {
            f"{name}.{which}": self.optimizer.state[parameter][which]
            for name, parameter in factors.items()
            for which in ("exp_avg", "exp_avg_sq")
            if parameter in self.optimizer.state
        }
        adapter.write_tensors(self.out / "factors.safetensors", {n: p.detach() for n, p in factors.items()})
        adapter.write_tensors(self.out / "moments.safetensors", moments)
        adapter.save(self.network, self.out / "adapter", self.options.rank, self.options.alpha)
        write_state(self.out, self.counts._replace(spent_s=self.sitting.seconds)._asdict(), self.rng)

    def _network(self) -> Network:
        on_gpu = torch.cuda.is_available()
        base = LlamaForCausalLM.from_pretrained(self.options.base, dtype=torch.float32)
        network = Network(
            base.to("cuda" if on_gpu else "cpu"),
            self.options.rank,
            self.options.alpha,
            torch.bfloat16 if multiplies_in_bf16() else torch.float32,
        )
        return network.to("cuda") if on_gpu else network

    def _resumed(self) -> BaseTokenCounts:
        state = read_state(self.out, self.rng)
        if state is None:
            if self.options.start:
                adapter.load_into(self.network, self.options.start)
            return BaseTokenCounts(spent_s=60 * self.options.minutes * self.options.begin)
        counts = BaseTokenCounts(**state)
        saved, moments = (
            load_file(self.out / "factors.safetensors"),
            load_file(self.out / "moments.safetensors"),
        )
        for name, parameter in self.network.changes.named_parameters():
            parameter.data.copy_(saved[name])
            if f"{name}.exp_avg" in moments:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(counts.step)),
                    "exp_avg": moments[f"{name}.exp_avg"].to(parameter.device),
                    "exp_avg_sq": moments[f"{name}.exp_avg_sq"].to(parameter.device),
                }
        return counts


def train(options: argparse.Namespace) -> None:
    run = BaseTrainingRun(options)
    norm = 0.0
    tell = Every(LINE_S, lambda: print(run.line(norm), flush=True))
    save = Every(CHECKPOINT_S, run.save)
    measure = Every(HELD_OUT_S, lambda: print(run.measured(), flush=True))
    while run.sitting.share < 1:
        norm = run.step()
        tell()
        save()
        measure()
    run.save()
    print(run.measured(), flush=True)


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the adapter of the base that ships.")
    parser.add_argument(
        "--base", type=Path, help="folder of the package's model; without it OUT/base is built"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint and adapter; resumes from there")
    parser.add_argument("--corpus", type=Path, help="folder with utterances.jsonl.gz and dialogues.jsonl.gz")
    parser.add_argument("--minutes", type=float, default=100, help="training time; phases and rate follow it")
    parser.add_argument("--start", type=Path, help="folder of an adapter to go on from")
    parser.add_argument(
        "--begin", type=float, default=0.0, help="share of the time to begin at, 0..1, with --start"
    )
    parser.add_argument(
        "--trees", type=int, default=1, help="multiple of the trees in a step; 4 on a large GPU"
    )
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--alpha", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.base is None:
        options.base = options.out / "base"
        if not options.base.is_dir():
            build(options.base.absolute(), with_adapter=False)
    train(options)


if __name__ == "__main__":
    main()
