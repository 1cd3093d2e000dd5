"""Whatever a run is asked for has an end: no setting of a stage is without an upper bound."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.runs.presets import Plan
from app.runs.requests import within
from tests.app.runs.conftest import Shop
from training.config import Sft, Stage

pytestmark = pytest.mark.anyio
_UPPER = ("maximum", "exclusiveMaximum")
_CHOSEN = ("enum", "const", "$ref")


def unbounded(node: Any, where: str = "") -> Iterator[str]:
    """Places of a JSON schema that take a number, a text or a list without an end. A path is none that a request may
    name (`app.runs.requests`)."""
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from unbounded(each, f"{where}[{number}]")
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    chosen = any(word in node for word in _CHOSEN)
    if kind in ("integer", "number") and not chosen and not any(word in node for word in _UPPER):
        yield where
    if kind == "string" and not chosen and "maxLength" not in node and node.get("format") != "path":
        yield where
    if kind == "array" and "maxItems" not in node:
        yield where
    for name, each in node.items():
        if name not in ("default", "examples"):
            yield from unbounded(each, f"{where}.{name}")


@pytest.mark.parametrize("model", [Stage, Plan])
async def test_every_setting_of_a_stage_has_an_upper_bound(model: Any) -> None:
    assert list(unbounded(TypeAdapter(model).json_schema())) == []


async def test_the_walk_finds_what_has_no_bound() -> None:
    assert list(unbounded(TypeAdapter(list[int]).json_schema())) == ["", ".items"]


ENDLESS: list[dict[str, Any]] = [
    {"kind": "sft", "epochs": 1e12},
    {"kind": "sft", "batch_size": 2**40, "micro_batch_size": 1},
    {"kind": "distill", "steps": 10**15},
    {"kind": "rl", "steps": 10**15},
    {"kind": "traces", "max_seconds": 90_000},
    {"kind": "sft", "learning_rate": float("1e300")},
]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_run_without_an_end_is_refused(shop: Shop) -> None:
    order = await shop.order()
    for stage in ENDLESS:
        answer = await shop.client.post("/v1/runs", json=order | {"stages": [stage]})
        assert answer.status_code == 422, stage
    assert (await shop.get("runs"))["items"] == []


async def test_a_stage_ends_by_itself_whatever_was_asked() -> None:
    assert within(Sft(), 60).max_seconds == 60
    assert within(Sft(max_seconds=5), 60).max_seconds == 5
    assert within(Sft(max_seconds=500), 60).max_seconds == 60
