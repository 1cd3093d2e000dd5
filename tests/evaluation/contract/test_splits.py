"""Conversations are split alike, whether they come as a file or into the product."""

from collections import Counter

import pytest

from app.datasets.fingerprint import fingerprint
from app.datasets.grouping import assign
from app.runs.inputs import checked
from evaluation.contract.record import Conversation, Split
from evaluation.contract.splits import SHARES, split_of
from tests.evaluation.shop import SCHEMA

LETTERS = str.maketrans("0123456789", "abcdefghij")


def conversation(number: int) -> Conversation:
    identity = str(number).translate(LETTERS)
    said = [{"role": "customer", "text": f"please help {identity}"}]
    key = SCHEMA.keys[number % len(SCHEMA.keys)]
    return Conversation.model_validate({"id": identity, "messages": said, "category": key})


def test_the_command_on_files_and_the_product_split_alike() -> None:
    all_of = [conversation(number) for number in range(600)]
    on_files = {c.id: split for split, those in checked(SCHEMA, all_of).splits.items() for c in those}
    texts = [fingerprint(c).text_sha256 for c in all_of]  # the name of a group of one
    assigned = zip(all_of, assign(texts, [None] * len(texts)).splits, strict=True)
    in_product = {c.id: split for c, split in assigned}
    assert on_files == in_product
    assert in_product == {c.id: split_of(text) for c, text in zip(all_of, texts, strict=True)}


def test_the_shares_are_those_that_are_written_down() -> None:
    ends = [0.0, *(end for end, _ in SHARES)]
    wanted = {split: end - start for start, (end, split) in zip(ends, SHARES, strict=False)}
    drawn = Counter(split_of(f"conversation {number}") for number in range(8000))
    assert {split: drawn[split] / 8000 for split in Split} == pytest.approx(wanted, abs=0.02)
    assert min(wanted.values()) == pytest.approx(0.1)  # a temperature wants 50 of 500
