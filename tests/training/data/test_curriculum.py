"""At which fetch each of several processes judges a round: prompts are dealt out as TRL and accelerate do it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler
from trl.trainer.utils import RepeatSampler

from training.config import Rl
from training.data.curriculum import CANDIDATES, Curriculum
from training.engine.progress import EventWriter

SETTINGS: dict[str, dict[str, Any]] = {
    "an odd number of generations": {"steps": 5, "rounds": 2},
    "several updates of a generation": {"steps": 6, "rounds": 2, "updates_per_generation": 2},
    "pairs": {"steps": 5, "rounds": 3, "pairs": True},
    "a round for each generation": {"steps": 4, "rounds": 4},
    "a prompt for each generation": {"steps": 7, "rounds": 3, "generations": 16},
    "micro-batches": {"steps": 7, "rounds": 4, "micro_batch_size": 4},
    "rounds that come out even": {"steps": 4, "rounds": 2},
}


class Rank:
    """One of the processes. judged: at which fetch, by round. asked: every example, in order."""

    def __init__(self, stage: Rl, out: Path):
        prompt: Any = SimpleNamespace(prompt=SimpleNamespace(messages=[{"role": "user", "content": "?"}]))
        manifest: Any = SimpleNamespace(seed=0, out=out)
        nothing: Any = None
        self.stage, self.judged, self.asked = stage, dict[int, int](), list[int]()
        self._curriculum = Curriculum([prompt] * (stage.prompts * CANDIDATES), manifest, stage, nothing)
        out.mkdir()
        self._events = EventWriter(out, "rl")

    def read(self, number: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        fetch = 0

        def rates(self_: Curriculum, numbers: list[int], now: int) -> dict[int, float]:
            self.judged[now] = fetch
            return dict.fromkeys(numbers, 0.5)

        monkeypatch.setattr(Curriculum, "_pass_rates", rates)
        data = self._curriculum.dataset(self._events)
        for fetch, places in enumerate(_dealt(self.stage, number, processes, data)):  # noqa: B007
            self.asked += data[places]["example"]


def _dealt(stage: Rl, number: int, processes: int, data: Any) -> BatchSamplerShard:
    generation = stage.batch_size * stage.updates_per_generation
    places = RepeatSampler(
        data,
        mini_repeat_count=stage.generations,
        batch_size=generation // stage.generations,
        repeat_count=stage.accumulation // processes * stage.updates_per_generation,
        shuffle=False,
    )
    return BatchSamplerShard(BatchSampler(places, generation // processes, False), processes, number)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("settings", SETTINGS)
def test_all_processes_judge_a_round_at_the_same_fetch(
    settings: str, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each then samples with the same weights, and waits for the others at the same place."""
    stage = Rl(
        **{"batch_size": 16, "micro_batch_size": 16 // processes, "generations": 4} | SETTINGS[settings]
    )
    ranks = [Rank(stage, tmp_path / str(number)) for number in range(processes)]
    for number, rank in enumerate(ranks):
        rank.read(number, processes, monkeypatch)
    assert all(rank.judged == ranks[0].judged for rank in ranks)
    assert sorted(ranks[0].judged) == list(range(stage.rounds))
    assert len({example for rank in ranks for example in rank.asked}) == stage.prompts
