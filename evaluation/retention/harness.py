"""Asks a model server general tasks through the lm-evaluation-harness of EleutherAI, which need not be installed.

Every task ends as scores by item or as not measured, with the reason; a task that could not be measured has no score.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from evaluation.retention.tasks import SUITE, TASKS

CHILD = Path(__file__).with_name("child.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
MAX_REASON = 400  # characters


class RetentionError(ValueError):
    """Retention cannot be measured like this; the message says what to do."""


class Task(NamedTuple):
    """name, metric: the harness's. chat: asked as a chat, not as a text to be continued."""

    name: str
    metric: str
    chat: bool


class RetentionNotMeasured(NamedTuple):
    reason: str


Scores: TypeAlias = Mapping[str, float]  # by item
Result: TypeAlias = Scores | RetentionNotMeasured

OWN: Final = (
    Task("steerwise_copy", "exact_match", chat=True),
    Task("steerwise_arithmetic", "exact_match", chat=True),
    Task("steerwise_follow", "exact_match", chat=True),
    Task("steerwise_reading", "acc", chat=True),
)
# What self-distillation fine-tuning was measured by. Those of choices are read as texts, as they mostly are elsewhere.
PUBLIC: Final = (
    Task("hellaswag", "acc_norm", chat=False),
    Task("truthfulqa_mc2", "acc", chat=False),
    Task("mmlu", "acc", chat=False),
    Task("ifeval", "prompt_level_strict_acc", chat=True),
    Task("winogrande", "acc", chat=False),
    Task("humaneval_instruct", "pass@1", chat=True),
)
RUN_MODELS_CODE = frozenset({"humaneval_instruct"})


class Server(NamedTuple):
    """tokenizer: folder with the tokenizer of the models, and with their chat template."""

    base_url: str
    tokenizer: Path


class HarnessLimits(NamedTuple):
    """limit: items of each task, of a group's each part. run_code: whether code that a model wrote may be run here."""

    limit: int | None = None
    concurrency: int = 8
    max_length: int = 2048  # tokens of prompt and response
    run_code: bool = False


ALL_ITEMS = HarnessLimits()


def chosen(names: Sequence[str]) -> tuple[Task, ...]:
    """`own`, `public`, or names. Raises: RetentionError."""
    known = {task.name: (task,) for task in (*OWN, *PUBLIC)} | {"own": OWN, "public": PUBLIC}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise RetentionError(f"there is no task {', '.join(unknown)!r}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(task for name in names for task in known[name]))


def measure(
    server: Server, model: str, tasks: Sequence[Task], asking: HarnessLimits = ALL_ITEMS
) -> dict[str, Result]:
    """A result for each task, by its name. Raises: RetentionError where the harness or the tokenizer is missing."""
    if find_spec("lm_eval") is None:
        raise RetentionError(
            "the lm-evaluation-harness is not installed; install the extra: pip install 'steerwise[retention]'"
        )
    if not (server.tokenizer / "tokenizer.json").exists():
        raise RetentionError(f"{server.tokenizer} has no tokenizer.json; name the folder of the base model")
    refused = [t for t in tasks if t.name in RUN_MODELS_CODE and not asking.run_code]
    found: dict[str, Result] = {
        t.name: RetentionNotMeasured(
            "it runs code that the model wrote on this machine, which has to be allowed"
        )
        for t in refused
    }
    own = [t for t in tasks if t.name in TASKS]
    others = [t for t in tasks if t.name not in TASKS and t not in refused]
    for asked, is_own in ((own, True), (others, False)):
        if asked:
            found |= _in_child(_request(server, model, asked, asking, is_own))
    return {t.name: found[t.name] for t in tasks}


def _request(
    server: Server, model: str, tasks: Sequence[Task], asking: HarnessLimits, own: bool
) -> dict[str, Any]:
    root = server.base_url.rstrip("/").removesuffix("/v1")
    return {
        "model": {
            "model": model,
            "base_url": f"{root}/v1/completions",
            "tokenizer": str(server.tokenizer.resolve()),
            "tokenizer_backend": "huggingface",
            "num_concurrent": asking.concurrency,
            "max_length": asking.max_length,
        },
        "tasks": [task._asdict() for task in tasks],
        "suite": str(SUITE) if own else None,
        "limit": asking.limit,
        "run_code": asking.run_code,
    }


def _in_child(request: dict[str, Any]) -> dict[str, Result]:
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "scores.jsonl"), Path(folder, "log")
        with log.open("wb") as written:
            done = subprocess.run(
                [sys.executable, "-P", str(CHILD)],
                input=json.dumps(request | {"out": str(out)}).encode(),
                stdout=written,
                stderr=written,
                cwd=SUITE,  # its tasks name their data by bare file names
                env=_environment(request, folder),
            )
        lines = out.read_text(encoding="utf-8").split("\n") if out.exists() else []
        said = log.read_text(encoding="utf-8", errors="replace").rstrip() or "it said nothing"
    last = said.rpartition("\n")[2]
    ended = RetentionNotMeasured(
        f"the harness ended early (exit code {done.returncode}): {last[:MAX_REASON]}"
    )
    read = {raw["task"]: _result(raw) for raw in map(json.loads, filter(None, lines))}
    return {task["name"]: read.get(task["name"], ended) for task in request["tasks"]}


def _result(raw: Mapping[str, Any]) -> Result:
    if "scores" not in raw:
        return RetentionNotMeasured(" ".join(raw["not_measured"].split())[:MAX_REASON])
    return raw["scores"] or RetentionNotMeasured("the harness gave no scores")


def _environment(request: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Our own tasks need no network and leave nothing behind; the others may load their data."""
    wanted = OFFLINE | {"HF_DATASETS_CACHE": folder} if request["suite"] else {}
    allowed = {"HF_ALLOW_CODE_EVAL": "1"} if request["run_code"] else {}
    return os.environ | {"TOKENIZERS_PARALLELISM": "false"} | wanted | allowed
