"""Who says what a held-out conversation says is not learned from."""

import pytest

from evaluation.contract import overlap
from evaluation.contract.overlap import normalised, parted, refused
from evaluation.contract.record import Conversation, Split


def said(*texts: str, name: str = "c", category: str = "refund", agent: str | None = None) -> Conversation:
    messages = [{"role": "customer", "text": text} for text in texts]
    if agent is not None:
        messages.insert(0, {"role": "agent", "text": agent})
    return Conversation.model_validate({"id": name, "messages": messages, "category": category})


@pytest.mark.parametrize(
    "learned",
    [
        said("where is my ORDER"),
        said("Where is my order?!", agent="Hello, how can I help?"),
        said("where  is\nmy order", category="delivery"),
        said("Where is my order?", "", " "),
    ],
)
def test_what_says_the_same_as_a_held_out_conversation_is_refused(learned: Conversation) -> None:
    assert refused([learned], [said("Where is my order?", name="t")]) == [learned]


def test_a_template_with_another_number_says_the_same() -> None:
    assert refused([said("order 1234 is late")], [said("Order 98, is late", name="t")])


@pytest.mark.parametrize(
    "learned", [said("where is my other order"), said("where is", "my order"), said("?!"), said("👍")]
)
def test_what_says_something_else_may_be_learned_from(learned: Conversation) -> None:
    assert refused([learned], [said("where is my order", name="t"), said("👎", name="u")]) == []


def test_both_learned_splits_give_way_to_both_held_out_ones() -> None:
    splits = {
        Split.train: [said("late", name="a"), said("lost", name="b"), said("Late!", name="c")],
        Split.validation: [said("broken", name="d"), said("lost", name="e")],
        Split.calibration: [said("broken", name="f")],
        Split.test: [said("late", name="g"), said("late", name="h"), said("broken", name="i")],
    }
    found = parted(splits)
    ids = {split: [c.id for c in kept] for split, kept in found.splits.items()}
    assert ids == {
        Split.train: ["b"],
        Split.validation: ["e"],
        Split.calibration: ["f"],
        Split.test: ["g", "h", "i"],
    }
    assert [c.id for c in found.refused[Split.train]] == ["a", "c"]
    assert [c.id for c in found.refused[Split.validation]] == ["d"]


def test_the_normalised_text_stays_as_it_is_because_its_hash_is_stored() -> None:
    assert normalised(said("It's  ORDER №12-345,\nplease…", "?!  ", "ＣＡＦÉ 7")) == (
        "it s order no0 0 please\n?!\ncafé 0"
    )


def labelled(identity: str, category: str | None, *said: tuple[str, str]) -> Conversation:
    messages = [{"role": role, "text": text} for role, text in said]
    return Conversation.model_validate({"id": identity, "messages": messages, "category": category})


def test_conversations_that_a_reader_cannot_tell_apart_contradict_each_other_by_their_labels() -> None:
    asked = ("agent", "Shall we send it again?")
    told = [
        labelled("1", "a", ("customer", "May I ask?")),
        labelled("2", "b", ("customer", "  may i  ASK?\u200b"), ("agent", "Of course.")),
        labelled("3", None, ("customer", "May I ask?")),
        labelled("4", "a", asked, ("customer", "yes")),
        labelled("5", "b", ("agent", "Do you want money back?"), ("customer", "yes")),
        labelled("6", "a", asked, ("customer", "yes")),
    ]
    (found,) = overlap.contradictions(told)
    assert [c.id for c in found.conversations] == ["1", "2", "3"] and found.categories == ("a", "b", None)


def test_a_held_out_conversation_whose_like_has_another_label_is_not_asked() -> None:
    one, other = labelled("1", "a", ("customer", "hm")), labelled("2", "b", ("customer", "hm"))
    clear = labelled("3", "a", ("customer", "where is it"))
    splits = {split: [] for split in Split} | {Split.train: [one], Split.test: [other, clear]}
    left, refused = overlap.judgeable(splits)
    assert (left[Split.test], left[Split.train], refused[Split.test]) == ([clear], [one], [other])
