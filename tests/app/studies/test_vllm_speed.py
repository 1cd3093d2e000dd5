"""What `steerwise bench vllm` asks, counts and says, on a server that answers at once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from app.serving.base import STARTER, find_base
from app.serving.vllm import VllmEndpoint, VllmProcess
from app.settings import Settings
from app.studies import vllm_speed
from app.studies.vllm_speed import SpeedRequest, table
from evaluation.contract.mode import Mode
from tests.app.studies.quiet import QUIET
from tests.evaluation.fake_server import FakeServer, listening, says


@pytest.mark.parametrize(("mode", "written"), [(Mode.reasoned, 6), (Mode.fast, 1)])
def test_each_round_has_a_cache_of_its_own_and_what_is_written_is_counted(
    mode: Mode, written: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = FakeServer(lambda _: says("A"))
    server.codes = vllm_speed.codes_for(find_base(STARTER).folder, vllm_speed.demo_tenant(0).category_schema)

    @contextmanager
    def answering(
        _model: Path, log: Path, settings: Settings, _waiting: Callable[[float], None]
    ) -> Iterator[VllmProcess]:
        with listening(server) as url, Popen(["sleep", "100"]) as child:
            try:
                yield VllmProcess(VllmEndpoint(url), child, log, settings)
            finally:
                child.kill()

    monkeypatch.setattr("app.studies.serving.serving", answering)
    settings = Settings(vllm_device="cpu", vllm_dtype="float32", vllm_cpu_engine="separate")
    speed = vllm_speed.measure(find_base(STARTER), SpeedRequest(5, 2, 2, mode), settings, QUIET)
    assert Counter(body["cache_salt"] for body in server.bodies) == {"round 0": 6, "round 1": 6}
    assert (len(speed.answers_per_s), speed.answers, speed.prompt_tokens) == (2, 5, 50)
    for tokens, answers in zip(speed.written_tokens_per_s, speed.answers_per_s, strict=True):
        assert tokens == pytest.approx(written * answers)
    assert speed.cached_prompt_share == pytest.approx(32 / 50)
    assert (speed.dtype, speed.cpu_engine, speed.mode) == ("float32", "separate", mode)
    assert "engine separate" in str(table(speed).caption)
