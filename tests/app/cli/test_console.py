"""Progress on a pipe is plain lines, few of them, each with stage, step, elapsed and remaining time."""

import io

from app.cli.console import ConsoleReporter, duration, progress_line


def test_a_line_tells_stage_step_elapsed_and_remaining() -> None:
    assert (
        progress_line("rl", 10, 40, 30.0, 90.0, "reward 0.5")
        == "rl                       10/40  0:30, 1:30 left  reward 0.5"
    )


def test_what_is_left_is_not_guessed() -> None:
    assert progress_line("starting", 0, None, 30.0, None) == "starting                     …  0:30"


def test_minutes_are_not_hours() -> None:
    assert [duration(s) for s in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]


def test_a_pipe_gets_the_first_line_and_the_last_and_not_one_for_every_step() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(stream)
    for step in range(500):
        reporter.update("sft", step, 500)
    reporter.end("sft", "loss 0.1")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("sft")
    assert lines[-1] == "sft                  done in 0:00  loss 0.1"
    assert len(lines) == 2
    assert "\x1b" not in stream.getvalue()


def test_text_in_brackets_is_shown_as_it_is() -> None:
    stream = io.StringIO()
    ConsoleReporter(stream).note("conversation [bold] and [/nonsense]")
    assert stream.getvalue() == "conversation [bold] and [/nonsense]\n"
