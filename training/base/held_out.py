"""Progress of the base while it is trained: what it chooses under schemas that it has never seen.

Nothing is written out: the code is read where it must come, at once and behind the right quotation. The published
figures come from `steerwise bench base`, through vLLM; these only steer the training.
"""

import random
from collections import defaultdict
from typing import NamedTuple

import torch

from training.base import businesses
from training.base.businesses import Business
from training.base.network import Network
from training.base.trees import AnswerKind, AnswerTree, Branch, Planter, lay_out
from training.starter import corpus as utterances
from training.starter.problems import DecisionProblem, ProblemExample

_ROOM = 2600


class HeldOutProblems(NamedTuple):
    name: str
    problems: list[DecisionProblem]


class HeldOutAccuracy:
    def __init__(self, planter: Planter, shops: dict[str, Business], corpus: utterances.Corpus | None):
        self.planter = planter
        self.parts = [
            HeldOutProblems(
                "businesses", [businesses.whole(shops[name], 10) for name in businesses.FOR_BENCH]
            )
        ]
        if corpus is not None:
            rng = random.Random(5)
            held = [utterances.sample_problem(corpus, rng, 5, 8, held=True) for _ in range(12)]
            self.parts.append(HeldOutProblems("unseen_intents", held))

    @torch.inference_mode()
    def measure(self, network: Network) -> dict[str, float]:
        """Shares of right codes, 0..1: of every paper, at once and behind the right quotation."""
        shares: dict[str, float] = {}
        for part in self.parts:
            right: dict[str, list[bool]] = defaultdict(list)
            for problem in part.problems:
                for kind, one in self._answers(network, problem):
                    right[kind.name].append(one)
            for kind_name, all_of in right.items():
                shares[f"{part.name}_{kind_name}"] = round(sum(all_of) / len(all_of), 3)
        return shares

    def _answers(self, network: Network, problem: DecisionProblem) -> list[tuple[AnswerKind, bool]]:
        codes = self.planter.codes[: len(problem.schema.answers)]
        row = lay_out(self._tree(problem, codes), _ROOM)
        ids = torch.tensor([self.planter.code_id(code) for code in codes])
        logits = network(row).cpu()
        chosen = ids[logits[:, ids].argmax(-1)]
        return [
            (AnswerKind(int(kind)), bool(one == target))
            for kind, one, target in zip(row.kinds_N, chosen, row.targets_N, strict=True)
            if kind in (AnswerKind.chosen, AnswerKind.at_once)
        ]

    def _tree(self, problem: DecisionProblem, codes: tuple[str, ...]) -> AnswerTree:
        tree = self.planter.bare(problem.schema, codes)
        for example in problem.examples:
            tree.suffixes.append(self._branch(example, problem, codes))
        return tree

    def _branch(self, example: ProblemExample, problem: DecisionProblem, codes: tuple[str, ...]) -> Branch:
        conversation = self.planter.conversation(self.planter.asked(problem.schema, example, codes).messages)
        code = codes[problem.schema.answers.index(example.verdict.key)]
        answers = [self.planter.at_once(code), self.planter.with_reasons(example, problem.schema, codes)]
        return Branch(conversation, answers)
