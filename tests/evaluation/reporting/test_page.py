"""The page says the verdict first, needs nothing beside it, and cannot be written into by a tenant's text."""

import json
import re
from html import unescape
from html.parser import HTMLParser

from evaluation.metrics.measures import Measure
from evaluation.reporting import assembly
from evaluation.reporting.page import page
from evaluation.reporting.report import GateReport, Report, Verdict, without_words
from tests.evaluation.whole_report import bare, graded, of_last, redefined, section, whole

VOID = {"meta", "br"}
HOSTILE = "<script>alert(1)</script>&\"'<img onerror=x>"
SECTIONS = [
    "What would have to change",
    "Stages",
    "Kinds of edit, answered by rl",
    "Categories, answered by rl without an edit",
    "What answers did when definitions moved",
    "Can its confidence be believed?",
    "Prompt injection",
    "Through a conversation",
    "Schemas of others",
    "Length of the reasoning",
    "How far it has moved from the base",
    "Provenance",
]


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone() -> None:
    for report in (whole(), bare()):
        text = page.render(report)
        parser = Balanced()
        parser.feed(text)
        assert parser.open == []
        assert {"svg", "table", "dl"} <= parser.seen
        assert "script" not in parser.seen
        assert not re.search(r"(?:src|href)=|url\(|@import", text)
        assert "prefers-color-scheme: dark" in text


def test_the_verdict_and_its_reasons_come_before_the_numbers() -> None:
    gate = graded().gate
    assert gate is not None and gate.verdict is Verdict.failed
    text = unescape(page.render(graded()))
    assert text.index("Failed: this model must not answer users") < text.index("<svg")
    decisive = [check.reason for check in gate.checks if check.verdict is Verdict.failed]
    assert decisive and all(text.index(reason) < text.index("<svg") for reason in decisive)
    undecided = [check.reason for check in gate.checks if check.verdict is Verdict.incomplete]
    assert undecided
    assert max(map(text.index, decisive)) < text.index("Left open") < min(map(text.index, undecided))


def test_an_incomplete_gate_says_first_what_is_open_and_then_what_would_fail() -> None:
    gate = graded().gate
    assert gate is not None
    open_first: GateReport = gate.model_copy(update={"verdict": Verdict.incomplete})
    text = unescape(page.render(graded().model_copy(update={"gate": open_first})))
    last_open = max(text.index(c.reason) for c in gate.checks if c.verdict is Verdict.incomplete)
    first_failed = min(text.index(c.reason) for c in gate.checks if c.verdict is Verdict.failed)
    assert last_open < text.index("would fail") < first_failed


def test_sections_come_in_their_order() -> None:
    assert re.findall(r"<h2>(.*?)</h2>", page.render(whole())) == SECTIONS
    unjudged = whole().model_copy(update={"gate": None})
    assert re.findall(r"<h2>(.*?)</h2>", page.render(unjudged)) == SECTIONS[1:]


def test_how_much_of_the_sample_was_asked_is_said() -> None:
    text = " ".join(page.render(whole()).split())
    assert "2 of 3 were used. Each model answered" in text
    assert f"{whole().stages[-1].items} of {whole().items} questions" in text
    assert "looks, until the verdict" not in page.render(graded())


def test_every_stage_and_family_is_shown_and_what_is_missing_is_said() -> None:
    text = page.render(graded())
    assert all(f">{stage}<small>" in text for stage in ("base", "sft", "rl"))
    assert all(family in text for family in ("swap", "rename", "shuffle", "cycle*", "drop", "merge*"))
    assert "drop*" not in text
    unmeasured = of_last(steerability=Measure(value=None, n=0, ci95=None))
    assert "not measured" in section(page.render(unmeasured), "Stages").split("steerability")[1]


def test_what_is_live_stands_apart_and_is_joined_with_nothing() -> None:
    text = page.render(graded())
    heads = re.findall(r"<th(?: class=\"apart\")?>([\w ]+)<small>", section(text, "Stages"))
    assert heads == ["base", "sft", "rl", "live now"]
    plot = text[text.index("<svg") : text.index("</svg>")]
    lines = re.findall(r'<polyline [^>]*points="([^"]*)"', plot)
    assert [len(points.split()) for points in lines] == [3, 3]
    assert plot.count("<circle") == 8
    alone = graded().model_copy(
        update={"stages": [s for s in graded().stages if s.stage in ("base", "live")]}
    )
    assert "live now" not in page.render(alone)  # the candidate comes last, whatever it is called


