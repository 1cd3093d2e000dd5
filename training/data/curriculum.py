"""Which prompts RL asks, and when.

GRPO learns nothing from a prompt that always goes well or never: all its rewards are equal. So at the beginning of
each round the student answers more prompts than it needs, and those that it sometimes gets right are taken (the
offline filter for what DAPO, arXiv 2503.14476, calls dynamic sampling, which TRL does not have). What was chosen is
written down: a stage that is resumed asks the same, and the random numbers of the training are left as they are.
"""

import json
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset

from training.artifacts import write_json
from training.config import Rl, StageManifest
from training.data.examples import Example
from training.data.rewards import reward
from training.engine import processes
from training.engine.model import Loaded, prompt_tokens
from training.engine.progress import EventWriter
from training.generation.rollouts import UNWATCHED, sample
from training.generation.samplers import sampling_of

if TYPE_CHECKING:
    from training.engine.trainer import Watch

CANDIDATES = 3  # for each prompt that is asked, where prompts are chosen


class Curriculum:
    """examples: all that may be asked, in their order; pairs stand together, and are taken or left together."""

    def __init__(self, examples: list[Example], manifest: StageManifest, stage: Rl, loaded: Loaded):
        self.examples, self.metrics = examples, dict[str, Any]()
        self._stage, self._loaded, self._seed = stage, loaded, manifest.seed
        self._folder = manifest.out / "rounds"
        self._order: dict[int, list[int]] = {}
        self._events: EventWriter | None = None
        self._watch: Watch | None = None

    def dataset(self, events: EventWriter, watch: "Watch | None" = None) -> Dataset:
        """Rows with `prompt` and `example`; where there are rounds, what a row is turns out when it is read."""
        self._events, self._watch = events, watch
        numbers = list(range(self._stage.prompts))
        if not self._stage.rounds:
            return Dataset.from_list([self._row(n) for n in numbers])
        empty: list[list[dict[str, str]]] = [[] for _ in numbers]
        return Dataset.from_dict({"prompt": empty, "example": numbers}).with_transform(self._rows)

    def _rows(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = [self._row(self._chosen(place)) for place in batch["example"]]
        return {name: [row[name] for row in rows] for name in ("prompt", "example")}

    def _row(self, number: int) -> dict[str, Any]:
        return {"prompt": self.examples[number].prompt.messages, "example": number}

    def _chosen(self, place: int) -> int:
        """The example asked at a place of the stage."""
        now = place // self._together * self._stage.rounds // (self._stage.prompts // self._together)
        begin, end = self._begin(now), self._begin(now + 1)
        if now not in self._order:
            self._order[now] = self._round(now, begin, end)
        return self._order[now][place - begin]

    @property
    def _together(self) -> int:
        """Prompts of a generation. Every process reads its share of one at the same time, and with the first of a
        round all of them judge it: a border within a generation would be met by some of them earlier."""
        return self._stage.batch_size * self._stage.updates_per_generation // self._stage.generations

    def _begin(self, number: int) -> int:
        """The first place of a round, which is whole generations."""
        generations = self._stage.prompts // self._together
        return -(-number * generations // self._stage.rounds) * self._together

    @property
    def _unit(self) -> int:
        return 2 if self._stage.pairs else 1

    def _round(self, number: int, begin: int, end: int) -> list[int]:
        path = self._folder / f"{number}.json"
        if path.is_file():
            return list(json.loads(path.read_text())["chosen"])
        candidates = list(range(begin * CANDIDATES, end * CANDIDATES))
        rates = self._pass_rates(candidates, number)
        units = [candidates[i : i + self._unit] for i in range(0, len(candidates), self._unit)]
        tries = self._stage.tries * self._unit
        lowest, highest = 1 / tries, 1 - 1 / tries

        def useful(unit: list[int]) -> bool:
            return lowest <= sum(rates[n] for n in unit) / len(unit) <= highest

        # Too few that are useful: the hardest of the others, which may become so, before those that always go well.
        ranked = sorted(
            units, key=lambda unit: (not useful(unit), 0 if useful(unit) else sum(rates[n] for n in unit))
        )
        found = sum(map(useful, units)) * self._unit
        chosen = [n for unit in ranked for n in unit][: end - begin]
        if processes.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            content = {"chosen": chosen, "useful": found, "rates": {str(n): rates[n] for n in candidates}}
            write_json(path, content)
        self._say(number, found, len(candidates), sum(rates.values()) / len(rates))
        return chosen

    def _say(self, number: int, found: int, candidates: int, rate: float) -> None:
        self.metrics |= {f"round_{number}_useful": found, f"round_{number}_right": round(rate, 4)}
        if self._events is not None:
            said = f"{found} of {candidates} prompts are neither always nor never answered rightly"
            self._events.write("progress", message=f"round {number + 1}: {said}")

    def _pass_rates(self, numbers: list[int], now: int) -> dict[int, float]:
        stage, tokenizer = self._stage, self._loaded.tokenizer
        prompts = [prompt_tokens(tokenizer, self.examples[n].prompt.messages) for n in numbers]
        with torch.random.fork_rng():
            torch.manual_seed(self._seed * 1_000_003 + now)
            written = sample(
                self._loaded.model,
                prompts,
                stage.tries,
                sampling_of(stage),
                [tokenizer.eos_token_id],
                tokenizer.pad_token_id,
                UNWATCHED if self._watch is None else self._watch.watched,
            )
        if self._watch is not None:
            self._watch.check()
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        right = [
            self._right(text, self.examples[n])
            for text, n in zip(texts, (n for n in numbers for _ in range(stage.tries)), strict=True)
        ]
        return {
            n: sum(right[i * stage.tries : (i + 1) * stage.tries]) / stage.tries
            for i, n in enumerate(numbers)
        }

    def _right(self, text: str, example: Example) -> bool:
        made = reward(text, example.schema, example.prompt.codes, example.conversation, example.gold)
        return made.label > 0
