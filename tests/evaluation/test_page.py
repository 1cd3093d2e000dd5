"""The page says the verdict first, needs nothing beside it, and cannot be written into by a tenant's text."""

import re
from html.parser import HTMLParser

from evaluation import gate, page
from evaluation.report import Report
from tests.evaluation import models
from tests.evaluation.examine import examined

VOID = {"meta", "br"}


def judged() -> Report:
    made = examined({"base": models.oracle(), "sft": models.habit(), "rl": models.name_reader()})
    return made.model_copy(update={"gate": gate.decide(made, gate.load_policy())})


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


def test_examples_show_the_definition_before_and_after() -> None:
    made = judged()
    assert {example.right for example in made.examples} == {True, False}
    example = made.examples[0]
    assert example.definition_before != example.definition_after
    assert example.customer in page.render(made).replace("&#x27;", "'")


def test_a_tenants_text_is_shown_and_not_obeyed() -> None:
    made = judged()
    hostile = made.examples[0].model_copy(update={"customer": "<script>alert(1)</script>"})
    text = page.render(made.model_copy(update={"examples": [hostile], "tenant": "<img onerror=x>"}))
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
