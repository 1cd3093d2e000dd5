"""Labels that the others speak against are listed, and only those."""

from evaluation.contract.record import Conversation, Message, Role
from evaluation.tools.label_review import FEWEST, doubted

THINGS = ("lamp", "chair", "table", "sofa", "shelf", "mirror", "carpet", "desk", "bed", "curtain")
SAYINGS = {
    "refund": ("please send the money back for the {}", "I want my money back, the {} was bad"),
    "delivery": ("where is the parcel with my {}", "my parcel with the {} has not arrived"),
    None: ("do you sell a {} for dogs", "is there a {} in your shop for dogs"),
}


def said(number: int, text: str, category: str | None) -> Conversation:
    return Conversation(
        id=f"c{number}", messages=(Message(role=Role.customer, text=text),), category=category
    )


def labelled() -> list[Conversation]:
    texts = [(form.format(t), key) for key, forms in SAYINGS.items() for form in forms for t in THINGS]
    return [said(number, text, key) for number, (text, key) in enumerate(texts)]


def test_labels_that_agree_are_not_doubted() -> None:
    assert doubted(labelled()) == []


def test_a_wrong_label_is_found_with_what_speaks_against_it() -> None:
    rows = labelled()
    wrong = said(900, "please send the money back for the wardrobe", "delivery")
    (found,) = doubted([*rows, wrong])
    assert found.conversation is wrong and found.suggested == "refund"
    told = found.as_dict()
    assert told["classifier_doubts"] and told["neighbours_agree"] == told["neighbours_near"] >= 2
    assert (told["label"], told["suggested"]) == ("delivery", "refund")


def test_none_of_these_is_suggested_as_an_answer_of_its_own() -> None:
    wrong = said(900, "do you sell a bowl for dogs", "delivery")
    (found,) = doubted([*labelled(), wrong])
    assert found.suggested is None


def test_few_labels_and_unlabelled_conversations_speak_against_nothing() -> None:
    assert doubted(labelled()[: FEWEST - 1]) == []
    rows = labelled()
    unlabelled = Conversation(id="u", messages=(Message(role=Role.customer, text="send the money back"),))
    assert doubted([*rows, unlabelled]) == doubted(rows)


def test_a_classifier_that_finds_fewer_than_half_of_the_labels_speaks_against_none() -> None:
    """Ten labels of each of eight things that share no words: whatever it says of another is a guess."""
    rows = [said(n, f"{n}a {n}b {n}c and it", f"thing{n % 8}") for n in range(80)]
    assert doubted(rows) == []
