"""What `steerwise bench api` measures with: a deployment that answers without training, and its arithmetic."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from app.infra.db.engine import Database
from app.main import create_app
from app.serving import adapters
from app.serving.base import STARTER, find_base
from app.settings import Settings
from app.studies import api
from app.studies.api import ApiLap
from app.studies.untrained import install, write_adapter
from tests.app.classify.serving_contexts import TEXT, model_server, plug_in
from tests.callers import Callers
from tests.evaluation.shop import SCHEMA

BASE = find_base(STARTER)


def test_the_adapter_fits_the_base_and_changes_nothing_yet(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    made = write_adapter(BASE, 8, tmp_path)
    assert adapters.check(made.folder, 8).sha256 == made.sha256 == made.folder.name
    shape = json.loads((BASE.folder / "config.json").read_text())
    matrices = load_file(str(made.folder / adapters.WEIGHTS))
    assert len(matrices) == shape["num_hidden_layers"] * 7 * 2
    begun = [name for name, matrix in matrices.items() if matrix.any()]
    assert {name.split(".")[-2] for name in begun} == {"lora_A"}


@pytest.mark.anyio
async def test_the_deployment_answers_with_the_key_that_was_made(sqlite: Database, tmp_path: Path) -> None:
    installed = await install(sqlite, BASE, write_adapter(BASE, 8, tmp_path / "adapters"), SCHEMA)
    settings = Settings(home=tmp_path, vllm_urls=("http://127.0.0.1:9",))
    app = create_app(settings, sqlite)
    async with AsyncExitStack() as until:
        await until.enter_async_context(app.router.lifespan_context(app))
        callers = Callers(app, sqlite, until)
        await plug_in(callers, model_server(knows_token_ids=False))
        client: httpx.AsyncClient = await callers.with_key(installed.api_key)
        question = {"schema_id": str(installed.schema_id), "text": TEXT}
        answer = await client.post("/v1/classify", json=question)
    assert (answer.status_code, answer.json()["category"]) == (200, "tracking")


def test_each_lap_is_compared_with_the_one_beside_it() -> None:
    through, directly = ApiLap(4.0, [0.1] * 19 + [0.5], 2), ApiLap(2.0, [0.05] * 20, 0)
    quick = ApiLap(1.0, [0.1] * 20, 0)
    laps = {1: [(through, directly), (quick, quick)], 32: [(directly, through), (directly, through)]}
    speed = api._speed(laps)
    assert speed.round_ratios["1"] == [pytest.approx(0.5), pytest.approx(1.0)]
    assert speed.throughput_ratio == {"1": pytest.approx(0.5**0.5), "32": pytest.approx(2)}
    low, high = speed.throughput_ratio_95["1"]
    assert low * high == pytest.approx(0.5)  # about the geometric mean
    assert low < 0.5 and high > 1  # two rounds say little
    assert speed.throughput_ratio_95["32"] == (pytest.approx(2), pytest.approx(2))
    assert speed.api_requests_per_s["1"] == pytest.approx(40 / 5)
    assert speed.p50_ms == pytest.approx(100)
    assert 100 <= speed.p95_ms <= 500
    assert speed.forced_reads == pytest.approx(2 / 80)
    assert (speed.requests, speed.rounds) == ({"1": 20, "32": 20}, 2)
