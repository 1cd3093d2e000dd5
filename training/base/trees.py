"""Training rows: one schema, several conversations under it, and one or two answers to each, as a tree.

The schema's tokens (the prefix) stand once. A conversation sees the prefix; each of its answers sees prefix and
conversation, at the positions that it would have alone, so a row trains exactly what separate sequences would. An
answer at once costs five tokens beside one with its reasons, and is the same choice once more.

Letters: T tokens, N targets.
"""

import random
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evaluation.contract.render import (
    ANSWER_MARK,
    FAST_PREFIX,
    ChatMessage,
    Prompt,
    condition_text,
    render,
    render_schema,
)
from evaluation.contract.schema import CategorySchema
from training.base.answers import CHOICE, reasoned
from training.generation.prefix.trees import visible
from training.starter.problems import DecisionProblem, ProblemExample
from training.teachers.privileged import Hint, HintKind, with_hint

_OPENING = 3  # tokens of a quoted condition after which the rest is copying
MAX_CONVERSATION = 360  # tokens; a longer one is left out of training


class AnswerKind(IntEnum):
    """What a target token is: the losses are weighted by it."""

    copied = 0  # the form, the rest of a quoted condition, the code that the answer repeats
    quoted = 1  # the customer's deciding words
    opening = 2  # the first tokens of the condition that decides
    chosen = 3  # the code, chosen after the quotation
    at_once = 4  # the code, chosen without a word before it


class TreeAnswer(NamedTuple):
    """tokens follow the conversation. targets: aligned with tokens; None where a token is given and not learned."""

    tokens: list[int]
    targets: list[AnswerKind | None]


class Branch(NamedTuple):
    conversation: list[int]
    answers: list[TreeAnswer]


class AnswerTree(NamedTuple):
    prefix: list[int]
    suffixes: list[Branch]


class Mix(NamedTuple):
    """Chances. reasons: of an answer with its reasons beside the one at once. hints: of a conversation with a hint."""

    reasons: float
    hints: float


class TreeRow(NamedTuple):
    """One tree laid out. spans: begin and end of the prefix, then of every suffix."""

    ids_T: Tensor
    positions_T: Tensor
    spans: list[tuple[int, int]]
    masks: list[Tensor]  # of every suffix over itself: True where a token may look
    where_N: Tensor  # positions whose next token is learned
    targets_N: Tensor
    kinds_N: Tensor

    @property
    def tokens(self) -> int:
        return len(self.ids_T)


