"""What is sampled at once is bounded by tokens, and ends when time is up."""

import pytest

from tests.training.generation.test_sampling_and_scoring import greedy, loaded, prompts
from tests.training.teacher_server import PROMPT, Server, reply, teacher
from training.engine import deadline
from training.engine.deadline import Deadline
from training.engine.model import Loaded
from training.generation import rollouts
from training.generation.rollouts import Rows, Sampling, Watched, batches, pieces, sample
from training.teachers.endpoint import TeacherEndpoint, TeacherRequest

__all__ = ["loaded", "prompts"]
NEW = 10


def planned(prompts: list[list[int]], copies: int, rows: int, cached: int) -> list[Rows]:
    return list(batches(prompts, copies, Sampling(1.0, NEW, rows), cached))


@pytest.mark.parametrize(("rows", "cached"), [(64, 10**6), (8, 10**6), (64, 900)])
def test_a_batch_has_room_for_all_that_it_writes(rows: int, cached: int) -> None:
    prompts = [[n] * (20 + 7 * n) for n in range(12)]
    found = planned(prompts, 4, rows, cached)
    assert sorted(i for batch in found for i in batch.prompts) == list(range(12))
    for batch in found:
        longest = max(len(prompts[i]) for i in batch.prompts) + NEW
        count = len(batch.prompts) * batch.copies
        assert count <= rows and count * longest <= cached


def test_a_prompt_with_more_completions_than_have_room_is_written_in_parts() -> None:
    prompts = [[1] * 90, [2] * 90]
    found = planned(prompts, 8, 64, cached=350)
    assert [batch.copies for batch in found] == [3, 3, 2] * 2
    assert all(len(batch.prompts) == 1 for batch in found)
    assert [batch.copies for batch in planned([[1] * 900], 2, 64, cached=350)] == [1, 1]


def test_what_prompts_begin_with_is_counted_once_in_what_is_read_at_a_time() -> None:
    alike = [[7] * 200 + [n] * 10 for n in range(8)]
    strangers = [[n] * 210 for n in range(8)]
    assert [len(piece) for piece in pieces(alike, 300)] == [8]
    assert [len(piece) for piece in pieces(strangers, 500)] == [2, 2, 2, 2]
    assert [len(piece) for piece in pieces(strangers[:3], 100)] == [1, 1, 1]


@pytest.mark.parametrize("tokens", [1, 400], ids=["each alone", "a few"])
def test_prompts_that_were_read_one_after_another_are_written_as_if_read_at_once(
    tokens: int, loaded: Loaded, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = greedy(loaded, prompts, 2)
    real, reads, written = rollouts._room(loaded.model), [], []
    read, write = rollouts.read, rollouts._write
    monkeypatch.setattr(rollouts, "_room", lambda _model: real._replace(read=tokens))
    monkeypatch.setattr(rollouts, "read", lambda *asked: reads.append(len(asked[1])) or read(*asked))
    monkeypatch.setattr(rollouts, "_write", lambda *asked: written.append(1) or write(*asked))
    assert greedy(loaded, prompts, 2) == once
    assert len(reads) > 1 and sum(reads) == len(prompts) and len(written) == 1


def test_when_time_is_up_what_is_unfinished_has_no_end_and_what_was_not_begun_is_empty(
    loaded: Loaded, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by a second whenever it is looked at: the second batch is cut off, the third not begun."""
    end = loaded.tokenizer.eos_token_id
    whole = greedy(loaded, prompts, 1, rows=2)
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    first, second, third = order[:2], order[2:4], order[4:]
    looks = iter(range(10**6))
    clock = type("Clock", (), {"monotonic": staticmethod(lambda: float(next(looks)))})
    monkeypatch.setattr(deadline, "time", clock)
    # One look before each batch, and one before each token.
    at = 1 + max(len(whole[i]) for i in first) + 1 + 3
    said: list[str] = []
    cut = sample(
        loaded.model, prompts, 1, Sampling(1e-4, 40, 2), [end], 0, Watched(Deadline(at - 0.5), said.append)
    )
    assert [cut[i] for i in first] == [whole[i] for i in first]
    assert [cut[i] for i in second] == [whole[i][: len(cut[i])] for i in second]
    assert all(0 < len(cut[i]) < len(whole[i]) and end not in cut[i] for i in second)
    assert [cut[i] for i in third] == [[], []]
    assert loaded.model.training


@pytest.mark.seconds
def test_an_endpoint_that_answers_too_late_is_not_waited_for(server: Server) -> None:
    import time

    def slowly(number: int, body: object, headers: object) -> tuple[int, dict[str, object]]:
        time.sleep(0.0 if number == 1 else 12.0)
        return 200, reply("in time")

    server.behave = slowly
    started = time.monotonic()
    asking = TeacherEndpoint(teacher(server))
    found = asking.answers([PROMPT, PROMPT, PROMPT], TeacherRequest(1, 0.8, 32), Deadline.after(4.0))
    assert time.monotonic() - started < 11.0
    assert [(one.texts, one.late, one.errored) for one in found] == [
        (["in time"], 0, 0),
        ([], 1, 0),
        ([], 1, 0),
    ]
