"""Locks on files, as several processes hold them."""

import os
import threading
import time
from pathlib import Path

from app.infra import locks


def test_one_at_a_time_has_it_and_a_child_that_inherits_it_keeps_it(tmp_path: Path) -> None:
    first, second = (tmp_path / "lock").open("w"), (tmp_path / "lock").open("w")
    assert locks.take(first)
    assert not locks.take(second)
    inherited = os.dup(first.fileno())
    first.close()
    assert not locks.take_within(second, 0.3)
    threading.Timer(0.3, os.close, [inherited]).start()
    assert locks.take_within(second, 30)
    second.close()


def test_who_gives_up_does_not_wait(tmp_path: Path) -> None:
    holder, other = (tmp_path / "lock").open("w"), (tmp_path / "lock").open("w")
    assert locks.take(holder)
    start = time.monotonic()
    assert not locks.take_within(other, 60, lambda: True)
    assert time.monotonic() - start < 10
