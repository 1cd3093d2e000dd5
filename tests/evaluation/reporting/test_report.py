"""What a report says of its stages, and what it leaves open."""

from evaluation.reporting.assembly import StageRun, assemble
from evaluation.reporting.page import page
from tests.evaluation import models
from tests.evaluation.evaluation_run import run, suite
from tests.evaluation.fake_server import FakeServer


def test_the_length_of_answers_is_that_of_the_counted_ones_and_unmeasured_where_none_was() -> None:
    benchmark = suite(100)
    lengths = {}
    for counted in (None, 30, 0):
        measured = run(FakeServer(models.oracle(), counted=counted), benchmark)
        made = assemble("shop", benchmark, [StageRun("rl", "fake", measured)])
        lengths[counted] = made.stages[0].completion_tokens
        assert ("not measured" in page.render(made).split("tokens per answer")[1][:200]) is (counted == 0)
    assert (lengths[None].n, lengths[30].n, lengths[0].n) == (len(benchmark.items), 30, 0)
    assert lengths[0].value is None
    assert lengths[30].value is not None and lengths[30].value > 5
