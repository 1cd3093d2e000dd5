"""A LoRA adapter is checked before vLLM sees it, because one that vLLM cannot read ends the engine for everyone.

Adapters are served from a copy in a folder named after their content: files there never change, and a name is never
used twice, so no request can be answered from another adapter's cache.
"""

import hashlib
import json
import os
import secrets
import shutil
import struct
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import AdapterRefused
from evaluation.atomic_files import place_folder
from evaluation.contract.base_note import (
    ADAPTER_LIKENESS,
    EXAMPLE_CATEGORIES,
    EXAMPLE_CONDITIONS,
    EXAMPLES,
    SCALARS,
    TOKEN_WEIGHT,
)

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FILES = (WEIGHTS, CONFIG)
ENCODER = ADAPTER_LIKENESS  # which vLLM passes over: whoever asks it hears that beside it
MAX_ENCODER_BYTES = 16 << 20
MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "all-linear"}
)
_MAX_HEADER_BYTES = 64 << 20
_ITEM_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


class Adapter(NamedTuple):
    folder: Path
    sha256: str
    rank: int


def check(folder: Path, max_rank: int) -> Adapter:
    """Raises: AdapterRefused saying which rule the folder breaks."""
    if folder.is_symlink() or not folder.is_dir():
        raise AdapterRefused(f"the adapter {folder} is not a folder of its own")
    found = {entry.name for entry in os.scandir(folder)}
    if found - {ENCODER} != set(FILES):
        raise AdapterRefused(
            f"an adapter is {' and '.join(FILES)}, and {ENCODER} at most; {folder} has "
            f"{', '.join(sorted(found)) or 'nothing'}"
        )
    if any((folder / name).is_symlink() or not (folder / name).is_file() for name in found):
        raise AdapterRefused(f"{folder} has a link where a plain file must be")
    rank = _checked_rank(_read_config(folder / CONFIG), max_rank)
    _check_tensors(_read_header(folder / WEIGHTS), rank, (folder / WEIGHTS).stat().st_size)
    if ENCODER in found:
        _check_encoder(folder / ENCODER)
    return Adapter(folder, _digest(folder), rank)


def files_of(folder: Path) -> tuple[str, ...]:
    """Of an adapter's files those that it has, in their order."""
    return (*FILES, ENCODER) if (folder / ENCODER).is_file() else FILES


def freeze(source: Path, store: Path, max_rank: int) -> Adapter:
    """A checked copy of the adapter's files in `source` (a stage may leave others there) under their own hash."""
    store.mkdir(parents=True, exist_ok=True)
    staging = store / f".incoming-{secrets.token_hex(6)}"
    staging.mkdir()
    try:
        for name in files_of(source):
            if not (source / name).is_file() or (source / name).is_symlink():
                raise AdapterRefused(f"the adapter {source} has no plain file {name}")
            shutil.copyfile(source / name, staging / name)
        adapter = check(staging, max_rank)
        final = store / adapter.sha256[:12]
        if not final.exists():
            place_folder(staging, final)
        return adapter._replace(folder=final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def served_name(adapter: Adapter) -> str:
    """Made here, never from a tenant's words: vLLM puts names into paths. Different at every load."""
    return f"t_{secrets.token_hex(4)}_{adapter.sha256[:12]}"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise AdapterRefused(f"{path} is not JSON") from None
    if not isinstance(config, dict):
        raise AdapterRefused(f"{path} is not a JSON object")
    return config


def _checked_rank(config: dict[str, Any], max_rank: int) -> int:
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"the adapter's type is {config.get('peft_type')!r}; only LORA is served")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= max_rank:
        raise AdapterRefused(f"the adapter's rank is {rank!r}; vLLM was started for 1 to {max_rank}")
    targets = config.get("target_modules")
    modules = {targets} if isinstance(targets, str) else set(targets or ())
    if not modules or modules - MODULES:
        raise AdapterRefused(f"the adapter changes modules that are not allowed: {sorted(modules - MODULES)}")
    if config.get("bias", "none") != "none" or config.get("modules_to_save") or config.get("use_dora"):
        raise AdapterRefused("only plain LoRA is served: no bias, no modules_to_save, no DoRA")
    return rank


def _read_header(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as source:
        prefix = source.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise AdapterRefused(f"{path} is not a safetensors file")
        try:
            header = json.loads(source.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise AdapterRefused(f"the header of {path} cannot be read") from None
    if not isinstance(header, dict):
        raise AdapterRefused(f"the header of {path} is not an object")
    return {
        "tensors": {k: v for k, v in header.items() if k != "__metadata__"},
        "data_bytes": size - 8 - length,
    }


def _check_tensors(header: dict[str, Any], rank: int, size: int) -> None:
    tensors: dict[str, Any] = header["tensors"]
    if not tensors:
        raise AdapterRefused("the adapter holds no tensors")
    for name, entry in tensors.items():
        try:
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            wanted = shape[0] * shape[1] * _ITEM_BYTES[entry["dtype"]]
        except (KeyError, TypeError, ValueError, IndexError):
            raise AdapterRefused(f"tensor {name!r} of the adapter is not a matrix of floats") from None
        if end - begin != wanted or not 0 <= begin <= end <= header["data_bytes"]:
            raise AdapterRefused(f"tensor {name!r} of the adapter is cut off ({size} bytes in the file)")
        inner = shape[0] if ".lora_A." in name else shape[1] if ".lora_B." in name else None
        if inner != rank:
            raise AdapterRefused(f"tensor {name!r} of the adapter is not a LoRA matrix of rank {rank}")


def _check_encoder(path: Path) -> None:
    """That it is not more than numpy may read; what its numbers are is trained, like everything else of an adapter."""
    if path.stat().st_size > MAX_ENCODER_BYTES:
        raise AdapterRefused(
            f"{path} is larger than the {MAX_ENCODER_BYTES >> 20} MiB that an encoder may have"
        )
    header = _read_header(path)
    tensors: dict[str, Any] = header["tensors"]
    wanted = {*SCALARS, TOKEN_WEIGHT}
    if not wanted <= tensors.keys():
        raise AdapterRefused(f"{path} is no encoder: it lacks {', '.join(sorted(wanted - tensors.keys()))}")
    of_examples = (EXAMPLES, EXAMPLE_CONDITIONS, EXAMPLE_CATEGORIES)
    counts = {tensors[name]["shape"][0] if name in tensors else 0 for name in of_examples}
    if len(counts) > 1:
        raise AdapterRefused(f"{path} has examples without what decided them")


def placed(folder: Path) -> set[str]:
    """By their digests: the adapters that lie there for model servers to read."""
    return {path.name for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")}


def remove(folder: Path, name: str) -> None:
    """No model server may have it: one that has, and is asked for it, would end without."""
    shutil.rmtree(folder / name, ignore_errors=True)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in files_of(folder):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()
