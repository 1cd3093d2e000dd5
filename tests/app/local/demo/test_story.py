"""The demo on a product that runs: the API, the worker, the dispatcher and Redis are real, training takes no time."""

import json
from pathlib import Path

import pytest

from app.cli.client.api import Api
from app.cli.console import ConsoleReporter
from app.local.demo import story
from app.local.demo.tenant import Demo
from app.runs.presets import Preset
from evaluation.reporting.report import Verdict
from tests.app.local.playing import playing
from tests.evaluation.models import habit
from tests.evaluation.shop import SCHEMA, conversations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DEMO = Demo(SCHEMA, list(conversations()), Preset.cpu, 0)  # whose gate asks enough to pass


def test_a_tenant_is_trained_for_and_its_edit_is_followed_also_the_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with playing(tmp_path) as product:
        assert story.tell(product.place, DEMO, tmp_path, ConsoleReporter()) is Verdict.passed
        told = capsys.readouterr().out
        assert "gate: passed" in told
        assert "2 of 2 answers moved with the definitions." in told
        assert "schema version 1" in told and "schema version 2" in told and "provisional" in told
        report = json.loads((tmp_path / "report.json").read_text())
        assert [stage["stage"] for stage in report["stages"]] == ["base", "sft", "distill", "rl"]
        assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")

        assert story.tell(product.place, DEMO, tmp_path, ConsoleReporter()) is Verdict.passed
        # The same edit again: followed, or, where its gate has ended meanwhile, said to have been taken back.
        again = capsys.readouterr().out
        assert ("2 of 2 answers moved with the definitions." in again) is not ("it was taken back" in again)
        with Api(product.place._replace(tenant=DEMO.name)) as api:
            assert len(api.pages("/v1/runs")) == 1


def test_a_model_that_fails_its_gate_is_not_deployed_and_the_edit_is_shown_on_the_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with playing(tmp_path, habit()) as product:
        assert story.tell(product.place, DEMO, tmp_path, ConsoleReporter()) is Verdict.failed
        told = capsys.readouterr().out
        assert "gate: failed" in told and "Nothing is deployed" in told
        shown = told.partition("Nothing is deployed")[2]
        assert shown.count("no gate has examined it") == 4 and "provisional" not in shown
        assert "schema version 1" in shown and "schema version 2" in shown
        with Api(product.place._replace(tenant=DEMO.name)) as api:
            assert api.pages("/v1/deployments") == []
