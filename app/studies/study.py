"""A study is run: every arm trained and measured with every seed, each training and each vLLM a process of its own."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from pydantic import BaseModel

from app.pipeline import benchmark, output
from app.pipeline.benchmark import Exam, Served
from app.pipeline.console import Progress
from app.pipeline.files import Inputs, checked
from app.pipeline.output import Output
from app.pipeline.presets import Benchmark
from app.pipeline.supervisor import EVENTS, Event, read_result, run_stage
from app.serving import adapters
from app.serving.adapters import Adapter
from app.serving.base import STARTER, Base, codes_for, digest, find_base
from app.serving.model_folder import write_whole
from app.serving.vllm import BASE_NAME, Vllm, serving, while_alive
from app.settings import Settings
from app.studies import matrix
from app.studies.exam import longest, marks_of, pass_at_k
from app.studies.matrix import GENERAL, Ground, Study
from evaluation.contract.record import Split
from evaluation.measures import Measure, rate
from evaluation.predictor import VllmPredictor, load_codes
from evaluation.report import StageReport
from training.config import StageManifest
from training.starter.world import bench_items, demo_tenant, expert_traces, general_prompts

BASE_ARM = "base"
_GENERAL_PROMPTS = 600
MEASURES = ("accuracy", "macro_f1", "steerability", "flip_accuracy", "invariance", "majority_over_selection")
RETENTION = "retention"  # share of right answers under schemas of other tenants


class Cost(BaseModel):
    """Of the whole chain of an arm, what it shares with others included."""

    wall_s: float
    tokens: int | None


class Marks(BaseModel):
    """measures: those of MEASURES, and `retention`. curve: share of right rollouts at each step, of RL.

    pass_at_k: for k = 1, 2, …, on the tenant's own conversations.
    """

    measures: dict[str, Measure]
    cost: Cost
    curve: list[float] = []
    pass_at_k: list[float] = []


class Found(NamedTuple):
    measures: dict[str, Measure]
    pass_at_k: list[float]


class SeedResult(BaseModel):
    key: str
    seed: int
    arms: dict[str, Marks]


class Asked(NamedTuple):
    study: Study
    seeds: int
    out: Path


class Prepared(NamedTuple):
    """A seed with what follows from it before anything is run. chains: each arm's stages; the base has none."""

    study: Study
    seed: int
    base: Base
    folder: Path
    inputs: Inputs
    chains: dict[str, list[StageManifest]]
    key: str


def run(asked: Asked, settings: Settings, progress: Progress) -> list[SeedResult]:
    """Raises: InputError, StageFailed, ServingError; what is done is kept, and the same command goes on."""
    base = find_base(STARTER)
    with output.opened(asked.out, settings.min_free_mib) as place:
        return [
            _seed(_prepare(asked.study, seed, base, place.root / f"seed-{seed}"), settings, progress)
            for seed in range(asked.seeds)
        ]


def _seed(prepared: Prepared, settings: Settings, progress: Progress) -> SeedResult:
    kept = prepared.folder / f"result-{prepared.key[:12]}.json"
    if kept.is_file():
        progress.note(f"seed {prepared.seed}: everything was done before")
        return SeedResult.model_validate_json(kept.read_bytes())
    _train(prepared, settings, progress)
    arms = {}
    for name, found in _measure(prepared, settings, progress).items():
        chain = prepared.chains[name]
        arms[name] = Marks(
            measures=found.measures, cost=_cost(chain), curve=_curve(chain), pass_at_k=found.pass_at_k
        )
    made = SeedResult(key=prepared.key, seed=prepared.seed, arms=arms)
    write_whole(kept, made.model_dump_json(indent=1).encode())
    return made


def _prepare(study: Study, seed: int, base: Base, folder: Path) -> Prepared:
    """The tenant of this seed is written to disk."""
    tenant = demo_tenant(seed)
    inputs = checked(tenant.category_schema, tenant.conversations)
    data = output.write_inputs(Output(folder), inputs).resolve()
    pool = load_codes(base.folder, max(len(ascii_uppercase), len(inputs.schema.answers))).texts
    rows = expert_traces(tenant, pool, seed)
    expert = data / "expert.jsonl"
    write_whole(expert, _lines(rows))
    write_whole(data / GENERAL, _lines(general_prompts(_GENERAL_PROMPTS, pool, seed)))
    key = output.key_of(inputs.sha256, digest(base))
    ground = Ground(
        str(base.folder),
        data / "train.jsonl",
        expert,
        inputs.schema,
        (folder / "stages").resolve(),
        seed,
        key,
    )
    chains = {BASE_ARM: list[StageManifest]()}
    chains |= {row.name: matrix.chain(study, row, ground) for row in study.rows}
    last = [f"{name}: {chain[-1].out.name if chain else ''}" for name, chain in chains.items()]
    measured = [str(n) for n in (study.suite_items, study.retention_items, study.pass_items) if n]
    return Prepared(study, seed, base, folder, inputs, chains, output.key_of(key, *measured, *last))


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _train(prepared: Prepared, settings: Settings, progress: Progress) -> None:
    wanted = {manifest.out.name: manifest for chain in prepared.chains.values() for manifest in chain}
    for number, manifest in enumerate(wanted.values(), start=1):
        title = f"seed {prepared.seed}: {number}/{len(wanted)} {manifest.stage.kind}"
        if output.finished(manifest):
            progress.end(title, "done before")
            continue
        path = output.prepare(manifest, [])
        progress.update(title, 0, None, "starting")
        run_stage(path, manifest.out, settings, partial(_show_event, progress, title))
        progress.end(title)


