"""What counts as saying it, and what does not."""

import pytest

from app.studies.strings import WantedWords, is_said, normal

STREET = WantedWords(accepted=(("Tannery Lane",),))


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("It is in TANNERY lane.", "tannery lane"),
        ("Tannery-Lane!", "tannery lane"),
        ("It opens at 6:40.", "6:40"),
        ("About 1,460 bikes", "1460"),
        ("Twenty-three kilometres an hour", "23"),
        ("four free rides", "4"),
        ("€8.50", "8.50"),
        ("the café", "cafe"),
    ],
)
def test_words_are_found_whatever_their_form(answer: str, accepted: str) -> None:
    assert is_said(answer, WantedWords(accepted=((accepted,),)))


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("", "tannery lane"),
        ("Lane Tannery", "tannery lane"),
        ("Tannery Road, off Mill Lane", "tannery lane"),
        ("140 bikes", "14"),
        ("at 16:40", "6:40"),
        ("18.50", "8.50"),
        ("the foxes", "ox"),
    ],
)
def test_a_part_of_a_word_or_of_a_number_is_not_it(answer: str, accepted: str) -> None:
    assert not is_said(answer, WantedWords(accepted=((accepted,),)))


def test_every_part_has_to_be_said_in_one_of_its_wordings() -> None:
    wanted = WantedWords(accepted=(("first sunday", "1st sunday"), ("may",)))
    assert is_said("On the first Sunday of May.", wanted) and is_said("In May, each 1st Sunday.", wanted)
    assert not is_said("On the 1st Sunday of June.", wanted) and not is_said("on a sunday", wanted)


def test_what_is_refused_takes_the_right_words_back() -> None:
    wanted = WantedWords(accepted=(("tannery lane",),), refused=("corn square",))
    assert is_said("Tannery Lane", wanted) and not is_said("Tannery Lane or Corn Square", wanted)


def test_an_accepted_wording_without_a_word_is_never_said() -> None:
    assert normal("…!") == [] and not is_said("anything", WantedWords(accepted=(("…",),)))
