"""What a file of conversations holds, before any of it is taken: for the command, and for the job of an upload."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import Field

from app.datasets import grouping
from app.datasets.counts import Arrivals
from app.datasets.fingerprint import Fingerprint, fingerprint
from app.http.payload import ResponseBody
from evaluation.contract.overlap import alike
from evaluation.contract.record import Conversation, Reject, Split
from evaluation.contract.text import harmless
from evaluation.formats.reader import Reader

MAX_REJECTS = 100  # of those that are shown here; the reject file has all
MAX_EXAMPLES = 20
_MAX_CHARS = 60


class SeenConversation(NamedTuple):
    """Of one conversation, what is kept in memory. alike: equal for those that a reader cannot tell apart."""

    id: str
    printed: Fingerprint
    asked: Split | None
    labelled: bool
    category: str | None
    alike: str
    excerpt: str


class SplitPlan(NamedTuple):
    """groups, splits: of each conversation."""

    groups: list[str]
    splits: list[Split]
    arrivals: Arrivals


class CategoryFound(ResponseBody):
    category: str | None = Field(description="Key of a category; null: none of these.", examples=["refund"])
    conversations: int = Field(description="With this label.", examples=[120])


class SplitFound(ResponseBody):
    split: Split = Field(description="Where an upload places them.", examples=["train"])
    conversations: int = Field(description="All of it.", examples=[700])
    labelled: int = Field(description="Those with a label.", examples=[650])
    categories: list[CategoryFound] = Field(description="The labelled ones, the most frequent first.")


class RejectFound(ResponseBody):
    line: int = Field(description="Of the file, counted from 1; of a workbook, its row.", examples=[17])
    reason: str = Field(
        description="Why nothing of it is taken.", examples=["not JSON: Expecting value at column 1"]
    )


class ContradictionFound(ResponseBody):
    text: str = Field(
        description="The beginning of what the customer says last.", examples=["where is my parcel"]
    )
    ids: list[str] = Field(description="Of the conversations, some of them.", examples=[["1", "7"]])
    categories: list[str | None] = Field(
        description="The labels that they have; null: none of these.", examples=[["late_parcel", "refund"]]
    )


class Findings(ResponseBody):
    taken_for: str = Field(
        description="What kind of file it is, by its bytes.", examples=["JSON, one object a line (JSONL)"]
    )
    meaning: list[str] = Field(
        description="What its columns or keys are read as.", examples=[["column 1 is `text`"]]
    )
    conversations: int = Field(description="That can be used.", examples=[1000])
    labelled: int = Field(description="Of them, those with a label.", examples=[940])
    splits: list[SplitFound] = Field(description="The same by split and category.")
    rejected: int = Field(description="Lines that cannot be used.", examples=[12])
    rejects: list[RejectFound] = Field(description=f"The first {MAX_REJECTS} of them.")
    exact_duplicates: int = Field(
        description="Conversations whose customer says just what another one's does.", examples=[8]
    )
    near_duplicates: int = Field(description="Conversations that nearly repeat another one.", examples=[31])
    moved: int = Field(
        description="Conversations placed in another split than the file says, since a duplicate is held out.",
        examples=[5],
    )
    contradictions: int = Field(
        description="Conversations whose like has another label: no gate asks them.", examples=[4]
    )
    contradicting: list[ContradictionFound] = Field(description=f"Up to {MAX_EXAMPLES} of those texts.")
    not_read: list[str] = Field(
        description="Columns, keys, sheets and sections that nobody reads, one sentence each.",
        examples=[["column `intent` is not read (940 with something in it)"]],
    )
    redacted: dict[str, int] = Field(
        description="How much personal data of each kind was taken out, where the tenant wants that.",
        examples=[{"email": 12}],
    )
    problem: str | None = Field(
        description="Why nothing of the file can be used; null: some of it can.", examples=[None]
    )


def seen(conversation: Conversation) -> SeenConversation:
    text = harmless(" ".join(conversation.said[-1].split()))
    return SeenConversation(
        conversation.id,
        fingerprint(conversation),
        conversation.split,
        conversation.labelled,
        conversation.category,
        alike(conversation),
        text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…",
    )


def plan(good: Sequence[SeenConversation], rejected: int) -> SplitPlan:
    prints = [one.printed for one in good]
    groups = grouping.group(prints)
    assigned = grouping.assign(groups, [one.asked for one in good])
    texts = len({printed.text_sha256 for printed in prints})
    disputed = sum(map(len, _disputed(good)))
    arrivals = Arrivals(
        rejected, len(prints) - texts, texts - len(set(groups)), assigned.moved, contradicting=disputed
    )
    return SplitPlan(groups, assigned.splits, arrivals)


def findings(
    reader: Reader,
    good: Sequence[SeenConversation],
    planned: SplitPlan,
    rejects: Iterable[Reject],
    problem: str | None,
) -> Findings:
    """reader: which has read. rejects: the first ones."""
    arrivals = planned.arrivals
    return Findings(
        taken_for=reader.form or "nothing that is known",
        meaning=reader.meaning,
        conversations=len(good),
        labelled=sum(one.labelled for one in good),
        splits=[_split(split, good, planned.splits) for split in Split],
        rejected=arrivals.rejected,
        rejects=[RejectFound(line=one.line, reason=one.reason) for one in rejects],
        exact_duplicates=arrivals.exact,
        near_duplicates=arrivals.near,
        moved=arrivals.moved,
        contradictions=arrivals.contradicting,
        contradicting=[_example(those) for those in _disputed(good)[:MAX_EXAMPLES]],
        not_read=list(reader.unread.sentences()),
        redacted=dict(reader.redacted),
        problem=problem,
    )


def _split(split: Split, good: Sequence[SeenConversation], splits: Sequence[Split]) -> SplitFound:
    here = [one for one, at in zip(good, splits, strict=True) if at is split]
    labels = Counter(one.category for one in here if one.labelled)
    return SplitFound(
        split=split,
        conversations=len(here),
        labelled=labels.total(),
        categories=[CategoryFound(category=key, conversations=n) for key, n in labels.most_common()],
    )


def _disputed(good: Sequence[SeenConversation]) -> list[list[SeenConversation]]:
    found: dict[str, list[SeenConversation]] = {}
    for one in good:
        if one.labelled:
            found.setdefault(one.alike, []).append(one)
    return [those for those in found.values() if len({one.category for one in those}) > 1]


def _example(those: Sequence[SeenConversation]) -> ContradictionFound:
    return ContradictionFound(
        text=those[0].excerpt,
        ids=[one.id for one in those[:5]],
        categories=list(dict.fromkeys(one.category for one in those)),
    )
