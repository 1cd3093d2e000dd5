"""What was asked beside the suite is on the page too, or why it is not."""

import re
from html import unescape

from evaluation.metrics.auto_threshold import AutoThreshold
from evaluation.metrics.divergence import Divergence
from evaluation.metrics.measures import Measure, rate
from evaluation.metrics.turns import TurnsReport
from evaluation.reporting.page import page
from tests.evaluation.whole_report import section, whole, with_auxiliary


def test_calibration_shows_both_curves_and_every_threshold() -> None:
    shown = section(page.render(whole()), "Can its confidence")
    assert shown.count("<svg") == 2
    assert all(f'scope="row">{wanted} %<' in shown for wanted in ("90", "95", "99"))
    assert "<th>before</th><th>after</th>" in shown
    assert "no threshold could promise it" in shown
    assert "in 90 of 100 cases" in shown


def test_calibration_that_was_not_fitted_says_why() -> None:
    made = whole().stages[-1].auxiliary
    assert made is not None and made.calibration is not None
    unfitted = made.calibration.model_copy(update={"method": "none", "reason": "only 12 conversations"})
    shown = section(page.render(with_auxiliary(calibration=unfitted)), "Can its confidence")
    assert "only 12 conversations" in shown
    assert "<th>after</th>" not in shown
    nothing = unfitted.model_copy(update={"n": 0})
    assert "nothing to show" in section(
        page.render(with_auxiliary(calibration=nothing)), "Can its confidence"
    )


def test_mode_autos_threshold_is_told_with_what_it_brings_or_why_there_is_none() -> None:
    assert "Mode auto" not in section(page.render(whole()), "Can its confidence")
    found = AutoThreshold(
        value=0.625, reason=None, n=80, asked_again=rate(24, 80), fast=rate(60, 80), reasoned=rate(64, 80),
        auto=rate(68, 80),
    )  # fmt: skip
    shown = " ".join(section(page.render(with_auxiliary(auto=found)), "Can its confidence").split())
    assert "not surer than 0.625" in shown and "30 of 100" in shown
    assert "0.750 at once, 0.800 with reasoning and 0.850 so" in shown
    none = found.model_copy(update={"value": None, "reason": "12 conversations; 50 are needed"})
    assert "12 conversations; 50 are needed" in section(
        page.render(with_auxiliary(auto=none)), "Can its confidence"
    )


def test_injection_stands_side_by_side_for_the_candidate_and_the_base() -> None:
    shown = section(page.render(whole()), "Prompt injection")
    assert re.findall(r'colspan="2">([\w ]+)</th>', shown) == ["rl", "base", "live now"]
    base = whole().stages[0].auxiliary
    assert base is not None
    assert f"{base.injection.success.value:.3f}<small>" in shown
    english = base.injection.by_language["en"].disturbed
    assert english.value is not None
    row = re.split(r'scope="row">', shown.split("English")[1])[0]
    assert row.count('<span class="soft">of ') == 6
    assert f'{round(english.value * english.n)} <span class="soft">of {english.n}</span>' in row
    assert [f"{one} → size" in shown for one in ("none of these", "refund")] == [True, True]
    quiet = whole().stages[-1].auxiliary
    assert quiet is not None
    nobody = quiet.injection.model_copy(update={"examples": []})
    assert "None did." in page.render(with_auxiliary(injection=nobody))


def test_a_conversation_is_shown_turn_by_turn() -> None:
    shown = section(page.render(whole()), "Through a conversation")
    assert (
        shown.index("a question about my order")
        < shown.index("in pieces")
        < shown.index("so I want my money back")
    )
    assert '<b class="bad">unreadable</b>' in shown
    assert '<b class="">none of these</b>' in shown  # what was right so early is not known


def test_schemas_of_others_are_shown_by_stage() -> None:
    out_of_distribution = whole().out_of_distribution
    assert out_of_distribution is not None
    shown = unescape(section(page.render(whole()), "Schemas of others"))
    assert re.findall(r'scope="row">([\w ]+)</th>', shown) == ["base", "live now", "rl"]
    assert all(name in shown for name in out_of_distribution.stages[0].per_schema)


def test_divergence_is_shown_and_why_some_of_it_is_missing() -> None:
    shown = section(page.render(whole()), "How far it has moved")
    assert "0.039<small>[0.035, 0.044] n=4100</small>" in shown
    assert "503: the model server is starting" in shown
    assert section(page.render(whole()), "Length of the reasoning").count('scope="row"') == 4


def test_auxiliary_suites_that_found_nothing_are_shown_without_numbers() -> None:
    nothing = Measure(value=None, n=0, ci95=None)
    found = whole().stages[-1].auxiliary
    assert found is not None and found.turns is not None and found.divergence is not None
    no_turns: TurnsReport = found.turns.model_copy(update={"conversations": 0, "examples": []})
    unscored = {f"k{k}_per_{of}": nothing for k in (1, 3) for of in ("token", "response")}
    failed: Divergence = found.divergence.model_copy(
        update=unscored | {"truncated": nothing, "errored": rate(120, 120)}
    )
    unasked = found.injection.model_copy(update={"attacks": 0})
    report = with_auxiliary(turns=no_turns, divergence=failed, injection=unasked)
    text = page.render(report.model_copy(update={"stages": report.stages[-1:]}))
    assert "503: the model server is starting" in section(text, "How far it has moved")
    assert "<table" not in section(text, "How far it has moved")
    assert "Not measured" in section(text, "Through a conversation")
    assert "No attack could be put" in section(text, "Prompt injection")
