"""Training rows: one schema and several conversations under it, as a tree.

The schema's tokens (the prefix) stand once; each conversation with its answer is a suffix that sees the prefix and
itself, at the positions it would have alone. A row therefore trains exactly what separate sequences would, and the
schema is paid for once. Letters: B rows, T tokens.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from evaluation.contract.render import INSTRUCTION, ChatMessage, Prompt, condition_text, render
from training.generation.prefix.trees import visible
from training.starter import corpus as real
from training.starter import problems
from training.starter.tokenizer import END, START
from training.teachers.privileged import Hint, HintKind, with_hint

_SHARED = -1
_LARGEST_GAP = 200
# Added to the weight of single tokens, as a share of the whole loss. Looked-up codes are one token in fifty of what is
# learned and the one that everything hangs on; and a quoted condition is copied to its end once its first words are.
CODE_LOSS, OPENING_LOSS = 0.5, 0.2
_OPENING = 3  # tokens


class Shape(NamedTuple):
    rows: int
    tokens: int


class Draw(NamedTuple):
    """What problems are drawn. sizes: least and most categories; the others are chances, 0..1."""

    sizes: tuple[int, int]
    corpus_share: float
    conditions: float
    hints: float = 0.0


class Suffix(NamedTuple):
    prompt: list[int]
    completion: list[int]
    codes: tuple[int, ...]  # places in the completion where a code had to be looked up
    openings: frozenset[int] = frozenset()  # and where the quotation of its condition begins
    gap: int = 0  # positions left free after the prefix, as if a conversation stood there


class Tree(NamedTuple):
    prefix: list[int]
    suffixes: list[Suffix]


class Batch(NamedTuple):
    ids_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor  # additive
    where: Tensor  # flat positions whose next token counts
    targets: Tensor
    weights: Tensor  # 1 over all completions, plus the shares of looked-up codes, of openings and of prompts
    looked_up: Tensor  # bool, at the same places


def collate(trees: list[Tree], shape: Shape, pad: int, prompt_loss: float, rng: random.Random) -> Batch:
    """Suffixes that do not fit are dropped. Exactly half of the B*T positions are predicted, so shapes are static."""
    size = (shape.rows, shape.tokens)
    ids, positions = torch.full(size, pad), torch.zeros(size, dtype=torch.long)
    owner = torch.full(size, -2)
    learned: list[tuple[int, int]] = []
    codes: list[bool] = []
    openings: list[bool] = []
    seen: list[tuple[int, int]] = []
    for row, tree in enumerate(trees):
        at = len(tree.prefix)
        ids[row, :at] = torch.tensor(tree.prefix)
        positions[row, :at] = torch.arange(at)
        owner[row, :at] = _SHARED
        seen += [(row * shape.tokens + i, tree.prefix[i + 1]) for i in range(at - 1)]
        for number, suffix in enumerate(tree.suffixes):
            tokens = suffix.prompt + suffix.completion
            if at + len(tokens) > shape.tokens:
                break
            end = at + len(tokens)
            ids[row, at:end] = torch.tensor(tokens)
            begin = len(tree.prefix) + suffix.gap
            positions[row, at:end] = torch.arange(begin, begin + len(tokens))
            owner[row, at:end] = number
            for i in range(len(tokens) - 1):
                place = (row * shape.tokens + at + i, tokens[i + 1])
                if i + 1 < len(suffix.prompt):
                    seen.append(place)
                else:
                    learned.append(place)
                    codes.append(i + 1 - len(suffix.prompt) in suffix.codes)
                    openings.append(i + 1 - len(suffix.prompt) in suffix.openings)
            at = end
    room = shape.rows * shape.tokens // 2
    learned = learned[:room]
    extra = rng.sample(seen, min(len(seen), room - len(learned)))
    chosen = learned + extra + [(0, pad)] * (room - len(learned) - len(extra))
    weights = torch.zeros(room)
    weights[: len(learned)] = 1 / max(1, len(learned))
    weights[len(learned) : len(learned) + len(extra)] = prompt_loss / max(1, len(extra))
    looked_up = _flags(codes, room)
    for flags, loss in ((looked_up, CODE_LOSS), (_flags(openings, room), OPENING_LOSS)):
        weights[flags] += loss / max(1, int(flags.sum()))
    where, targets = torch.tensor(chosen).unbind(1)
    return Batch(ids, positions, _mask(owner), where, targets, weights, looked_up)


def _flags(known: list[bool], room: int) -> Tensor:
    flags = torch.zeros(room, dtype=torch.bool)
    flags[: len(known)] = torch.tensor(known[:room], dtype=torch.bool)
    return flags


def _mask(owner_BT: Tensor) -> Tensor:
    return torch.where(visible(owner_BT, _SHARED), 0.0, -1e4).to(torch.bfloat16)[:, None]


class BatchSource:
    """Trees for every phase of the recipe, from the world and, where it is there, the corpus."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, codes: tuple[str, ...], corpus: real.Corpus | None
    ):
        self.tokenizer, self.codes, self.corpus = tokenizer, codes, corpus
        vocabulary = tokenizer.get_vocab()
        self._words = [
            i for piece, i in sorted(vocabulary.items()) if piece[:1] == "Ġ" and piece[1:].isalpha()
        ]
        self._fits = self._ids(" fits")[0]
        self._code_ids = [self._ids(f" {code}")[0] for code in codes]

    def lookup(self, rng: random.Random) -> Tree:
        """The layout of the task in random words: lines with a code each, then some words of a line, then its code.

        Only the code counts: where whole lines had to be restored, codes were one target in ten and were still
        guessed after 1,100 steps.
        """
        known = self._words if rng.random() < 0.5 else self._words[:300]
        opening, mark, closing = self._ids("definition"), self._ids(' "'), self._ids('" =')
        fits = self._ids(". This fits")
        prefix = self._ids(f"{START}system\n{INSTRUCTION}\n\n") if rng.random() < 0.5 else []
        lines = [
            (rng.choices(known, k=rng.randint(2, 9)), code)
            for code in rng.sample(self._code_ids, rng.randint(2, 6))
        ]
        for words, code in lines:
            name = self._ids("name:") + rng.choices(known, k=rng.randint(1, 3)) + self._ids("\n")
            prefix += [
                *(name if rng.random() < 0.5 else ()),
                *opening,
                code,
                *mark,
                *words,
                *closing,
                code,
                *self._ids("\n"),
            ]
        suffixes = []
        for words, code in rng.choices(lines, k=40):
            said = rng.sample(words, max(2, int(0.7 * len(words))))
            gap = rng.randrange(_LARGEST_GAP)
            suffixes.append(Suffix([*said, *fits], [code], (0,), gap=gap))
        return Tree(prefix, suffixes)

    def matching(self, rng: random.Random, draw: Draw) -> Tree:
        """The deciding step alone: what the customer wants, in a few words, then the code of the condition that fits.

        A whole conversation teaches one such choice in eighty tokens; here one comes every dozen.
        """
        problem = self._problem(rng, draw, 30, jargon=0.0)
        codes = self._draw_codes(len(problem.schema.answers), rng)
        prefix = self._ids(_turn(render(problem.schema, problem.examples[0].conversation, codes).messages[0]))
        suffixes = []
        for example in problem.examples:
            text = problems.reasoning(example, problem.schema, codes)
            known, fits, rest = text[text.index("That means:") :].partition(" This fits")
            written = self._ids(fits + rest)
            decisions = self._decisions(written)
            written = written[: decisions[-1] + 2 + _OPENING]
            asked = self._ids(f"{START}assistant\n{known}")
            gap = rng.randrange(_LARGEST_GAP)
            suffixes.append(Suffix(asked, written, decisions, _openings(decisions), gap))
        return Tree(prefix, suffixes)

    def task(self, rng: random.Random, draw: Draw) -> Tree:
        hinted = rng.random() < draw.hints
        return self.tree(self._problem(rng, draw, 6, jargon=0.5 if hinted else 0.0), rng, hinted)

    def _problem(
        self, rng: random.Random, draw: Draw, examples: int, jargon: float
    ) -> problems.DecisionProblem:
        size = rng.randint(*draw.sizes)
        if self.corpus is not None and rng.random() < draw.corpus_share:
            return real.sample_problem(self.corpus, rng, size, examples)
        return problems.sample_problem(rng, size, examples, conditions=draw.conditions, jargon=jargon)

    def tree(self, problem: problems.DecisionProblem, rng: random.Random, hinted: bool) -> Tree:
        codes = self._draw_codes(len(problem.schema.answers), rng)
        suffixes, prefix = [], []
        for example in problem.examples:
            prompt = render(problem.schema, example.conversation, codes)
            answer = problems.reasoning(example, problem.schema, codes)
            messages = (
                with_hint(prompt, self._hint(example, prompt, answer, rng)) if hinted else prompt.messages
            )
            system, user = messages
            prefix = self._ids(_turn(system))
            asked, written = self._ids(_turn(user) + f"{START}assistant\n"), self._ids(answer + END)
            decisions = self._decisions(written)
            suffixes.append(Suffix(asked, written, decisions, _openings(decisions)))
        return Tree(prefix, suffixes)

    def _decisions(self, written: list[int]) -> tuple[int, ...]:
        """Where a code is chosen by what its condition says; the one in the answer only repeats it."""
        return tuple(i for i in range(1, len(written)) if written[i - 1] == self._fits)

    def _hint(
        self, example: problems.ProblemExample, prompt: Prompt, answer: str, rng: random.Random
    ) -> Hint:
        kind = rng.choice((HintKind.answer, HintKind.criterion, HintKind.demonstration))
        code = answer.rsplit(" ", 1)[1]
        return Hint(kind, code, condition_text(example.verdict.decider), answer)

    def _draw_codes(self, count: int, rng: random.Random) -> tuple[str, ...]:
        """Serving uses the first codes; training mostly draws from the alphabet, sometimes from the whole pool."""
        pool = self.codes if count > 24 or rng.random() < 0.3 else self.codes[:26]
        return tuple(rng.sample(pool, count))

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _openings(decisions: tuple[int, ...]) -> frozenset[int]:
    """The code, the quotation mark, and then the first tokens of the condition."""
    return frozenset(at + 2 + i for at in decisions for i in range(_OPENING))


def _turn(message: ChatMessage) -> str:
    return f"{START}{message['role']}\n{message['content']}{END}\n"


Make = Callable[[random.Random], Tree]


def batch(make: Make, shape: Shape, rng: random.Random, pad: int, prompt_loss: float) -> Batch:
    """Trees whose prefix leaves no room for a suffix are drawn again."""
    trees: list[Tree] = []
    while len(trees) < shape.rows:
        tree = make(rng)
        first = tree.suffixes[0]
        if len(tree.prefix) + len(first.prompt) + len(first.completion) <= shape.tokens:
            trees.append(tree)
    return collate(trees, shape, pad, prompt_loss, rng)
