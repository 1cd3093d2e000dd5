"""What holds for every test: no network, one thread a process, and a time limit by its marker."""

import inspect
import os
from functools import cache
from types import ModuleType

import pytest

from training.protocol import SHARED_CORES

# Before any test imports torch or a tokenizer, and inherited by every child process.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "STEERWISE_BASE", "starter"
)  # tiny, and in the project: the base that ships is built first
for name, value in SHARED_CORES.items():
    os.environ.setdefault(name, value)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; two of them with a thread pool each are slower than one alone.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

EVALUATIONS = {"tests.evaluation.evaluation_run", "tests.evaluation.whole_report"}
LIMIT_S = {"e2e": 1200, "slow": 600, "fault": 600}


@pytest.hookimpl(tryfirst=True)  # xdist reads the group in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _asks_postgres(item):
            item.add_marker("postgres")
        markers = [name for name in LIMIT_S if item.get_closest_marker(name)]
        if markers and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(max(LIMIT_S[name] for name in markers)))
        if "e2e" in markers:
            # One after the other: each starts a vLLM, and two would time out over the same memory and cores.
            item.add_marker(pytest.mark.xdist_group("e2e"))
        elif _looks_at_an_evaluation(item):
            # Made once a process, in seconds, and kept: each other worker would make it once more.
            item.add_marker(pytest.mark.xdist_group("evaluations"))
            item.add_marker("seconds")


def pytest_make_parametrize_id(val: object) -> str | None:
    """By default the whole of it, and each worker tells the names of all its tests: some texts have 200 KB."""
    return f"{ascii(val[:40])[1:-1]}... ({len(val)})" if isinstance(val, str) and len(val) > 200 else None


def _looks_at_an_evaluation(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and _imports_evaluations(item.module)


@cache
def _imports_evaluations(module: ModuleType) -> bool:
    return any(getattr(one, "__module__", None) in EVALUATIONS for one in vars(module).values())


def _asks_postgres(item: pytest.Item) -> bool:
    """By its parameter, or because it wants a fixture that is nothing else."""
    parameters = getattr(item, "callspec", None)
    if parameters is not None and "postgresql" in parameters.params.values():
        return True
    if not isinstance(item, pytest.Function):
        return False
    wanted = [one.annotation for one in inspect.signature(item.function).parameters.values()]
    places = [one for one in wanted if getattr(one, "__module__", None) == "tests.servers.postgres"]
    return bool(places) or "postgresql" in item.fixturenames