def _show_event(progress: Progress, title: str, event: Event) -> None:
    progress.update(title, event.get("step") or 0, event.get("total_steps"), event.get("message") or "")


def _measure(prepared: Prepared, settings: Settings, progress: Progress) -> dict[str, Found]:
    base, folder = prepared.base, prepared.folder
    frozen = {
        name: adapters.freeze(chain[-1].out / "adapter", folder / "adapters", settings.vllm_max_lora_rank)
        for name, chain in prepared.chains.items()
        if chain
    }
    fitting = settings.model_copy(
        update={
            "vllm_max_lora_rank": max(adapter.rank for adapter in frozen.values()),
            "vllm_max_adapters": len({adapter.sha256 for adapter in frozen.values()}),
        }
    )
    title = f"seed {prepared.seed}: start vLLM"
    with serving(
        base.folder, folder / "vllm.log", fitting, lambda _passed: progress.update(title, 0, None)
    ) as vllm:
        progress.end(title)
        served = [Served(BASE_ARM, BASE_NAME, digest(base)), *_loaded(vllm, frozen)]
        return asyncio.run(while_alive(vllm, _ask(prepared, vllm, served, fitting, progress)))


def _loaded(vllm: Vllm, frozen: dict[str, Adapter]) -> list[Served]:
    """Arms that came to the very same weights share an adapter."""
    there: dict[str, str] = {}
    for adapter in frozen.values():
        if adapter.sha256 not in there:
            there[adapter.sha256] = vllm.load(adapter.folder)
    return [Served(name, there[adapter.sha256], adapter.sha256) for name, adapter in frozen.items()]


async def _ask(
    prepared: Prepared, vllm: Vllm, served: list[Served], settings: Settings, progress: Progress
) -> dict[str, Found]:
    study, inputs, base = prepared.study, prepared.inputs, prepared.base
    suite = benchmark.suite_of(inputs, Benchmark(max_items=study.suite_items, seed=prepared.seed))
    codes = codes_for(base.folder, inputs.schema)
    exam = Exam(inputs, suite, codes, prepared.folder / "benchmark", with_baselines=False)
    made = await benchmark.examine(exam, vllm.endpoint, served, settings, progress)
    found = {stage.stage: Found(_measures(stage), []) for stage in made.stages}
    items = bench_items("unseen_pairs", study.retention_items, prepared.seed)
    codes = load_codes(base.folder, longest(items))
    async with vllm.endpoint.async_client() as client:
        for one in served:
            title = f"retention {one.stage}"
            predictor = VllmPredictor(client, one.model, codes.texts, codes.token_ids)
            shown = partial(_show, progress, title, len(items))
            marks = await marks_of(predictor, items, settings.concurrency, shown)
            found[one.stage].measures[RETENTION] = rate(sum(mark.right for mark in marks), len(marks))
            progress.end(title)
        if study.pass_items:
            own = [c for c in inputs.splits[Split.test] if c.labelled][: study.pass_items]
            for one in served:
                title = f"pass@k {one.stage}"
                predictor = VllmPredictor(client, one.model, *exam.codes)
                shown = partial(_show, progress, title, len(own))
                rates = await pass_at_k(predictor, inputs.schema, own, settings.concurrency, shown)
                found[one.stage] = found[one.stage]._replace(pass_at_k=rates)
                progress.end(title)
    return found


def _measures(stage: StageReport) -> dict[str, Measure]:
    return {name: measure for name in MEASURES if (measure := getattr(stage, name)) is not None}


def _show(progress: Progress, title: str, total: int, done: int) -> None:
    progress.update(title, done, total)


def _curve(chain: Sequence[StageManifest]) -> list[float]:
    if not chain or chain[-1].stage.kind != "rl":
        return []
    lines = (chain[-1].out / EVENTS).read_text().splitlines()
    by_step = {
        event["step"]: event["label_accuracy"]
        for line in lines
        if "label_accuracy" in (event := json.loads(line))
    }
    return [by_step[step] for step in sorted(by_step)]


def _cost(chain: Iterable[StageManifest]) -> Cost:
    results = [result for manifest in chain if (result := read_result(manifest.out)) is not None]
    counts = [result.body.get("tokens") for result in results]
    known = [int(count) for count in counts if count is not None]
    tokens = sum(known) if len(known) == len(counts) else None
    return Cost(wall_s=sum(result.body["wall_s"] for result in results), tokens=tokens)
