"""What the kernel says about processes."""

from pathlib import Path


def alive(pid: int) -> bool:
    """A zombie is dead: nobody here may have been there to reap it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def children_of(pid: int) -> list[int]:
    """None where it has ended."""
    try:
        listed = [Path(task) / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for place in listed for child in place.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> set[int]:
    found = set(children_of(pid))
    return found.union(*(descendants(child) for child in found))
