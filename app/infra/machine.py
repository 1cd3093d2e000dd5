"""What this machine has for a stage of training: its GPUs, or the memory that this process may use."""

import os
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

_QUERY = ("nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
_QUERY_TIMEOUT_S = 20.0  # a driver that wakes up takes its time
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
MOST_SLOT = 200  # characters
LIBRARIES = ("torch", "transformers", "trl", "peft", "vllm")


class Gpu(NamedTuple):
    """uuid: no other GPU anywhere has it."""

    uuid: str
    name: str
    memory_bytes: int


class Machine(NamedTuple):
    """memory_bytes: of the machine, or as much of it as a container may use."""

    memory_bytes: int
    gpus: tuple[Gpu, ...]

    @property
    def room_bytes(self) -> int:
        """For a stage, which has all of its model on each GPU that it uses; the smallest of several counts."""
        return min((gpu.memory_bytes for gpu in self.gpus), default=self.memory_bytes)

    @property
    def slot(self) -> str | None:
        """Where a stage runs: workers that see the same GPUs have one between them. None without a GPU."""
        return ",".join(sorted(gpu.uuid for gpu in self.gpus))[:MOST_SLOT] or None


def machine(*, on_gpu: bool) -> Machine:
    """on_gpu: whether stages use the GPUs of this machine, if it has some."""
    return Machine(_memory_bytes(_LIMITS), _gpus() if on_gpu else ())


def libraries() -> dict[str, str]:
    """Versions of what stages are made of, as far as it is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _memory_bytes(limits: tuple[Path, ...]) -> int:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in limits:
        try:
            return min(whole, int(limit.read_text()))
        except (OSError, ValueError):  # no container, or no limit: `max`
            continue
    return whole


def _gpus() -> tuple[Gpu, ...]:
    """As the driver tells of them, and not torch, which would take memory on each of them. Those that this process is
    allowed to see."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    which = [] if chosen is None else [f"--id={chosen}"]
    if chosen == "":
        return ()
    try:
        asked = subprocess.run(
            [*_QUERY, *which], capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parsed(asked.stdout)


def parsed(printed: str) -> tuple[Gpu, ...]:
    """printed: an id, a name and a number of MiB a line."""
    found = []
    for line in printed.split("\n"):
        named, _, mib = line.rpartition(",")
        uuid, _, name = named.partition(",")
        if name and mib.strip().isdigit():
            found.append(Gpu(uuid.strip(), name.strip(), int(mib) << 20))
    return tuple(found)


def as_json(found: Machine) -> dict[str, Any]:
    return {"memory_bytes": found.memory_bytes, "gpus": [gpu._asdict() for gpu in found.gpus]}
