"""How long stages will take on this machine, and how much memory, from a probe of seconds with the real base.

The probe reads, learns and writes some hundred tokens; what the stages read, learn and write is counted from their
settings, the schema and some of the conversations. How long an answer is nobody knows before it is written: it is
taken to be of the usual length. A machine that does something else meanwhile takes longer.
"""

import os
import platform
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple

import torch

from evaluation.contract.mode import Mode
from evaluation.contract.render import ChatMessage
from training.config import Distill, PrivilegedTeacher, Rl, Sft, StageManifest, Traces
from training.data.examples import (
    draw_rendering,
    read_answered,
    read_general,
    read_labelled,
    read_texts,
)
from training.engine import encoder
from training.engine.model import Loaded, code_pool, load, prompt_tokens, uses_bf16
from training.generation.prefix.reading import shared_tokens
from training.generation.prefix.rows import Collator, PromptAndCompletion, row_of, suffixes_of
from training.generation.rollouts import CACHE_BYTES, Sampling, sample
from training.settings import Learning

ANSWER: Final = 48  # tokens of an answer with its reasons; those of four real tenants have 33 to 40
_AT_ONCE: Final = 3  # of one without
_HINT: Final = 24  # of a hint that is no demonstration
_CHARACTERS: Final = 4  # of a token of English, about
_FORM: Final = 12  # tokens of a chat template around a general prompt
_SEEN: Final = 48  # conversations that are tokenised
_PREFIX, _SUFFIX, _SUFFIXES = 320, 56, 4
_ROWS, _NEW = 16, 8
# What trainer, optimizer and allocator keep beside what one micro-batch takes, on a CPU: 1.4 to 2.4 GiB in SFT of seven
# tenants and businesses, 1.8 and 2.1 in RL and distillation.
_BESIDE: Final = 19 * (1 << 30) // 10


class Pace(NamedTuple):
    """Tokens a second; bytes. loaded: of the process with the base. token: of each token that is learned at once."""

    read: float
    learn: float
    write: float
    start_s: float
    loaded: int | None
    token: float | None


class ModelShape(NamedTuple):
    """Tokens of a prompt: the schema, a conversation on average, and a long one."""

    schema: int
    own: float
    longest: int
    labelled: int


class Work(NamedTuple):
    """Tokens. at_once: learned in one micro-batch of long conversations. encoder_s: of the encoder beside the base."""

    read: float = 0.0
    learned: float = 0.0
    written: float = 0.0
    at_once: float = 0.0
    encoder_s: float = 0.0


def estimate(
    manifests: Sequence[StageManifest], evaluated: int, mode: Mode = Mode.reasoned
) -> dict[str, Any]:
    """evaluated: questions of the evaluation, asked in that mode. Stages whose traces do not exist yet are
    taken to get them all.
    """
    started = time.monotonic()
    learning = next((m for m in manifests if isinstance(m.stage, Learning)), manifests[0])
    stage = learning.stage if isinstance(learning.stage, Learning) else Sft()
    loaded = load(learning.model_copy(update={"adapter": None}), stage)
    start_s = _process_age_s()
    bf16 = uses_bf16(stage.precision)
    shape = _shape(manifests[0], loaded)
    pace = _probe(loaded, bf16, start_s)
    stages = [_entry(m, _work(m, manifests, shape), pace, loaded) for m in manifests]
    if evaluated:
        answer = 1 if mode is Mode.fast else ANSWER
        work = Work(read=evaluated * shape.own, written=evaluated * answer)
        stages.append({"stage": "evaluation", **_cost(work, pace, None), "memory_bytes": None})
    memory = [s["memory_bytes"] for s in stages if s["memory_bytes"] is not None]
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "precision": "bf16" if bf16 else "fp32",
        },
        "probe": {
            "seconds": round(time.monotonic() - started, 1),
            "read_tokens_per_s": round(pace.read, 1),
            "learned_tokens_per_s": round(pace.learn, 1),
            "written_tokens_per_s": round(pace.write, 1),
        },
        "schema_tokens": shape.schema,
        "conversation_tokens": round(shape.own, 1),
        "stages": stages,
        "minutes": round(sum(s["minutes"] or 0.0 for s in stages), 1),
        "memory_bytes": max(memory, default=None),
    }


# --------------------------------------------------------------------------------------------------------- the work


def _shape(manifest: StageManifest, loaded: Loaded) -> ModelShape:
    rng, schema = random.Random(0), manifest.category_schema
    labelled = read_labelled(manifest.conversations, schema).conversations
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    rendering = draw_rendering(schema, pool, rng, perturb=False)
    seen = rng.sample(labelled, min(_SEEN, len(labelled)))
    prompts = [prompt_tokens(loaded.tokenizer, rendering.example(c).prompt.messages) for c in seen]
    shared = shared_tokens(*prompts) if len(prompts) > 1 else 0
    own = [len(prompt) - shared for prompt in prompts]
    return ModelShape(shared, sum(own) / len(own), max(own), len(labelled))


