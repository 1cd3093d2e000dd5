"""What counts as the same or nearly so, and that whatever does stands on one side of every border."""

import random
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets import grouping
from app.datasets.fingerprint import BANDS, bands, fingerprint
from app.datasets.grouping import NEAR, assign, group, similarity
from evaluation.contract.overlap import most_held_out, normalised
from evaluation.contract.record import Conversation, Split
from evaluation.contract.splits import split_of

WORDS = [
    *[
        "card",
        "order",
        "refund",
        "late",
        "twice",
        "charged",
        "parcel",
        "account",
        "cannot",
        "price",
        "change",
    ],
    *[
        "address",
        "please",
        "help",
        "broken",
        "screen",
        "cancel",
        "invoice",
        "wrong",
        "size",
        "colour",
        "agent",
    ],
]


def said(*texts: str, agent: str | None = None) -> Conversation:
    messages = [{"role": "customer", "text": text} for text in texts]
    if agent is not None:
        messages.insert(0, {"role": "agent", "text": agent})
    return Conversation.model_validate({"id": "c", "messages": messages})


def sentence(rng: random.Random, words: int = 14) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def groups_of(*texts: str) -> list[str]:
    return group([fingerprint(said(text)) for text in texts])


SAME = [
    ("Where is my order?", "where is my ORDER"),
    ("Where is my order 1234?", "Where is my order 98765432?"),
    ("caf\u00e9 bill", "cafe\u0301 bill"),
    ("\uff52efund", "refund"),
    ("it's  late!!\n", "it's late"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_case_marks_spaces_and_numbers_make_no_difference(one: str, other: str) -> None:
    assert fingerprint(said(one)).text_sha256 == fingerprint(said(other)).text_sha256


def test_what_an_agent_says_makes_no_difference() -> None:
    assert fingerprint(said("late", agent="Hello!")).text_sha256 == fingerprint(said("late")).text_sha256


@pytest.mark.parametrize("text", ["?!", "👍", "\u200b.", "\ufdfa", "a", "ab", "𝒳" * 7, "请问我的订单在哪里"])
def test_there_is_a_fingerprint_of_any_text(text: str) -> None:
    printed = fingerprint(said(text))
    assert normalised(said(text))
    assert printed.signature.shape == (BANDS * 5,)


def test_different_marks_alone_are_different_texts() -> None:
    assert len(set(groups_of("?!", "👍", "...", "👎"))) == 4


def test_a_signature_stays_as_it_is_because_its_bands_are_stored() -> None:
    printed = fingerprint(said("Where is my order?"))
    assert printed.signature[:4].tolist() == [369822572, 367904055, 388904037, 52649779]
    assert bands(printed.signature[None])[0, :2].tolist() == [-6957082618982218158, -6875324481081235113]


def test_signatures_estimate_the_share_of_common_shingles() -> None:
    rng = random.Random(5)
    errors = []
    for _ in range(40):
        one = sentence(rng, 60)
        other = one[: rng.randrange(len(one) // 2, len(one))]
        sets = [{text[at : at + 5] for at in range(len(text) - 4)} for text in (one, other)]
        exact = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        prints = [fingerprint(said(text)).signature for text in (one, other)]
        errors.append(similarity(prints[0], prints[1][None])[0] - exact)
    assert abs(np.mean(errors)) < 0.03 and max(map(abs, errors)) < 0.25


@pytest.mark.seconds
def test_texts_above_the_threshold_share_a_band() -> None:
    rng = random.Random(6)
    missed = seen = 0
    for _ in range(300):
        words = sentence(rng, 40).split()
        changed = list(words)
        for at in rng.sample(range(40), 2):
            changed[at] = rng.choice(WORDS)
        one, other = (fingerprint(said(" ".join(text))).signature for text in (words, changed))
        if similarity(one, other[None])[0] >= NEAR:
            seen += 1
            missed += not set(bands(one[None])[0]) & set(bands(other[None])[0])
    assert seen > 50 and missed <= seen * 0.02


@pytest.mark.seconds
def test_a_long_text_takes_no_memory_that_grows_with_it() -> None:
    rng = random.Random(9)
    long = said(*("".join(rng.choices("abcdefgh ", k=95_000)) for _ in range(10)))
    tracemalloc.start()
    fingerprint(long)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100 << 20  # shape (950_000, 60) alone would be 456 MB


def test_near_texts_are_one_group_and_others_are_not() -> None:
    base = "I ordered a blue jacket last week and it has still not arrived at my house"
    near = "I ordered a blue jacket last week and it has still not arrived at my home"
    other = "The jacket that I ordered is too small and I would like to have my money back"
    found = groups_of(base, near, other, base.upper())
    assert found[0] == found[1] == found[3] != found[2]


def test_nearness_is_handed_on() -> None:
    words = sentence(random.Random(7), 40).split()
    chain = []
    for step in range(12):
        words[step * 3] = "zebra"
        chain.append(" ".join(words))
    first, last = (fingerprint(said(text)).signature for text in (chain[0], chain[-1]))
    assert similarity(first, last[None])[0] < NEAR
    assert len(set(groups_of(*chain))) == 1


def test_groups_do_not_depend_on_the_order_of_a_file() -> None:
    rng = random.Random(8)
    texts = [sentence(rng, 8) for _ in range(150)] + [sentence(random.Random(8), 8) + " now"]
    order = list(range(len(texts)))
    rng.shuffle(order)
    straight, shuffled = groups_of(*texts), groups_of(*(texts[i] for i in order))
    assert [straight[i] for i in order] == shuffled


def test_a_bucket_that_is_full_is_not_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    measured = grouping.similarity

    def counted(one: grouping.Signature, many: np.ndarray) -> np.ndarray:
        asked.append(len(many))
        return measured(one, many)

    monkeypatch.setattr(grouping, "similarity", counted)
    monkeypatch.setattr(grouping, "MAX_PIVOTS", 10)
    # Equal first bands, and otherwise nothing in common: made by hand, as an attacker would search for them.
    rng = np.random.default_rng(1)
    signatures = rng.integers(0, 2**32, (2000, BANDS * 5), dtype=np.uint32)
    signatures[:, :5] = 7
    prints = [grouping.Fingerprint(f"{i:064x}", row) for i, row in enumerate(signatures)]
    assert len(set(group(prints))) == 2000
    assert len(asked) == 10


def test_no_conversations_make_no_groups() -> None:
    assert group([]) == []
    assert assign([], []).splits == []


# ------------------------------------------------------------------------------------------------------------ splits

edited = st.tuples(st.integers(0, 11), st.integers(0, 3), st.sampled_from([None, *Split]))


@pytest.mark.seconds
@settings(max_examples=80, deadline=None)
@given(rows=st.lists(edited, min_size=1, max_size=60), seed=st.integers(0, 1000))
def test_no_group_stands_on_both_sides_of_a_split(
    rows: list[tuple[int, int, Split | None]], seed: int
) -> None:
    """Texts are drawn from a few, each with up to three words changed, so that many are near each other."""
    rng = random.Random(seed)
    bases = [sentence(rng, 25) for _ in range(12)]
    texts = []
    for base, changes, _ in rows:
        words = bases[base].split()
        for _ in range(changes):
            words[rng.randrange(25)] = rng.choice(WORDS)
        texts.append(" ".join(words))
    prints = [fingerprint(said(text)) for text in texts]
    groups = group(prints)
    assigned = assign(groups, [split for _, _, split in rows])
    where = defaultdict(set)
    for name, split in zip(groups, assigned.splits, strict=True):
        where[name].add(split)
    assert all(len(splits) == 1 for splits in where.values())
    # And whatever was found near is in one group: nothing near is left on the other side.
    signatures = np.stack([one.signature for one in prints])
    shared = [set(row) for row in bands(signatures)]
    for i, one in enumerate(signatures):
        for j in np.flatnonzero(similarity(one, signatures) >= NEAR):
            assert assigned.splits[i] is assigned.splits[j] or not shared[i] & shared[j]


def test_the_held_out_side_of_a_group_wins_and_is_counted() -> None:
    groups = ["a", "a", "a", "b", "b", "c", "c", "d"]
    asked = [
        Split.train,
        Split.test,
        None,
        Split.train,
        Split.validation,
        None,
        Split.calibration,
        Split.train,
    ]
    assigned = assign(groups, asked)
    assert assigned.splits == [
        *[Split.test] * 3,
        *[Split.validation] * 2,
        *[Split.calibration] * 2,
        Split.train,
    ]
    assert assigned.moved == 2
    assert most_held_out([Split.train, Split.calibration, Split.validation]) is Split.calibration


def test_without_a_word_from_the_file_a_stable_hash_of_the_group_decides() -> None:
    groups = [f"group {number}" for number in range(4000)]
    splits = assign(groups, [None] * 4000).splits
    shares = {split: count / 4000 for split, count in Counter(splits).items()}
    expected = {Split.train: 0.7, Split.validation: 0.1, Split.calibration: 0.1, Split.test: 0.1}
    assert shares == pytest.approx(expected, abs=0.02)
    assert assign(groups[:10], [None] * 10).splits == splits[:10]
    assert split_of("group 1") is splits[1]