def test_a_baseline_stands_beside_the_stages_in_table_and_plot() -> None:
    text = page.render(whole())
    table = section(text, "Stages")
    assert re.search(r"0\.875<small>\[0\.812, 0\.938\] n=140", table)
    heads = re.findall(r"<th(?: class=\"apart\")?>([\w, -]+)<small>", table)
    assert heads == ["base", "sft", "rl", "live now", "TF-IDF, linear"]
    assert "Not measured: embeddings, linear (the package is not installed)." in table
    assert "<title>accuracy: 0.875 [0.812, 0.938], n=140</title>" in text
    assert "baseline" not in page.render(graded()).split("<body>")[1]


def test_the_candidate_is_compared_with_the_others_on_the_same_questions() -> None:
    table = section(page.render(graded()), "Stages").split("Compared on the same")[1]
    assert re.findall(r"<th>(against .*?)</th>", table) == ["against base", "against live now"]
    against_live = graded().stages[-1].compared["live"]
    assert f"{against_live.flip_accuracy.value:+.3f}</span>" in table
    assert f"{against_live.others.flip_accuracy.value:+.3f}</span>" in table
    assert "Compared on the same" not in page.render(bare())


def test_kinds_of_edit_say_whether_they_count_and_why_one_was_left_out() -> None:
    text = page.render(graded())
    table = unescape(section(text, "Kinds of edit"))
    assert re.search(r">novel<small>.*?<span class=\"soft\">no</span>", table, re.DOTALL)
    assert re.search(r">swap<small>(?:(?!</tr>).)*<td>yes</td>", table, re.DOTALL)
    assert graded().left_out
    assert all(f"left out, though it counts: {why}" in table for why in graded().left_out.values())
    plot = text.split("<svg")[2].split("</svg>")[0]
    labels = re.findall(r">([a-z]+)\*?<title>\w+\*?</title></text>", plot)
    assert labels[-3:] == ["novel", "split", "merge"]  # right of the border
    assert 'class="border"' in plot


def test_an_interval_below_0_is_drawn_and_not_cut() -> None:
    text = page.render(of_last(steerability=Measure(value=-0.1, n=40, ci95=(-0.9, 0.1))))
    plot = text[text.index("<svg") : text.index("</svg>")]
    ticks = re.findall(r'dy="4">([-\d.]+)<', plot)
    assert ticks[0] == "-1"
    heights = [float(y) for y in re.findall(r'y[12]="([\d.]+)"', plot)]
    assert max(heights) == 218  # the lowest tick; nothing is drawn below it


def test_every_answer_given_is_in_the_matrix_and_the_right_ones_are_framed() -> None:
    matrix = page.render(graded()).split('<svg class="matrix"')[1].split("</svg>")[0]
    counts = graded().stages[-1].confusion.counts
    assert [int(n) for n in re.findall(r">(\d+)<title>", matrix)] == [n for row in counts for n in row if n]
    assert matrix.count('class="diagonal"') == len(counts)


def test_checks_that_passed_are_said_too() -> None:
    gate = graded().gate
    assert gate is not None
    text = unescape(page.render(graded()))
    assert all(text.count(check.reason) == 1 for check in gate.checks)
    only = [check for check in gate.checks if check.verdict is Verdict.passed]
    passed = gate.model_copy(update={"verdict": Verdict.passed, "checks": only})
    text = unescape(page.render(graded().model_copy(update={"gate": passed})))
    assert all(text.count(check.reason) == 1 for check in only)


def test_an_example_shows_both_categories_that_an_edit_changed() -> None:
    assert {example.right for example in graded().examples} == {True, False}
    example = next(e for e in graded().examples if e.family in ("swap", "cycle"))
    text = unescape(page.render(graded().model_copy(update={"examples": [example]})))
    shown = section(text, "What answers did")
    assert example.customer in shown
    definitions = re.findall(
        r"<tr><th scope=\"row\">(\w+) means</th>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", shown
    )
    [before, after] = definitions
    assert before == (example.gold_before, example.definition_before, example.definition_after)
    assert after[0] == example.gold_after
    assert after[2] == example.definition_before  # it now means what the other one meant


def test_an_example_of_an_edit_that_was_not_kept_still_has_its_definition() -> None:
    lost = graded().examples[0].model_copy(update={"detail": "another", "definition_after": None})
    shown = section(page.render(graded().model_copy(update={"examples": [lost]})), "What answers did")
    assert unescape(shown).count(str(lost.definition_before)) == 1
    assert "no such category" in shown


