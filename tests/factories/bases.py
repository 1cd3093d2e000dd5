"""Folders with the tokenizer files of bases of several families, small: byte-level pieces and a few codes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

LETTERS = "ABCDEFGHIJ"


class Family(NamedTuple):
    """marks: special tokens. plain_marks: added ones that are not special, by the tokenizer's own word."""

    template: str | None
    eos: str | None
    marks: tuple[str, ...]
    plain_marks: tuple[str, ...] = ()
    normalizer: Any = None


_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = Family(_CHATML, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
REFUSES_SYSTEM = CHATML._replace(
    template="{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + _CHATML
)
DROPS_SYSTEM = CHATML._replace(template=_CHATML.replace("in messages", "in messages if m.role != 'system'"))
QWEN = CHATML._replace(
    template=(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n"
        "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    plain_marks=("<think>", "</think>", "<tool_call>", "<tool_response>"),
)
ALWAYS_THINKS = QWEN._replace(
    template=_CHATML.replace("assistant\n{%", "assistant\n<think>\n{%").replace(
        "{{ m.content }}", "{{ m.content }}"
    )
)
GEMMA = Family(
    template=(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    eos="<eos>",
    marks=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    plain_marks=("\n\n", "    ", "<table>"),
)
MISTRAL = Family(
    template=(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    ),
    eos="</s>",
    marks=("<s>", "</s>", "[INST]", "[/INST]"),
)
DEEPSEEK = Family(
    template=(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
        "<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
    ),
    eos="<｜end▁of▁sentence｜>",
    marks=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
)
# As OLMo's: the end of one may be the beginning of the next.
SHARED_ENDS = CHATML._replace(marks=(*CHATML.marks, "|||EMAIL|||", "|||PHONE|||", "#-#"))
# As Llama 2's: the model knows these marks, and its tokenizer has no tokens for them.
WRITTEN_MARKS = Family(
    template=(
        "{% if messages[0].role == 'system' %}{% set begun = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set begun = '' %}{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}"
        "{{ bos_token }}[INST] {% if loop.first %}{{ begun }}{% endif %}{{ m.content }} [/INST]"
        "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    eos="</s>",
    marks=("<s>", "</s>"),
)
NO_INSTRUCT = CHATML._replace(template=None)
ENDLESS = CHATML._replace(template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
                          "{% if add_generation_prompt %}assistant: {% endif %}", eos=None)  # fmt: skip
FOLDS_WIDTH = MISTRAL._replace(normalizer=normalizers.NFKC())
DROPS_ACCENTS = MISTRAL._replace(
    normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
)
WRITES_SPACES = MISTRAL._replace(marks=(*MISTRAL.marks, "▁<PRE>"), normalizer=normalizers.Replace(" ", "▁"))
ONE_CHARACTER = CHATML._replace(marks=(*CHATML.marks, "¤"))
TAKES_OUR_WORDS = CHATML._replace(marks=(*CHATML.marks, "<conversation>"))


def write_tokenizer(folder: Path, family: Family, letters: Sequence[str] = LETTERS) -> Path:
    """tokenizer.json, tokenizer_config.json and the template, as transformers writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"Ġ{letter}" for letter in letters)]
    tokenizer = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate(pieces)}, [("Ġ", letter) for letter in letters])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family.normalizer is not None:
        tokenizer.normalizer = family.normalizer
    normalized = family.normalizer is not None
    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=normalized) for m in family.marks])
    tokenizer.add_tokens([AddedToken(m, normalized=False) for m in family.plain_marks])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": family.eos,
        "pad_token": family.marks[0],
    }
    if any("bos_token" in part for part in (family.template or "",)):
        config["bos_token"] = next(
            mark for mark in family.marks if mark in ("<bos>", "<s>", "<｜begin▁of▁sentence｜>")
        )
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if family.template is not None:
        (folder / "chat_template.jinja").write_text(family.template)
    return folder
