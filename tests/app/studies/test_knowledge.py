"""Invented facts: what of them is learned, what is asked, and what counts as known."""

import json
from pathlib import Path

import pytest

from app.errors import InputError
from app.serving.base import STARTER, find_base
from app.studies import knowledge, matrix
from app.studies.knowledge import FactQuestionKind, Knowledge, ToldFact
from app.studies.preparing import PreparedStudy, StudyFolder, prepare
from tests.app.studies.shipped import training_study
from training.config import Distill, Sft

KNOWN = knowledge.read("velmarsh_bikes")
FACT = {
    "id": "door",
    "texts": ["The door is mauve."],
    "question": "What colour is the door?",
    "answer": "It is mauve.",
    "accepted": [["mauve"]],
    "paraphrased": ["How is the door painted?"],
    "indirect": ["Which paint do I buy for the door?"],
}


def prepared(folder: Path) -> PreparedStudy:
    study = training_study("knowledge")
    return prepare(study, StudyFolder(0, find_base(STARTER), folder, ""))


def test_the_facts_that_ship_are_asked_in_every_way() -> None:
    asked = knowledge.questions(KNOWN)
    counts = {kind: sum(question.kind is kind for question in asked) for kind in FactQuestionKind}
    assert counts == {
        FactQuestionKind.strict: 40,
        FactQuestionKind.paraphrased: 80,
        FactQuestionKind.indirect: 40,
    }
    assert len({question.text for question in asked}) == len({q.id for q in asked}) == len(asked)


def test_no_question_is_practised_but_the_strict_ones() -> None:
    rows = knowledge.written(KNOWN)
    practised = {row["messages"][-1]["content"] for row in rows[knowledge.PROMPTS]}
    asked = knowledge.questions(KNOWN)
    assert practised == {question.text for question in asked if question.kind is FactQuestionKind.strict}
    read = " ".join(row["text"] for row in rows[knowledge.TEXTS])
    assert not any(question.text in read for question in asked)


def test_a_teacher_is_shown_what_its_name_says_of_the_very_fact() -> None:
    rows = knowledge.written(KNOWN)
    shown = (knowledge.SHOWN_TEXT, knowledge.SHOWN_ANSWER, knowledge.SHOWN_BOTH)
    by_name = {name: {row["id"]: row["text"] for row in rows[name]} for name in shown}
    for fact in KNOWN.facts:
        text, answer = by_name[knowledge.SHOWN_TEXT][fact.id], by_name[knowledge.SHOWN_ANSWER][fact.id]
        assert text == fact.texts[0] and answer == f"{fact.question} {fact.answer}"
        assert by_name[knowledge.SHOWN_BOTH][fact.id] == f"{text}\n{answer}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "It is blue."}, "does not say what is accepted"),
        ({"indirect": ["Is mauve paint for the door?"]}, "this question says its answer"),
        ({"paraphrased": []}, "at least 1 item"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_facts_that_cannot_be_judged_are_refused(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"about": "a house", "facts": [FACT]}))
    assert knowledge.read(str(file)).facts[0].id == "door"
    file.write_text(json.dumps({"about": "a house", "facts": [FACT | change]}))
    with pytest.raises(InputError) as caught:
        knowledge.read(str(file))
    assert said in "".join(caught.value.details)


def test_facts_that_are_told_twice_or_are_not_there_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"about": "a house", "facts": [FACT, FACT]}))
    with pytest.raises(InputError, match="cannot be used"):
        knowledge.read(str(file))
    with pytest.raises(InputError, match="no facts 'nowhere'"):
        knowledge.read("nowhere")
    study = training_study("knowledge").model_copy(update={"knowledge": "nowhere"})
    with pytest.raises(InputError, match="no facts 'nowhere'"):
        matrix.check(study)


def test_what_is_known_is_counted_by_kind() -> None:
    known = Knowledge.model_validate({"about": "a house", "facts": [FACT]})
    asked = knowledge.questions(known)
    told = [
        ToldFact(id=q.id, text="mauve" if q.kind is not FactQuestionKind.indirect else "no idea")
        for q in asked
    ]
    found = knowledge.rightly_told(asked, told)
    assert found == {"strict": [True], "paraphrased": [True], "indirect": [False]}


def test_every_arm_makes_as_many_updates_and_reads_its_own_file(tmp_path: Path) -> None:
    found = prepared(tmp_path)
    updates, read = {}, {}
    for name, chain in found.chains.items():
        stages = [manifest.stage for manifest in chain.stages]
        learning = [stage for stage in stages if isinstance(stage, Sft | Distill)]
        updates[name] = sum(s.max_steps or 0 if isinstance(s, Sft) else s.steps for s in learning)
        read[name] = [Path(str(s.contexts)).name for s in stages if isinstance(s, Distill)]
        for stage in stages:
            assert isinstance(stage, Sft | Distill)
            given = (stage.prompts, stage.text if isinstance(stage, Sft) else stage.contexts)
            for file in filter(None, given):
                assert file.is_file() and file.is_absolute()
    assert set(updates.values()) == {0, 40} and updates["base"] == 0
    assert read["SDFT, shown both"] == [knowledge.SHOWN_BOTH]


@pytest.mark.seconds
def test_other_facts_are_another_result(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"about": "a house", "facts": [FACT]}))
    one = prepared(tmp_path / "out")
    study = training_study("knowledge").model_copy(update={"knowledge": str(file)})
    other = prepare(study, StudyFolder(0, find_base(STARTER), tmp_path / "out", ""))
    assert one.key != other.key and prepared(tmp_path / "out").key == one.key
    before = {m.out.name for chain in one.chains.values() for m in chain.stages}
    assert not before & {m.out.name for chain in other.chains.values() for m in chain.stages}
