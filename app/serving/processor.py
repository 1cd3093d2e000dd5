"""What this machine's processor can do, without torch."""

import os
from pathlib import Path

_BF16 = {"avx512_bf16", "amx_bf16"}  # without these, products in bf16 are ten times slower than in fp32
_CPUINFO = Path("/proc/cpuinfo")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """In hardware. A machine that does not say is taken to have none."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(_BF16 & set(flags))
