"""The import directions of pyproject.toml hold, and each of them is really able to fail."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.seconds

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "training", "evaluation", "migrations", "steerwise")
RUN = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# contract id -> module to plant in, and the forbidden line. Every contract must appear: a test sees to it.
VIOLATIONS = {
    "layers": ("evaluation/contract/planted.py", "from training import config"),
    "app-and-training": ("app/planted.py", "from training.stages import sft"),
    "training-and-gate": ("training/planted.py", "import evaluation.gating.gate"),
    "torch-free": ("training/config.py", "import torch"),
    "client-light": ("steerwise/planted.py", "from app.auth import principal"),
    "contract-alone": ("evaluation/contract/planted.py", "from evaluation.suites import steerability"),
    "contract-pure": ("evaluation/contract/planted.py", "import pathlib"),
    "slices": ("app/tenants/service.py", "from app.schemas import repository"),
    "inside-a-slice": ("app/schemas/service.py", "from app.schemas import payloads"),
    "endpoints-last": ("app/schemas/endpoints.py", "from app.tenants.endpoints import InPath"),
}
# Ways around a contract that a plain reading of it might leave open.
DETOURS = {
    "a function-level import": ("torch-free", "app/planted.py", "def late() -> None:\n    import torch"),
    "a type-checking import": (
        "training-and-gate",
        "training/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from evaluation.suites import steerability",
    ),
    "a chain through a middle module": (
        "torch-free",
        "evaluation/planted.py",
        "import training.engine.model",
    ),
    "a child of the package": (
        "torch-free",
        "training/starter/world.py",
        "from transformers.utils import logging",
    ),
    "a slice that knows its successor through the application": (
        "slices",
        "app/auth/service.py",
        "from app.main import create_app",
    ),
    "a package that stands in no layer": ("slices", "app/planted.py", "import json"),
    "a slice that knows the command line": (
        "slices",
        "app/datasets/service.py",
        "from app.cli import files",
    ),
    "a slice that knows a study": ("slices", "app/gates/evaluation.py", "from app.studies import matrix"),
    "a repository that asks its service": (
        "inside-a-slice",
        "app/auth/repository.py",
        "from app.auth.service import create",
    ),
}
# Where a query may stand, and where it is refused. The text goes through the linter under that file's name.
QUERIES = (
    "from sqlalchemy import select",
    "import sqlalchemy\nsqlalchemy.text('x')",
    "from sqlalchemy.sql import text",
)
WITHOUT_QUERIES = (
    "app/schemas/service.py",
    "app/schemas/endpoints.py",
    "app/http/idempotency/reservation.py",
    "app/main.py",
)
WITH_QUERIES = (
    "app/schemas/repository.py",
    "app/infra/db/session.py",
    "migrations/env.py",
    "tests/app/auth/test_keys.py",
)


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


def banned(text: str, filename: str) -> bool:
    """Whether the linter refuses an import or a use in that file (TID251)."""
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--output-format", "json", "-"]
    done = subprocess.run(
        [*ruff, "--stdin-filename", filename], cwd=ROOT, input=text + "\n", capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    found = {entry["code"] for entry in json.loads(done.stdout)}
    assert found <= {"TID251"}, found
    return bool(found)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_outside_a_repository_is_refused(query: str) -> None:
    assert [name for name in WITHOUT_QUERIES if not banned(query, name)] == []
    assert [name for name in WITH_QUERIES if banned(query, name)] == []


def test_no_test_replaces_things_with_mocks() -> None:
    """The linter's ban is lifted in tests/app together with that on queries."""
    pattern = re.compile(r"^\s*(from|import) unittest(\.| import )mock", re.MULTILINE)
    assert [p for p in (ROOT / "tests").rglob("*.py") if pattern.search(p.read_text())] == []
    assert pattern.search("from unittest import mock") and pattern.search("import unittest.mock as fake")
