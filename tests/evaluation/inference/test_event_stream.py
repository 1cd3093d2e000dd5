"""Server-sent events are cut where the standard says, and what is written is one line whatever stands in it."""

import json
from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.inference import event_stream

ODD = "where\u2028is\u2029my\x85parcel\x1c\x0b"


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_only_line_ends_end_lines_wherever_blocks_end(end: str, size: int) -> None:
    content = end.join(["data: é" + ODD, "", ": x", "half"]).encode()
    expected = ["data: é" + ODD, "", ": x", "half"]
    assert list(event_stream.lines(cut(content, size))) == expected

    async def both() -> list[str]:
        async def blocks() -> AsyncIterator[bytes]:
            for block in cut(content, size):
                yield block

        return [line async for line in event_stream.async_lines(blocks())]

    assert anyio.run(both) == expected


@given(st.text())
def test_what_is_written_is_one_line_of_data_even_for_careless_readers(text: str) -> None:
    text = text.encode(errors="ignore").decode()
    sent = event_stream.written(json.dumps({"text": text + ODD}, ensure_ascii=False), "answer", "7").decode()
    for lines in (sent.split("\n"), sent.splitlines()):
        assert [line.partition(":")[0] for line in lines[:3]] == ["id", "event", "data"]
        assert json.loads(lines[2].removeprefix("data: ")) == {"text": text + ODD}


def test_data_of_several_lines_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="one line"):
        event_stream.written('{\n"a": 1}', "answer")


def test_a_comment_is_no_event() -> None:
    assert event_stream.comment("here") == b": here\n\n"
