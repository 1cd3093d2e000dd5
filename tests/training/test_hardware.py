"""Memory that was freed is the system's again."""

import resource
import sys
from pathlib import Path

import pytest
import torch

from training.hardware import give_back_memory


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_freed_memory_goes_back_to_the_system() -> None:
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    small = [torch.ones(12_000) for _ in range(4_000)]  # 190 MB in pieces that malloc keeps
    full = held()
    last = small.pop()  # above the others, so that nothing below it is given back by itself
    small.clear()
    give_back_memory()
    assert held() < full - 100e6
    assert last.sum() == 12_000
