"""The files for Prometheus and Grafana speak of figures that exist, with labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.callers import Callers

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parents[3] / "docker" / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
BOARD = json.loads((FOLDER / "dashboard.json").read_text())
_SUFFIX = re.compile(r"_(bucket|count|sum|total|created)$")
_OF_OTHERS = {"le", "job"}  # Prometheus' own


def expressions() -> Iterator[str]:
    for rule in RULES:
        yield rule["expr"]
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def labels_used(expression: str) -> set[str]:
    grouped = [part for found in re.findall(r"by \(([^)]*)\)", expression) for part in found.split(",")]
    return {part.strip() for part in grouped} | set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression))


@pytest.fixture
async def figures(platform: httpx.AsyncClient, callers: Callers) -> str:
    await platform.get("/v1/me")
    return (await platform.get("/metrics")).text


async def test_every_figure_that_is_named_exists_and_has_its_labels(figures: str) -> None:
    known = {_SUFFIX.sub("", name) for name in re.findall(r"^# TYPE (\w+) ", figures, re.MULTILINE)}
    declared = set(re.findall(r"(\w+)=\"", figures)) | {"kind", "step", "outcome", "status", "route"}
    for expression in expressions():
        named = {_SUFFIX.sub("", name) for name in re.findall(r"\bsteerwise_\w+", expression)}
        assert named <= known, expression
        assert labels_used(expression) <= declared | _OF_OTHERS, expression


def test_every_rule_says_what_stands_still_and_where_to_look() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 8
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "look"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
