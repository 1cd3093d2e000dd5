"""A suite is built for the first gate that asks it; every later one asks the very same."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.errors import InputError
from app.gates import evaluation as benchmark
from app.gates import suites
from app.infra.db.scope import TenantScope
from app.infra.files.repository import MadeFrom
from app.infra.storage import Storage, open_storage
from app.runs.inputs import Inputs
from app.runs.presets import Benchmark
from evaluation.contract.record import Split
from evaluation.suites.steerability import Suite
from tests.evaluation.shop import SCHEMA, of_split
from tests.factories.doors import UnlistedDoor

SETTINGS = Benchmark(max_items=100)
OF_DATASET = MadeFrom(dataset_id=uuid4())


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "storage"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each time that one was."""
    found: list[Any] = []
    build = benchmark.suite_of

    def counted(inputs: Inputs, settings: Benchmark) -> Suite:
        found.append(settings)
        return build(inputs, settings)

    monkeypatch.setattr(benchmark, "suite_of", counted)
    return found


def inputs(**change: Any) -> Inputs:
    first, *rest = of_split(Split.test)
    splits = {split: of_split(split) for split in Split}
    return Inputs(SCHEMA, splits | {Split.test: [first.model_copy(update=change), *rest]}, ())


def test_it_is_built_once_and_read_by_every_other_gate(
    storage: Storage, built: list[Any], tmp_path: Path
) -> None:
    scope = TenantScope(uuid4())
    first = suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(), SETTINGS, tmp_path / "one.json")
    again = suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(), SETTINGS, tmp_path / "two.json")
    assert again == first and len(built) == 1


def test_other_labels_texts_settings_or_tenants_have_another(
    storage: Storage, built: list[Any], tmp_path: Path
) -> None:
    scope, local = TenantScope(uuid4()), tmp_path / "suite.json"
    suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(), SETTINGS, local)
    suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(category=None), SETTINGS, local)
    suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(criterion="it broke"), SETTINGS, local)
    suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(), Benchmark(max_items=100, seed=1), local)
    suites.stored(UnlistedDoor(storage, TenantScope(uuid4())), OF_DATASET, inputs(), SETTINGS, local)
    assert len(built) == 5


def test_what_is_kept_and_cannot_be_used_is_named_and_not_silently_replaced(
    storage: Storage, tmp_path: Path
) -> None:
    scope, local = TenantScope(uuid4()), tmp_path / "suite.json"
    suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(), SETTINGS, local)
    (kept,) = (tmp_path / "storage").rglob("suites/*.json")
    kept.write_text("{}")
    with pytest.raises(InputError, match=r"suites/\w+\.json cannot be used: .* not a suite of this version"):
        suites.stored(UnlistedDoor(storage, scope), OF_DATASET, inputs(), SETTINGS, local)