def _work(manifest: StageManifest, manifests: Sequence[StageManifest], shape: ModelShape) -> Work:
    stage = manifest.stage
    if isinstance(stage, Sft | Distill) and (work := _of_file(stage)) is not None:
        return work
    match stage:
        case Traces():
            return _of_traces(stage, shape)
        case Sft():
            traced = next((_traced(m.stage, shape) for m in manifests if isinstance(m.stage, Traces)), None)
            work = _of_sft(stage, shape.labelled if traced is None else traced, shape)
            return work._replace(encoder_s=encoder.takes_s(manifest, stage))
        case Distill():
            return _of_distill(stage, shape)
        case Rl():
            return _of_rl(stage, shape)


def _brought(stage: Traces) -> int:
    lines = [file.read_text(encoding="utf-8").split("\n") for file in stage.files]
    return sum(bool(line.strip()) for file in lines for line in file)


def _traced(stage: Traces, shape: ModelShape) -> int:
    """Conversations that will have a trace, at most."""
    brought = _brought(stage)
    return min(shape.labelled, max(brought, stage.limit or shape.labelled) if stage.teachers else brought)


def _of_traces(stage: Traces, shape: ModelShape) -> Work:
    """What an endpoint writes costs this machine nothing, and takes as long as it takes."""
    asked = max(0, _traced(stage, shape) - _brought(stage))
    own = sum(isinstance(teacher, PrivilegedTeacher) for teacher in stage.teachers)
    schemas = -(-asked // stage.examples_per_schema)
    return Work(
        read=own * (schemas * shape.schema + asked * (shape.own + _HINT)),
        written=own * asked * stage.samples * ANSWER,
    )


def _of_file(stage: Sft | Distill) -> Work | None:
    """Of a stage that learns from general prompts or from plain texts, under no schema; None of others.

    Raises: StageFailed for a file that the stage could not read either.
    """
    if isinstance(stage, Distill):
        return None if stage.prompts is None else _of_general(stage, stage.prompts)
    if stage.prompts is not None:
        lengths = [_asked(one.messages) + _words(one.response) for one in read_answered(stage.prompts)]
    elif stage.text is not None:
        lengths = [_words(text) for text in read_texts(stage.text)]
    else:
        return None
    steps = stage.max_steps or -(-int(len(lengths) * stage.epochs) // stage.batch_size)
    return Work(
        learned=steps * stage.batch_size * fmean(lengths), at_once=stage.micro_batch_size * max(lengths)
    )


def _of_general(stage: Distill, prompts: Path) -> Work:
    """A response that a prompt may come with is not read: the student writes its own."""
    sequences, asked = stage.steps * stage.batch_size, read_general(prompts, stage.contexts)
    lengths = [_asked(one.messages) for one in asked]
    answer = min(ANSWER, stage.max_new_tokens)
    own, context = fmean(lengths), fmean(_words(one.context) for one in asked)
    return Work(
        read=sequences * (own / stage.rollouts + own + context + answer),
        learned=sequences * (own + answer),
        written=sequences * answer,
        at_once=stage.micro_batch_size * (max(lengths) + answer),
    )


def _asked(messages: Sequence[ChatMessage]) -> float:
    """Tokens of a general prompt, by its characters."""
    return sum(_words(message["content"]) for message in messages) + _FORM


def _words(text: str) -> float:
    return len(text) / _CHARACTERS


def _of_sft(stage: Sft, traced: int, shape: ModelShape) -> Work:
    share = stage.share_at_once
    answer = (1 - share) * ANSWER + share * _AT_ONCE if stage.reasoning else _AT_ONCE
    material = (traced if share < 1 else 0) + (shape.labelled if share else 0)
    steps = stage.max_steps or -(-int(material * stage.epochs) // stage.batch_size)
    return Work(
        learned=steps * stage.batch_size * (shape.schema / stage.sharing + shape.own + answer),
        at_once=stage.micro_batch_size * (shape.schema / stage.sharing + shape.longest + ANSWER),
    )


def _of_distill(stage: Distill, shape: ModelShape) -> Work:
    sequences = stage.steps * stage.batch_size
    schemas = sequences / stage.sharing * shape.schema
    sampled = schemas + sequences / stage.rollouts * shape.own if stage.on_policy else 0.0
    return Work(
        read=sampled + schemas + sequences * (shape.own + 2 * ANSWER),
        learned=schemas + sequences * (shape.own + ANSWER),
        written=sequences * ANSWER if stage.on_policy else 0.0,
        at_once=stage.micro_batch_size * (shape.schema / stage.sharing + shape.longest + ANSWER),
    )


def _of_rl(stage: Rl, shape: ModelShape) -> Work:
    """Every prompt has a drawing of its own."""
    prompts = stage.prompts * (shape.schema + shape.own)
    answers = stage.steps * stage.batch_size * ANSWER
    again = (stage.beta > 0) + (stage.teacher_weight > 0) + (stage.kl_budget is not None)
    groups = max(1.0, stage.micro_batch_size / stage.generations)
    return Work(
        read=prompts + again * (prompts + answers),
        learned=prompts + answers,
        written=answers,
        at_once=groups * (shape.schema + shape.longest) + stage.micro_batch_size * ANSWER,
    )


def _entry(manifest: StageManifest, work: Work, pace: Pace, loaded: Loaded) -> dict[str, Any]:
    cost = _cost(work, pace, manifest.stage.max_seconds)
    return {"stage": manifest.stage.kind, **cost, "memory_bytes": _memory(work, pace, loaded)}


def _cost(work: Work, pace: Pace, lid_s: float | None) -> dict[str, Any]:
    """bounded: max_seconds ends it before it has done everything."""
    of_model = work.read / pace.read + work.learned / pace.learn + work.written / pace.write
    seconds = of_model + work.encoder_s
    within = seconds if lid_s is None else min(seconds, lid_s)
    return {
        "minutes": round((pace.start_s + within) / 60, 1),
        "bounded": within < seconds,
        "tokens": {"read": round(work.read), "learned": round(work.learned), "written": round(work.written)},
    }


def _memory(work: Work, pace: Pace, loaded: Loaded) -> int | None:
    if pace.loaded is None or pace.token is None:
        return None
    sampled = (
        CACHE_BYTES + _weights(loaded) if work.written else 0
    )  # merged weights stand beside the base's own
    beside = _BESIDE if work.learned and not torch.cuda.is_available() else 0
    return int(pace.loaded + beside + max(sampled, work.at_once * pace.token))


# -------------------------------------------------------------------------------------------------------- the probe


def _probe(loaded: Loaded, bf16: bool, start_s: float) -> Pace:
    ids = torch.randint(100, loaded.tokenizer.vocab_size // 2, (_PREFIX + _SUFFIXES * _SUFFIX,)).tolist()
    prefix = ids[:_PREFIX]
    suffixes = [ids[_PREFIX + n * _SUFFIX : _PREFIX + (n + 1) * _SUFFIX] for n in range(_SUFFIXES)]
    model, device = loaded.model, loaded.model.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            model(input_ids=torch.tensor([ids[:16]], device=device))  # the first of everything takes longer
            read_s = _seconds(lambda: model(input_ids=torch.tensor([ids], device=device), logits_to_keep=1))
        before = _memory_now()
        learn_s = _seconds(lambda: _learn(loaded, prefix, suffixes))
        peak = _memory_peak()
    model.zero_grad(set_to_none=True)
    prompts = [[*prefix, *suffixes[n % _SUFFIXES][:8], n + 100] for n in range(_ROWS)]

    def write(tokens: int) -> float:
        how = Sampling(1.0, tokens, _ROWS, bf16)
        return _seconds(lambda: sample(model, prompts, 1, how, [-1], loaded.tokenizer.pad_token_id))

    reading_s = write(1)
    write_s = max(1e-3, write(1 + _NEW) - reading_s)
    token = None if before is None or peak is None else max(0.0, (peak - before) / len(ids))
    return Pace(len(ids) / read_s, len(ids) / learn_s, _ROWS * _NEW / write_s, start_s, before, token)


def _learn(loaded: Loaded, prefix: list[int], suffixes: list[list[int]]) -> None:
    row = row_of([PromptAndCompletion(prefix + suffix[:8], suffix[8:]) for suffix in suffixes])
    batch = Collator(loaded.tokenizer.pad_token_id)([row._asdict()])
    where = loaded.model.device
    inputs = suffixes_of(loaded.model, {name: tensor.to(where) for name, tensor in batch.items()})
    loaded.model(**inputs).loss.backward()


def _seconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - started


def _weights(loaded: Loaded) -> int:
    return sum(p.numel() * p.element_size() for p in loaded.model.parameters())


def _memory_now() -> int | None:
    """Of the GPU where there is one, else of this process; from here on its peak is counted anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _memory_peak() -> int | None:
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _process_age_s() -> float:
    """Since this process was started, imports and all: what every stage's process takes before it begins."""
    started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