class Planter:
    """Makes trees of problems, with the codes drawn anew for every tree."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, codes: tuple[str, ...]):
        self.tokenizer, self.codes = tokenizer, codes
        self.end = tokenizer.eos_token
        self._chosen_after = self._ids(CHOICE)[-1]

    def tree(self, problem: DecisionProblem, rng: random.Random, mix: Mix) -> AnswerTree:
        codes = self._draw_codes(len(problem.schema.answers), rng)
        prefix = self.bare(problem.schema, codes).prefix
        suffixes = [self._branch(example, problem.schema, codes, rng, mix) for example in problem.examples]
        return AnswerTree(prefix, [b for b in suffixes if len(b.conversation) <= MAX_CONVERSATION])

    def bare(self, schema: CategorySchema, codes: tuple[str, ...]) -> AnswerTree:
        """A schema that nothing has been asked of yet."""
        return AnswerTree(
            self._ids(self._turn({"role": "system", "content": render_schema(schema, codes)})), []
        )

    def asked(self, schema: CategorySchema, example: ProblemExample, codes: tuple[str, ...]) -> Prompt:
        return render(schema, example.conversation, codes)

    def code_id(self, code: str) -> int:
        return self._ids(f"{FAST_PREFIX} {code}")[-1]

    def at_once(self, code: str) -> TreeAnswer:
        prefix = self._ids(FAST_PREFIX)
        whole = self._ids(f"{FAST_PREFIX} {code}{self.end}")
        kinds: list[AnswerKind | None] = (
            [None] * len(prefix) + [AnswerKind.at_once] + [AnswerKind.copied] * (len(whole) - len(prefix) - 1)
        )
        return TreeAnswer(whole, kinds)

    def with_reasons(
        self, example: ProblemExample, schema: CategorySchema, codes: tuple[str, ...]
    ) -> TreeAnswer:
        tokens = self._ids(reasoned(example, schema, codes) + self.end)
        kinds: list[AnswerKind | None] = [AnswerKind.copied] * len(tokens)
        chosen = next(i for i in range(1, len(tokens)) if tokens[i - 1] == self._chosen_after)
        for i in range(chosen):
            kinds[i] = AnswerKind.quoted
        kinds[chosen] = AnswerKind.chosen
        for i in range(chosen + 2, min(chosen + 2 + _OPENING, len(tokens))):
            kinds[i] = AnswerKind.opening
        return TreeAnswer(tokens, kinds)

    def conversation(self, messages: list[ChatMessage]) -> list[int]:
        return self._ids(self._turn(messages[-1]) + "<|im_start|>assistant\n")

    def _branch(
        self,
        example: ProblemExample,
        schema: CategorySchema,
        codes: tuple[str, ...],
        rng: random.Random,
        mix: Mix,
    ) -> Branch:
        prompt = render(schema, example.conversation, codes)
        code = codes[schema.answers.index(example.verdict.key)]
        hinted = rng.random() < mix.hints
        messages = with_hint(prompt, self._hint(example, prompt, code, rng)) if hinted else prompt.messages
        answers = [self.at_once(code)]
        if hinted or rng.random() < mix.reasons:
            answers.append(self.with_reasons(example, schema, codes))
        return Branch(self.conversation(messages), answers)

    def _hint(self, example: ProblemExample, prompt: Prompt, code: str, rng: random.Random) -> Hint:
        kind = rng.choice((HintKind.answer, HintKind.criterion, HintKind.demonstration))
        condition = condition_text(example.verdict.decider)
        shown = f'The customer says "{example.quotes[0]}".{CHOICE} {code} "{condition}".{ANSWER_MARK} {code}'
        return Hint(kind, code, condition, shown)

    def _draw_codes(self, count: int, rng: random.Random) -> tuple[str, ...]:
        """Serving uses the first codes; training mostly draws from the alphabet, sometimes from the whole pool."""
        pool = self.codes if count > 24 or rng.random() < 0.2 else self.codes[:26]
        return tuple(rng.sample(pool, count)) if rng.random() < 0.7 else self.codes[:count]

    def _turn(self, message: ChatMessage) -> str:
        return f"<|im_start|>{message['role']}\n{message['content']}{self.end}\n"

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def lay_out(tree: AnswerTree, room: int) -> TreeRow:
    """room: the most tokens; suffixes that do not fit are left out."""
    ids, positions = list(tree.prefix), list(range(len(tree.prefix)))
    spans, masks = [(0, len(ids))], []
    learned: list[tuple[int, int, int]] = []
    for suffix in tree.suffixes:
        size = len(suffix.conversation) + sum(len(answer.tokens) for answer in suffix.answers)
        if len(ids) + size > room:
            continue
        begin, talk = len(ids), len(suffix.conversation)
        ids += suffix.conversation
        positions += range(len(tree.prefix), len(tree.prefix) + talk)
        owner = [0] * talk
        for number, answer in enumerate(suffix.answers, start=1):
            at = len(ids)
            for i, (token, kind) in enumerate(zip(answer.tokens, answer.targets, strict=True)):
                if kind is not None:
                    learned.append((at + i - 1 if i else begin + talk - 1, token, int(kind)))
            ids += answer.tokens
            positions += range(len(tree.prefix) + talk, len(tree.prefix) + talk + len(answer.tokens))
            owner += [number] * len(answer.tokens)
        spans.append((begin, len(ids)))
        masks.append(visible(torch.tensor(owner), shared=0))
    where, targets, kinds = (
        torch.tensor(learned).unbind(1) if learned else [torch.zeros(0, dtype=torch.long)] * 3
    )
    return TreeRow(torch.tensor(ids), torch.tensor(positions), spans, masks, where, targets, kinds)
