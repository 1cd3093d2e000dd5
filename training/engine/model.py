"""The model a stage works on: a base, a trainable LoRA adapter, and the tokenizer that serving uses as well.

The adapter called `default` is the student everywhere. Other adapters (a reference, an EMA teacher) sit beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from evaluation.contract.chat import (
    TEMPLATE_ARGUMENTS,
    ChatForm,
    ChatTemplate,
    ControlToken,
    chat_form,
    check_control,
    control_tokens,
)
from evaluation.contract.render import ChatMessage, CodesError, choose_codes
from evaluation.contract.schema import MAX_CATEGORIES
from training.artifacts import StageFailed
from training.config import StageManifest
from training.engine import attention
from training.hardware import multiplies_in_bf16
from training.protocol import FailureCode
from training.settings import Learning, Lora, Precision, Tuning

STUDENT = "default"
POOL_SIZE = MAX_CATEGORIES + 1


class Loaded(NamedTuple):
    model: PeftModel
    tokenizer: PreTrainedTokenizerBase


def load(manifest: StageManifest, stage: Learning) -> Loaded:
    """The base with the student of the stage before, or with a fresh one that changes nothing yet."""
    tokenizer, model = load_tokenizer(manifest.base), load_base(manifest.base)
    set_seed(manifest.seed)
    if manifest.adapter is None:
        shape = _full(model) if stage.tuning is Tuning.full else _low_rank(stage.lora)
        return Loaded(_trainable(get_peft_model(model, shape)), tokenizer)
    student = _with_adapter(model, manifest.adapter, is_trainable=True)
    before = Tuning.full if is_full(student) else Tuning.lora
    if before is not stage.tuning:
        raise StageFailed(
            FailureCode.unfit_settings,
            f"the stage before was tuned as `{before}`, and its student cannot go on as `{stage.tuning}`; "
            f"set tuning to {before}",
        )
    return Loaded(_trainable(student), tokenizer)


def load_writer(
    base: str, adapter: Path | None, seed: int
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """A model that writes and is not trained."""
    tokenizer, model = load_tokenizer(base), load_base(base)
    set_seed(seed)
    return model if adapter is None else _with_adapter(model, adapter, is_trainable=False), tokenizer


def _with_adapter(model: PreTrainedModel, adapter: Path, is_trainable: bool) -> PeftModel:
    if not (adapter / "adapter_config.json").is_file():
        raise StageFailed(
            FailureCode.adapter_not_found,
            f"no adapter at {adapter}; give the adapter/ directory that the stage before wrote",
        )
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=is_trainable)


def _low_rank(lora: Lora) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _full(model: PreTrainedModel) -> LoraConfig:
    """An adapter without low-rank matrices that holds a copy of every weight: the base stays whole beside it."""
    with_weights = {name.rpartition(".")[2] for name, module in model.named_modules() if module._parameters}
    return LoraConfig(
        target_modules=DUMMY_TARGET_MODULES,
        modules_to_save=sorted(with_weights),
        ensure_weight_tying=bool(model.config.get_text_config().tie_word_embeddings),
        task_type="CAUSAL_LM",
    )


def is_full(model: PeftModel) -> bool:
    return model.peft_config[STUDENT].target_modules == DUMMY_TARGET_MODULES


def _trainable(model: PeftModel) -> PeftModel:
    """What is trained is fp32 whatever the base is: small steps round to nothing in bf16."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def export(loaded: Loaded, folder: Path) -> None:
    """The student as a model of its own, in the base's precision. The model cannot be trained on."""
    precision = loaded.model.dtype
    loaded.model.merge_and_unload().to(precision).save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def load_base(base: str) -> PreTrainedModel:
    """fp32 on CPU; bf16 on CUDA, where only the adapter is kept in fp32 (peft does that)."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, attn_implementation=attention.implementation()
        )
    except (OSError, ValueError) as error:
        raise _base_not_found(base, error) from error
    return model.to(device())


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, padding_side="left")
    except (OSError, ValueError) as error:
        raise _base_not_found(base, error) from error
    tokenizer.eos_token = form_of(tokenizer).end
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _base_not_found(base: str, error: Exception) -> StageFailed:
    return StageFailed(
        FailureCode.base_not_found,
        f"no usable base model at {base}; give a directory with config.json, tokenizer.json and "
        f"model.safetensors, or the name of a model in the local cache ({str(error)[:300]})",
    )


def backbone_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Without the head, with the adapter."""
    backbone: PreTrainedModel = whole_of(model).base_model
    return backbone


