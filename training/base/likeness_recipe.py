"""Train the sentence encoder beside the base: `python -m training.base.likeness_recipe --out DIR --minutes 60`.

From the same written businesses and utterances as the base, an encoder of 110 M parameters learns which of a schema's
definitions and includes a conversation is about, what an exclude takes away, and when none. The same command goes on
from DIR's checkpoint. Left out: names, yes or no questions, the generated world.
"""

import argparse
import json
import random
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.base import businesses, package
from training.base.adapter import write_tensors
from training.base.businesses import FOR_GATES
from training.base.lessons import PHASES
from training.base.likeness import LikenessNetwork, add_gradient, gold, optimizer_of, take_step
from training.sittings import Every, Sitting, rate, read_state, write_state
from training.starter import corpus as utterances
from training.starter.problems import DecisionProblem

WARM_UP = 20  # steps
DECISIVE_RATE = 0.01  # of the few parameters beside the factors
EXAMPLES = 26  # conversations under a schema
LINE_S, CHECKPOINT_S, HELD_OUT_S = 60, 180, 900


class DrawnShares(NamedTuple):
    """How often a problem is of which source."""

    corpus: float = 0.25
    business: float = 0.30
    further: float = 0.45


class LikenessCounts(NamedTuple):
    """Where a training stands; spent_s is the time used in earlier sittings."""

    step: int = 0
    conversations: int = 0
    spent_s: float = 0.0


