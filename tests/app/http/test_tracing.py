"""A trace that a caller began goes on through us; what is no trace begins a new one."""

import pytest

from app.infra.tracing import trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_the_callers_trace_goes_on_with_a_span_of_ours_for_each_call() -> None:
    trace = trace_of(f"00-{TRACE}-{SPAN}-01")
    calls = {trace.traceparent() for _ in range(3)}
    assert len(calls) == 3
    for call in calls:
        version, trace_id, span, flags = call.split("-")
        assert (version, trace_id, flags) == ("00", TRACE, "01")
        assert len(span) == 16 and span != SPAN


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "00-abc-def-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_trace_begins_a_new_one(given: str | None) -> None:
    trace = trace_of(given)
    assert trace.trace_id != TRACE and len(trace.trace_id) == 32
    assert trace_of(trace.traceparent()) == trace


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert trace_of(f"01-{TRACE}-{SPAN}-03-more").trace_id == TRACE
