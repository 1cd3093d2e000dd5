"""The page says the verdict first, needs nothing beside it, and cannot be written into by a tenant's text."""

import re
from html import unescape
from html.parser import HTMLParser

from evaluation import gate, page
from evaluation.measures import Measure
from evaluation.policy import load_policy
from evaluation.report import Report
from tests.evaluation import models
from tests.evaluation.examine import examined

VOID = {"meta", "br"}
TFIDF = Measure(value=0.875, n=140, ci95=(0.8125, 0.9375))


def judged() -> Report:
    made = examined({"base": models.oracle(), "sft": models.habit(), "rl": models.name_reader()})
    return made.model_copy(update={"gate": gate.decide(made, load_policy())})


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
    text = page.render(judged())
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert {"svg", "table", "article"} <= parser.seen
    assert "script" not in parser.seen
    assert not re.search(r"(?:src|href)=|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text


def test_the_verdict_and_its_reasons_come_before_the_numbers() -> None:
    made = judged()
    text = page.render(made)
    assert made.gate is not None
    assert text.index("Failed: this model must not answer users") < text.index("<svg")
    assert all(reason.split(" (")[0] in text for reason in made.gate.reasons)


def test_every_stage_and_family_is_shown_and_what_is_missing_is_said() -> None:
    text = page.render(judged())
    assert all(f"<th>{stage}" in text for stage in ("base", "sft", "rl"))
    assert all(family in text for family in ("swap", "rename", "shuffle", "cycle*", "drop*"))
    one = examined({"rl": models.oracle()})
    unmeasured = one.stages[0].model_copy(
        update={"steerability": one.stages[0].per_family["shuffle"].steerability}
    )
    assert "not measured" in page.render(one.model_copy(update={"stages": [unmeasured]}))


def test_a_baseline_stands_beside_the_stages_in_table_and_plot() -> None:
    made = judged().model_copy(update={"baselines": {"tfidf_accuracy": TFIDF}})
    text = page.render(made)
    table = text[text.index("<h2>Stages") :]
    heads = re.findall(r"<th(?: class=\"baseline\")?>(\w+)<small>", table)
    assert heads[:4] == ["base", "sft", "rl", "tfidf"]
    assert re.search(r"0\.875<small>\[0\.812, 0\.938\] n=140", table)
    assert "<title>accuracy: 0.875 [0.812, 0.938], n=140</title>" in text
    assert 'class="border"' in text
    assert "baseline" not in page.render(judged()).split("<body>")[1]


def test_an_interval_below_0_is_drawn_and_not_cut() -> None:
    made = judged()
    negative = Measure(value=-0.1, n=40, ci95=(-0.3, 0.1))
    last = made.stages[-1].model_copy(update={"steerability": negative})
    text = page.render(made.model_copy(update={"stages": [*made.stages[:-1], last]}))
    plot = text[text.index("<svg") : text.index("</svg>")]
    ticks = re.findall(r'dy="4">([-\d.]+)<', plot)
    assert ticks[0] == "-0.5"
    heights = [float(y) for y in re.findall(r'y[12]="([\d.]+)"', plot)]
    assert max(heights) == 218  # the lowest tick; nothing is drawn below it


def test_every_answer_given_is_in_the_matrix_and_the_right_ones_are_framed() -> None:
    made = judged()
    matrix = page.render(made).split('<svg class="matrix"')[1].split("</svg>")[0]
    counts = made.stages[-1].confusion.counts
    assert [int(n) for n in re.findall(r">(\d+)<title>", matrix)] == [n for row in counts for n in row if n]
    assert matrix.count('class="diagonal"') == len(counts)


def test_checks_that_passed_are_said_too() -> None:
    made = judged()
    assert made.gate is not None
    text = unescape(page.render(made))
    assert all(check.reason in text for check in made.gate.checks)


def test_examples_show_the_definition_before_and_after() -> None:
    made = judged()
    assert {example.right for example in made.examples} == {True, False}
    example = made.examples[0]
    assert example.definition_before != example.definition_after
    assert example.customer in unescape(page.render(made))


def test_a_tenants_text_is_shown_and_not_obeyed() -> None:
    made = judged()
    hostile = made.examples[0].model_copy(update={"customer": "<script>alert(1)</script>"})
    text = page.render(made.model_copy(update={"examples": [hostile], "tenant": "<img onerror=x>"}))
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
