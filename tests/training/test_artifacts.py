import errno
import json
from pathlib import Path

import pytest

from training.artifacts import StageCancelled, StageFailed, failure_of, write_json
from training.engine.progress import EventWriter
from training.protocol import FailureCode


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FailureCode.disk_full),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FailureCode.disk_full),
        (MemoryError(), FailureCode.out_of_memory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), FailureCode.out_of_memory),
        (OSError(errno.EACCES, "Permission denied"), FailureCode.unexpected_error),
        (StageCancelled(), FailureCode.cancelled),
        (StageFailed(FailureCode.no_traces, "none"), FailureCode.no_traces),
    ],
)
def test_an_error_gets_the_code_of_what_it_means(error: BaseException, code: FailureCode) -> None:
    assert failure_of(error).code is code


def test_a_stop_over_which_a_library_broke_down_is_a_stop() -> None:
    def tidy_up() -> None:
        try:
            raise StageCancelled
        finally:
            list[str]().remove("a hook")

    with pytest.raises(ValueError) as caught:
        tidy_up()
    assert failure_of(caught.value).code is FailureCode.cancelled


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_events_are_lines_and_a_value_that_is_no_number_is_null_and_not_zero(tmp_path: Path) -> None:
    events = EventWriter(tmp_path, "rl")
    events.write("metric", step=3, total_steps=9, metrics={"loss": float("nan"), "reward": 0.5})
    EventWriter(tmp_path, "rl").write("finished", message="done")
    first, second = (json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines())
    assert (first["step"], first["loss"], first["reward"], second["message"]) == (3, None, 0.5, "done")
