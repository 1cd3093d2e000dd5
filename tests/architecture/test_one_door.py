"""Whatever comes into the storage comes through `app.infra.files.door`, which makes its row first."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The storage itself; the door; and a restore, whose rows come with the files.
DOORS = {"app/infra/storage.py", "app/infra/files/door.py", "app/operations/backup.py"}
WRITES = {"put_file", "put", "pipe_file", "pipe", "upload", "touch", "mv", "copy", "cp_file"}


def around(source: str) -> Iterator[int]:
    """Lines that write to a storage: one of its own methods, called or handed on, or its file system."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute) or node.attr not in WRITES:
            continue
        if node.attr == "put_file" or ast.unparse(node.value).endswith("storage.files"):
            yield node.lineno


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted((root / "app").rglob("*.py")):
        name = str(path.relative_to(root))
        if name not in DOORS:
            found += [f"{name}:{line}" for line in around(path.read_text())]
    return found


def test_nothing_is_written_past_the_door() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "context.storage.put_file(path, key)",
        "await context.in_thread(context.storage.put_file, path, key)",
        "storage.files.pipe_file(key, content)",
    ],
)
def test_a_way_around_is_seen(tmp_path: Path, line: str) -> None:
    planted = tmp_path / "app" / "gates" / "planted.py"
    planted.parent.mkdir(parents=True)
    planted.write_text(f"async def keep(context, storage, path, key, content):\n    {line}\n")
    assert violations(tmp_path) == ["app/gates/planted.py:2"]