def whole_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """As transformers made it, with the adapter in its layers."""
    whole: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model
    return whole


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bf16(precision: Precision) -> bool:
    """auto: where the machine multiplies in bf16.

    With avx512_bf16 and 135 M parameters, in processor time of one thread over that in fp32: a LoRA step of 768 tokens
    0.68, reading 4 rows of 64 tokens 0.54, writing a token in each of 24 rows 0.63.
    """
    return multiplies_in_bf16() if precision is Precision.auto else precision is Precision.bf16


def code_pool(tokenizer: PreTrainedTokenizerBase, needed: int) -> tuple[str, ...]:
    """The codes that training draws from: as many as any schema may need, where the tokenizer has them."""

    def tokens_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    for count in sorted({POOL_SIZE, max(needed, len(ascii_uppercase))}, reverse=True):
        with suppress(CodesError):
            return choose_codes(tokens_of, count)
    try:
        return choose_codes(tokens_of, needed)
    except CodesError as error:
        raise StageFailed(FailureCode.no_single_token_codes, str(error)) from error


@lru_cache(maxsize=4)
def form_of(tokenizer: PreTrainedTokenizerBase) -> ChatForm:
    """Raises: StageFailed where the base cannot be asked as the contract asks."""
    added = tokenizer.added_tokens_decoder
    try:
        template = ChatTemplate(tokenizer.get_chat_template(), tokenizer.special_tokens_map)
        control = control_tokens([ControlToken(t.content, t.special) for t in added.values()], template)
        form = chat_form(template, control, tokenizer.eos_token)
        ids = {token.content: number for number, token in added.items()}
        check_control(form, lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"], ids)
    except ValueError as error:
        raise StageFailed(FailureCode.base_not_found, f"this base cannot be used: {error}") from error
    return form


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, messages: list[ChatMessage]) -> list[int]:
    """Exactly what the serving engine makes of the same messages."""
    rendered = tokenizer.apply_chat_template(
        [dict(message) for message in form_of(tokenizer).messages(messages)],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        **TEMPLATE_ARGUMENTS,
    )
    return list(rendered["input_ids"])


def completion_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The text and the end of the turn, as the model has to write it."""
    shown = form_of(tokenizer).broken_up(text)
    return [*tokenizer(shown, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def check_fits(model: PeftModel, prompt: int, answer: int, remedy: str) -> None:
    """prompt, answer: tokens. Nothing is ever cut: a cut takes the schema or the label away without a word.

    Raises: StageFailed where the two together do not fit the model's context; `remedy` says what to do about it.
    """
    limit = int(model.config.get_text_config().max_position_embeddings)
    if prompt + answer > limit:
        raise StageFailed(
            FailureCode.prompt_too_long,
            f"a prompt of {prompt} tokens and {answer} for the answer do not fit the model's context of {limit}; "
            + remedy,
        )


@contextmanager
def merged(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Inside, the active adapter, where there is one, is part of the weights: sampling runs at the base's speed.

    The weights before are put back themselves, not computed back, so nothing drifts however often this is used.
    A base that is not fp32 is left as it is: adding an adapter to bf16 weights rounds most of it away.
    """
    kept: list[tuple[LoraLayer, torch.Tensor]] = []
    adapter = model.active_adapter if isinstance(model, PeftModel) else None
    try:
        for layer in model.modules():
            if isinstance(layer, LoraLayer) and adapter in layer.lora_A and not layer.disable_adapters:
                weight = layer.get_base_layer().weight
                if weight.dtype is not torch.float32:
                    continue
                kept.append((layer, weight.data))
                weight.data = weight.data + layer.get_delta_weight(adapter).detach()
                layer.merged_adapters.append(adapter)
        yield
    finally:
        for layer, before in kept:
            layer.get_base_layer().weight.data = before
            layer.merged_adapters.remove(adapter)


@contextmanager
def in_bf16(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Inside, every weight is bf16; afterwards the weights before are there again, themselves."""
    kept = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, before in kept:
            parameter.data = before.to(torch.bfloat16)
        yield
    finally:
        for parameter, before in kept:
            parameter.data = before
