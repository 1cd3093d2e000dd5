"""vLLM is shown no adapter that breaks a rule: one that it cannot read ends the engine for every tenant."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import AdapterRefused
from app.serving.adapters import ENCODER, MAX_ENCODER_BYTES, check, files_of, freeze, served_name
from evaluation.contract.base_note import EXAMPLES, SCALARS, TOKEN_WEIGHT

CONFIG = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


def tensors(rank: int = 4) -> bytes:
    """A whole safetensors file with one LoRA pair of width 8, in fp32."""
    size = rank * 8 * 4
    header = {
        "__metadata__": {"format": "pt"},
        f"{PREFIX}.lora_A.weight": {"dtype": "F32", "shape": [rank, 8], "data_offsets": [0, size]},
        f"{PREFIX}.lora_B.weight": {"dtype": "F32", "shape": [8, rank], "data_offsets": [size, 2 * size]},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(2 * size)


def adapter(folder: Path, **changed: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changed))
    (folder / "adapter_model.safetensors").write_bytes(tensors())
    return folder


def _link(folder: Path) -> None:
    shutil.move(folder / "adapter_model.safetensors", folder.parent / "elsewhere")
    (folder / "adapter_model.safetensors").symlink_to(folder.parent / "elsewhere")


def encoder(names: tuple[str, ...] = (*SCALARS, TOKEN_WEIGHT)) -> bytes:
    """A whole safetensors file with a number under each name."""
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
        for n, name in enumerate(names)
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(4 * len(names))


def _link_encoder(folder: Path) -> None:
    (folder.parent / "other").write_bytes(encoder())
    (folder / ENCODER).symlink_to(folder.parent / "other")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another file": (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), "an adapter is adapter_model"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "an adapter is adapter_model"),
    "a folder for a file": (
        lambda f: [(f / "adapter_config.json").unlink(), (f / "adapter_config.json").mkdir()],
        "a link where a plain file",
    ),
    "a symlink": (_link, "a link where a plain file"),
    "no JSON": (lambda f: (f / "adapter_config.json").write_text("{"), "not JSON"),
    "empty weights": (lambda f: (f / "adapter_model.safetensors").write_bytes(b""), "not a safetensors"),
    "a huge header": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}"),
        "not a safetensors",
    ),
    "a header of noise": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(
            struct.pack("<Q", 8) + bytes(range(128, 136)) * 2
        ),
        "cannot be read",
    ),
    "cut off": (lambda f: (f / "adapter_model.safetensors").write_bytes(tensors()[:-9]), "is cut off"),
    "an encoder that is none": (
        lambda f: (f / ENCODER).write_bytes(encoder(("scale",))),
        "is no encoder: it lacks aside, aside_from",
    ),
    "examples that nothing decided": (
        lambda f: (f / ENCODER).write_bytes(encoder((*SCALARS, TOKEN_WEIGHT, EXAMPLES))),
        "has examples without what decided them",
    ),
    "an encoder of noise": (lambda f: (f / ENCODER).write_bytes(b"x" * 40), "not a safetensors"),
    "an encoder that is a link": (_link_encoder, "a link where a plain file"),
    "a huge encoder": (
        lambda f: (f / ENCODER).write_bytes(encoder() + bytes(MAX_ENCODER_BYTES)),
        "larger than the 16 MiB",
    ),
    "another rank": (lambda f: (f / "adapter_model.safetensors").write_bytes(tensors(rank=8)), "of rank 4"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_adapter_is_refused_with_the_rule_that_it_breaks(case: str, tmp_path: Path) -> None:
    change, reason = BROKEN[case]
    folder = adapter(tmp_path / "a")
    assert check(folder, max_rank=32).rank == 4
    change(folder)
    with pytest.raises(AdapterRefused, match=reason):
        check(folder, max_rank=32)


CONFIGS = {
    "rank too large": ({"r": 64}, "rank is 64"),
    "no rank": ({"r": None}, "rank is None"),
    "rank true": ({"r": True}, "rank is True"),
    "not LoRA": ({"peft_type": "IA3"}, "IA3"),
    "a module that is not allowed": ({"target_modules": ["embed_tokens"]}, "embed_tokens"),
    "no modules": ({"target_modules": []}, "not allowed"),
    "a trained bias": ({"bias": "all"}, "only plain LoRA"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "only plain LoRA"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_outside_the_rules_is_refused(case: str, tmp_path: Path) -> None:
    changed, reason = CONFIGS[case]
    with pytest.raises(AdapterRefused, match=reason):
        check(adapter(tmp_path / "a", **changed), max_rank=32)


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(adapter(tmp_path / "a"))
    with pytest.raises(AdapterRefused, match="not a folder of its own"):
        check(tmp_path / "link", max_rank=32)


def test_a_frozen_adapter_lies_under_its_hash_and_leaves_other_files_behind(tmp_path: Path) -> None:
    source = adapter(tmp_path / "stage" / "adapter")
    (source / "README.md").write_text("made by a library")
    frozen = freeze(source, tmp_path / "store", max_rank=32)
    assert frozen.folder == tmp_path / "store" / frozen.sha256[:12]
    assert sorted(p.name for p in frozen.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert freeze(source, tmp_path / "store", max_rank=32) == frozen
    assert [p.name for p in (tmp_path / "store").iterdir()] == [frozen.sha256[:12]]


def test_nothing_half_copied_stays_where_freezing_is_refused(tmp_path: Path) -> None:
    source = adapter(tmp_path / "a", r=512)
    with pytest.raises(AdapterRefused):
        freeze(source, tmp_path / "store", max_rank=32)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_served_name_is_never_used_twice_and_says_which_content_it_serves(tmp_path: Path) -> None:
    one = check(adapter(tmp_path / "tenant; drop table"), max_rank=32)
    names = {served_name(one) for _ in range(50)}
    assert len(names) == 50
    assert all(n.startswith("t_") and n.endswith(one.sha256[:12]) and "tenant" not in n for n in names)


def test_an_encoder_that_was_trained_with_it_is_part_of_the_adapter_and_of_its_digest(tmp_path: Path) -> None:
    plain = freeze(adapter(tmp_path / "plain"), tmp_path / "store", max_rank=32)
    source = adapter(tmp_path / "with")
    (source / ENCODER).write_bytes(encoder())
    frozen = freeze(source, tmp_path / "store", max_rank=32)
    assert frozen.sha256 != plain.sha256 and ENCODER not in files_of(plain.folder)
    assert (frozen.folder / ENCODER).read_bytes() == encoder() and files_of(frozen.folder)[-1] == ENCODER
    (frozen.folder / ENCODER).unlink()
    assert check(frozen.folder, max_rank=32).sha256 == plain.sha256
