"""What strangers wrote is cut into lines, printed and parsed in one place each."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.test_tree import ROOT, modules

# Attributes that nobody calls, and why; where one may be, with the reason.
FORBIDDEN = {
    "splitlines": "it cuts at U+2028, U+0085 and more; split at line feeds",
    "iter_lines": "httpx cuts as splitlines does; use evaluation.inference.event_stream",
    "aiter_lines": "httpx cuts as splitlines does; use evaluation.inference.event_stream",
}
ALLOWED = {("training/data/examples.py", "splitlines"): "of bytes, which it cuts at CR and LF alone"}


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield node.lineno, name


def found(names: set[str], *folders: str) -> dict[str, set[str]]:
    """Name of a module -> which of these it calls."""
    each = {
        str(path.relative_to(ROOT)): {name for _, name in calls(path)} & names for path in modules(*folders)
    }
    return {module: used for module, used in each.items() if used}


def test_lines_are_cut_where_lines_end_and_nowhere_else() -> None:
    used = {(module, name) for module, names in found(set(FORBIDDEN)).items() for name in names}
    assert used == set(ALLOWED), FORBIDDEN


def test_nothing_is_printed_past_the_function_that_makes_it_harmless() -> None:
    printing = {
        str(path.relative_to(ROOT))
        for path in modules("app", "evaluation")
        if "print" in (text := path.read_text())  # to parse everything takes seconds
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"evaluation/terminal.py"}


def test_every_console_is_ours() -> None:
    assert found({"Console"}, "app", "evaluation") == {}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_planted_call_is_found(name: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(f"response.{name}()\n")
    assert [used for _, used in calls(planted)] == [name]
