"""What the README tells a reader to run exists, and what is installed is whole."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.program import cli

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "training", "evaluation", "steerwise")


def commands_in_readme(program: str) -> list[str]:
    """The word after the program, wherever the README shows it at the start of a command."""
    code = re.findall(r"```.*?\n(.*?)```|`([^`\n]+)`", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    shown = "\n".join(block or inline for block, inline in code)
    start = r"(?:^|&&|;)[ \t]*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:[\w./-]*/)?"
    return sorted(set(re.findall(rf"{start}{re.escape(program)} +([a-z][\w.-]*)", shown, flags=re.MULTILINE)))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_every_make_command_of_the_readme_is_in_the_makefile() -> None:
    shown = commands_in_readme("make")
    assert shown, "the README shows no make command"
    assert set(shown) <= make_targets()


def test_every_make_target_for_people_is_explained_by_make_help() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    internal = {name for name in make_targets() if name.startswith(("torch-", "settle-"))}
    assert make_targets() - internal == explained


def test_every_steerwise_command_of_the_readme_explains_itself() -> None:
    shown = commands_in_readme("steerwise")
    assert shown, "the README shows no steerwise command"
    helped = {command: CliRunner().invoke(cli, [command, "--help"]) for command in shown}
    assert [command for command, ended in helped.items() if ended.exit_code != 0] == []


@pytest.mark.seconds
def test_every_module_that_the_readme_runs_explains_itself() -> None:
    assert [
        module for module in commands_in_readme("python -m") if _exit_code("-m", module, "--help") != 0
    ] == []


@pytest.mark.seconds
def test_every_example_explains_itself_and_is_in_their_list() -> None:
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert [path.name for path in examples if _exit_code(str(path), "--help") != 0] == []
    listed = (ROOT / "examples/README.md").read_text()
    assert [path.name for path in examples if f"`{path.name} " not in listed] == []


def test_every_document_that_the_index_names_is_there() -> None:
    for index in ("README.md", "docs/README.md"):
        folder = (ROOT / index).parent
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / index).read_text())
        assert links, index
        assert [link for link in links if not (folder / link).exists()] == []


def test_every_place_that_contributing_names_is_there() -> None:
    named = re.findall(
        r"`((?:app|evaluation|training|steerwise|tests|migrations)/[\w/.]+)`",
        (ROOT / "CONTRIBUTING.md").read_text(),
    )
    assert len(named) > 10 and [place for place in named if not (ROOT / place).exists()] == []


def test_the_program_that_is_installed_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, name = project["scripts"]["steerwise"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.seconds
def test_a_built_wheel_carries_every_file_of_the_packages(tmp_path: Path) -> None:
    """Presets, policies, pages and weights are files, and a wheel leaves out what nobody named."""
    source = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    present = {str(p.relative_to(source)) for k in PACKAGES for p in (source / k).rglob("*") if p.is_file()}
    assert present - packed == set()


def _exit_code(*arguments: str) -> int:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True).returncode
