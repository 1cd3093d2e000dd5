"""The starter's tokenizer: byte-level BPE of 4,096 pieces in which every answer code is one token."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evaluation.contract.render import ANSWER_MARK, candidate_codes, choose_codes, render
from training.starter import corpus as real
from training.starter import problems

VOCABULARY = 4096
CODE_COUNT = 101
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
    "{% if not (loop.last and continue_final_message is defined and continue_final_message) %}"
    "{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build(
    folder: Path, corpus: real.Corpus | None, count: int = 12_000, seed: int = 1
) -> PreTrainedTokenizerFast:
    """Train on the world (and the corpus, where there is one), save to `folder`.

    Raises: CodesError if a code came out as more than one token.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(corpus, count, seed), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, padding_side="left", model_max_length=4096
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    choose_codes(lambda text: core.encode(text, add_special_tokens=False).ids, CODE_COUNT)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _texts(corpus: real.Corpus | None, count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    codes = tuple(islice(candidate_codes(), CODE_COUNT))
    yield from (
        "\n".join(f'" = {code}{ANSWER_MARK} {code}\nsystem\nuser\nassistant\n' for code in codes)
        for _ in range(200)
    )
    for _ in range(count):
        problem = problems.sample_problem(rng, 4, 3, held=rng.random() < 0.2)
        for example in problem.examples:
            yield render(problem.schema, example.conversation, codes).messages[1]["content"]
            yield problems.reasoning(example, problem.schema, codes)
        yield "\n".join(
            m["content"] for m in render(problem.schema, problem.examples[0].conversation, codes).messages
        )
    if corpus is None:
        return
    for text in corpus.texts:
        yield f'customer: {text} "{text}"'
    for _ in range(count):
        problem = real.sample_problem(corpus, rng, 5, 2, held=rng.random() < 0.1)
        yield "\n".join(problems.reasoning(example, problem.schema, codes) for example in problem.examples)
        yield render(problem.schema, problem.examples[0].conversation, codes).messages[0]["content"]
