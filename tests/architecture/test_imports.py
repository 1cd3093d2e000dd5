"""The import directions of pyproject.toml hold, and each of them is really able to fail."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "training", "evaluation")
RUN = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# contract id -> module to plant in, and the forbidden line. Every contract must appear: a test sees to it.
VIOLATIONS = {
    "layers": ("evaluation/contract/planted.py", "from training import config"),
    "app-and-training": ("app/planted.py", "from training.stages import sft"),
    "training-and-exam": ("training/planted.py", "import evaluation.gate"),
    "torch-free": ("training/config.py", "import torch"),
    "contract-alone": ("evaluation/contract/planted.py", "from evaluation.suites import steerability"),
    "contract-pure": ("evaluation/contract/planted.py", "import pathlib"),
}
# Ways around a contract that a plain reading of it might leave open.
DETOURS = {
    "a function-level import": ("torch-free", "app/planted.py", "def late() -> None:\n    import torch"),
    "a type-checking import": (
        "training-and-exam",
        "training/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from evaluation.suites import steerability",
    ),
    "a chain through a middle module": ("torch-free", "evaluation/planted.py", "import training.model"),
    "a child of the package": (
        "torch-free",
        "training/starter/world.py",
        "from transformers.utils import logging",
    ),
}


def lint_imports(tree: Path) -> dict[str, str]:
    """Name of each contract -> KEPT or BROKEN."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "", "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    verdicts = dict(re.findall(r"^(.+?) ?(KEPT|BROKEN)\b", done.stdout, flags=re.MULTILINE))
    assert verdicts, f"lint-imports judged nothing:\n{done.stdout}\n{done.stderr}"
    assert (done.returncode == 0) == (set(verdicts.values()) == {"KEPT"}), done.stdout
    return verdicts


def contract_names() -> dict[str, str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The project's modules without their data, free to be broken."""
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            copied = tmp_path / source.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copied)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(tree: Path, module: str, line: str) -> None:
    """At the end of a module, new or old, so that its docstring and own imports stay what they are."""
    path = tree / module
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")


def test_every_import_goes_the_allowed_way() -> None:
    assert set(lint_imports(ROOT).values()) == {"KEPT"}


def test_every_contract_is_tried_by_a_planted_violation() -> None:
    assert set(VIOLATIONS) == set(contract_names())


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_planted_violation_breaks_its_contract(contract: str, tree: Path) -> None:
    plant(tree, *VIOLATIONS[contract])
    assert lint_imports(tree)[contract_names()[contract]] == "BROKEN"


@pytest.mark.parametrize("detour", DETOURS)
def test_a_detour_breaks_the_contract_too(detour: str, tree: Path) -> None:
    contract, module, line = DETOURS[detour]
    plant(tree, module, line)
    assert lint_imports(tree)[contract_names()[contract]] == "BROKEN"
