"""What a test costs is said by its markers, and `make test-fast` leaves out what is dear."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_what_asks_postgresql_is_marked_by_its_parameter(
    database: str, request: pytest.FixtureRequest
) -> None:
    assert (request.node.get_closest_marker("postgres") is not None) == (database == "postgresql")


def test_each_marker_is_left_out_by_test_fast_and_explained() -> None:
    makefile, contributing = ((ROOT / name).read_text() for name in ("Makefile", "CONTRIBUTING.md"))
    marked = re.search(
        r"^markers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert marked
    names = re.findall(r'^ +"(\w+):', marked[1], re.MULTILINE)
    [left_out] = re.findall(r"^IN_SECONDS := (.*)$", makefile, re.MULTILINE)
    assert set(left_out.split(" and ")) == {f"not {name}" for name in names}
    assert [name for name in names if f"`{name}`" not in contributing] == []