class LikenessTraining:
    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(options.seed)
        self.options, self.out, self.rng = options, options.out, random.Random(options.seed)
        self.corpus = utterances.load(options.corpus) if options.corpus else None
        if self.corpus is None:
            print("no --corpus: businesses alone", flush=True)
        shops = businesses.load()
        self.shops, self.further = businesses.for_training(shops), list(businesses.load_further().values())
        begin = options.begin
        self.network = LikenessNetwork(options.rank) if begin is None else LikenessNetwork.trained(begin)
        self.optimizer = optimizer_of(self.network)
        self.held_out = held_out(self.corpus)
        self.counts = self._resumed()
        self.sitting = Sitting(options.minutes, self.counts.spent_s)
        self.right: deque[float] = deque(maxlen=100)

    def step(self) -> None:
        """Raises: FloatingPointError before the weights are touched."""
        asked = 0
        for _ in range(self.options.problems):
            problem = self._problem()
            conversations = [one.conversation for one in problem.examples]
            rights = add_gradient(self.network, problem.schema, conversations, 1 / self.options.problems)
            self.right.append(rights / len(conversations))
            asked += len(conversations)
        falling = rate(self.sitting.share, self.counts.step, WARM_UP)
        rates = self.options.learning_rate * falling, DECISIVE_RATE * falling
        if not take_step(self.network, self.optimizer, rates):
            raise FloatingPointError(f"the gradient of step {self.counts.step} is not finite")
        self.counts = self.counts._replace(
            step=self.counts.step + 1, conversations=self.counts.conversations + asked
        )

    def line(self) -> str:
        scalars = " ".join(f"{name} {one.item():.2f}" for name, one in self.network.scalars.items())
        sitting, counts = self.sitting, self.counts
        return (
            f"{sitting.share:.3f} step {counts.step} {counts.conversations} conversations {sitting.seconds:.0f} s "
            f"right {sum(self.right) / len(self.right):.3f} {scalars}"
        )

    @torch.inference_mode()
    def measured(self) -> str:
        """Shares of right answers, 0..1, and n."""
        found: dict[str, list[bool]] = {}
        for name, problem in self.held_out:
            conversations = [one.conversation for one in problem.examples]
            chosen = self.network(problem.schema, conversations).argmax(1)
            rights = (chosen == gold(problem.schema, conversations)).tolist()
            for one, right in zip(conversations, rights, strict=True):
                found.setdefault(name, []).append(right)
                if one.category is None:
                    found.setdefault(f"{name}_none", []).append(right)
        shown = {name: [round(sum(each) / len(each), 3), len(each)] for name, each in found.items()}
        return json.dumps(self.counts._replace(spent_s=round(self.sitting.seconds))._asdict() | shown)

    def save(self) -> None:
        """Each file is whole, and the counts come last."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.network.save(self.out / package.TRAINED_LIKENESS)
        write_tensors(self.out / "state.safetensors", self._tensors())
        write_state(self.out, self.counts._replace(spent_s=self.sitting.seconds)._asdict(), self.rng)

    def _tensors(self) -> dict[str, Tensor]:
        """What is trained, and its moments."""
        named = {name: one for name, one in self.network.named_parameters() if one.requires_grad}
        found = {name: one.detach() for name, one in named.items()}
        for name, one in named.items():
            found |= {f"{name}/{which}": moment for which, moment in self.optimizer.state[one].items()}
        return found

    def _resumed(self) -> LikenessCounts:
        counts = read_state(self.out, self.rng)
        if counts is None:
            return LikenessCounts()
        saved = load_file(self.out / "state.safetensors")
        for name, one in self.network.named_parameters():
            if one.requires_grad:
                one.data.copy_(saved[name])
                moments = ("step", "exp_avg", "exp_avg_sq")
                if f"{name}/step" in saved:
                    self.optimizer.state[one] = {which: saved[f"{name}/{which}"] for which in moments}
        return LikenessCounts(**counts)

    def _problem(self) -> DecisionProblem:
        kind = self.rng.choices(DrawnShares._fields, DrawnShares())[0]
        if kind == "corpus" and self.corpus is not None:
            problem = utterances.sample_problem(self.corpus, self.rng, self.rng.randint(2, 20), EXAMPLES)
        else:
            drawn = self.further if kind == "further" else self.shops
            problem = businesses.sample_problem(drawn, self.rng, PHASES[-1].draw, EXAMPLES)
        return problem if len(problem.schema.answers) > 1 else self._problem()


def held_out(corpus: utterances.Corpus | None) -> list[tuple[str, DecisionProblem]]:
    """What no training sees: businesses kept for the bench, under their whole schemas, and intents."""
    shops = businesses.load()
    found = [("businesses", businesses.whole(shops[name])) for name in businesses.FOR_BENCH]
    rng = random.Random(5)
    if corpus is not None:
        found += [
            ("unseen_intents", utterances.sample_problem(corpus, rng, 5, 10, held=True)) for _ in range(30)
        ]
    return found


def train(options: argparse.Namespace) -> None:
    training = LikenessTraining(options)
    tell = Every(LINE_S, lambda: print(training.line(), flush=True))
    save = Every(CHECKPOINT_S, training.save)
    measure = Every(HELD_OUT_S, lambda: print(training.measured(), flush=True))
    while training.sitting.share < 1:
        training.step()
        tell()
        save()
        measure()
    training.save()
    print(training.measured(), flush=True)
    find_none_as_often(training.network, [businesses.whole(businesses.load()[name]) for name in FOR_GATES])
    training.network.save(training.out / package.TRAINED_LIKENESS)
    print("none of these found as often as the rest", training.measured(), flush=True)


@torch.inference_mode()
def find_none_as_often(network: LikenessNetwork, problems: Sequence[DecisionProblem]) -> None:
    """Moves the threshold of none of these to where it is found as often as any other answer.

    Cross entropy puts it where most answers are right: what is rare is then found less often than the rest.
    """
    margins: list[float] = []  # of none of these before the likeliest other, negative where it is behind
    is_none: list[bool] = []
    could_be_right: list[bool] = []
    for problem in problems:
        conversations = [one.conversation for one in problem.examples]
        shares, right = network(problem.schema, conversations), gold(problem.schema, conversations)
        others = shares[:, :-1].max(1)
        margins += (shares[:, -1] - others.values).tolist()
        is_none += (right == shares.size(1) - 1).tolist()
        could_be_right += (others.indices == right).tolist()

    def apart(threshold: float) -> float:
        found = [margin > threshold for margin, none in zip(margins, is_none, strict=True) if none]
        kept = [
            right and margin <= threshold
            for margin, none, right in zip(margins, is_none, could_be_right, strict=True)
            if not none
        ]
        return abs(sum(found) / len(found) - sum(kept) / len(kept))

    between = [(one + next_one) / 2 for one, next_one in pairwise(sorted(margins))]
    best = min(between, key=apart)
    network.scalars["none"].sub_(best / network.scalars["scale"].exp())


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the sentence encoder that is heard beside the base.")
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoint and what is trained; resumes from there"
    )
    parser.add_argument("--corpus", type=Path, help="folder with utterances.jsonl.gz and dialogues.jsonl.gz")
    parser.add_argument("--begin", type=Path, help="an encoder that was trained before, to go on from")
    parser.add_argument("--minutes", type=float, default=60, help="training time; the rate falls with it")
    parser.add_argument("--problems", type=int, default=2, help="schemas in a step")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    train(parser().parse_args())