def test_an_answer_that_could_not_be_read_is_not_shown_as_none_of_these() -> None:
    one = graded().examples[0].model_copy(update={"answer_after": None, "right": False})
    for unreadable in (True, False):
        example = one.model_copy(update={"unreadable_after": unreadable})
        shown = section(page.render(graded().model_copy(update={"examples": [example]})), "What answers did")
        assert shown.count("unreadable") == unreadable


def test_what_customers_wrote_can_be_left_out_and_every_figure_stays() -> None:
    passed_on = without_words(whole())
    text = page.render(passed_on)
    turns = whole().stages[-1].auxiliary.turns  # type: ignore[union-attr]
    assert whole().examples and turns is not None and turns.examples
    written = [e.customer for e in whole().examples] + [t.said for e in turns.examples for t in e.turns]
    assert not any(
        said in text or said in passed_on.model_dump_json() for said in map(str.strip, written) if said
    )
    assert "Left out of this copy" in section(text, "What answers did")
    again = assembly.rescore(passed_on, passed_on.counted)
    assert again.stages[-1].steerability == whole().stages[-1].steerability


def test_includes_and_excludes_are_shown_with_a_definition() -> None:
    example = next(e for e in graded().examples if e.family in ("swap", "cycle"))
    report = redefined(lambda _, family: {"includes": (f"{family} only",)})
    shown = section(page.render(report.model_copy(update={"examples": [example]})), "What answers did")
    assert shown.count("Includes: identity only.") == shown.count(f"Includes: {example.family} only.") == 2


def test_a_section_without_data_says_so_in_one_line() -> None:
    text = page.render(bare())
    assert re.findall(r"<h2>(.*?)</h2>", text) == SECTIONS[1:]
    for heading in (*SECTIONS[4:11], "What answers did"):
        shown = section(text, heading)
        assert "<table" not in shown and shown.count("<p") == 1, heading
    assert "No policy has judged this report." in text


def test_provenance_names_policy_families_and_looks() -> None:
    shown = section(page.render(whole()), "Provenance")
    gate = whole().gate
    assert gate is not None and gate.policy_sha256 in shown
    assert ", ".join(whole().counted) in shown
    assert "planned after 40 %, 70 %, 100 %" in shown
    assert all(version in shown for version in whole().versions.values())


def test_no_text_of_anybodys_is_obeyed() -> None:
    """Every string of a report that nothing is looked up by is markup."""
    told = json.loads(whole().model_dump_json())
    kept = {
        "stage",
        "verdict",
        "family",
        "outcome",
        "place",
        "kind",
        "language",
        "encoding",
        "naming",
        "method",
        "mode",
    }

    def poison(value: object, name: str = "") -> object:
        if isinstance(value, dict):
            return {key: poison(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [poison(one, name) for one in value]
        return HOSTILE if isinstance(value, str) and name not in kept else value

    poisoned = {
        name: value if name in ("suite", "counted") else poison(value, name) for name, value in told.items()
    }
    for stage, original in zip(poisoned["stages"], told["stages"], strict=True):
        stage["sample_scores"] = original["sample_scores"]
    poisoned["left_out"] = {HOSTILE: HOSTILE}
    poisoned["versions"] = {HOSTILE: HOSTILE}
    poisoned["baselines"] = {f"{HOSTILE}_accuracy": whole().baselines["tfidf_accuracy"].model_dump()}
    for stage in poisoned["out_of_distribution"]["stages"]:
        stage["per_schema"] = {HOSTILE: Measure(value=0.5, n=2, ci95=None).model_dump()}
    poisoned["stages"][-1]["auxiliary"]["calibration"] |= {"method": "none", "reason": HOSTILE}
    families = poisoned["stages"][-1]["per_family"]
    families[HOSTILE] = families.pop("drop")
    text = page.render(Report.model_validate(poisoned))
    parser = Balanced()
    parser.feed(text)
    assert not {"script", "img"} & parser.seen
    assert "<script" not in text and "<img" not in text
    for heading in SECTIONS[2:9] + SECTIONS[10:]:  # the first and the ninth hold words of ours alone
        assert "&lt;script&gt;" in section(text, heading), heading


def test_a_hostile_definition_is_shown_and_not_obeyed() -> None:
    text = page.render(redefined(lambda *_: {"definition": HOSTILE}))
    assert "<script" not in text
    assert "&lt;script&gt;" in section(text, "What answers did")
