"""Labels that the other labels of a data set speak against, for a person to look at before they are learned.

Two witnesses that see no definition: a classifier that was trained without the conversation (confident learning,
Northcutt, Jiang and Chuang 2021: another category is likelier than it usually is where it is the label), and the
conversations of nearly the same words. Neither knows the truth: what they name is a list to read, no correction.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from evaluation.contract.record import Conversation

FOLDS = 5
NEIGHBOURS = 5
NEAR = 0.35  # cosine of word counts; less than this is another subject
FEWEST = 40  # labels; with fewer neither witness has anything to go by
_WITNESS = 0.5  # of the labels that a classifier has to find to be heard: one that is mostly wrong doubts most of them


class DoubtedLabel(NamedTuple):
    """suggested: what most speaks for, None for none of these. confidence: the classifier's in it, 0..1.

    neighbours: of those near enough, how many have the suggested label, and how many there are.
    """

    conversation: Conversation
    suggested: str | None
    confidence: float
    by_classifier: bool
    neighbours: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        agreeing, near = self.neighbours
        return {
            "id": self.conversation.id,
            "text": self.conversation.said[-1],
            "label": self.conversation.category,
            "suggested": self.suggested,
            "confidence": round(self.confidence, 3),
            "classifier_doubts": self.by_classifier,
            "neighbours_agree": agreeing,
            "neighbours_near": near,
        }


def doubted(conversations: Sequence[Conversation], seed: int = 0) -> list[DoubtedLabel]:
    """The most doubtful first; none where there are too few labels to tell."""
    counts = Counter(c.category for c in conversations)
    rows = [c for c in conversations if c.labelled and counts[c.category] >= FOLDS]
    labels = sorted({c.category for c in rows}, key=lambda label: (label is None, label or ""))
    if len(rows) < FEWEST or len(labels) < 2:
        return []
    given_N = np.array([labels.index(c.category) for c in rows])
    words_NW = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b"
    ).fit_transform("\n".join(c.said) for c in rows)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    chances_NK: NDArray[np.float64] = cross_val_predict(
        LogisticRegression(C=10.0, max_iter=1000), words_NW, given_N, cv=folds, method="predict_proba"
    )
    heard = (chances_NK.argmax(1) == given_N).mean() >= _WITNESS
    usual_K = np.array([chances_NK[given_N == k, k].mean() for k in range(len(labels))])
    found = []
    for n, conversation in enumerate(rows):
        near = _near(words_NW, n)
        votes = Counter(int(given_N[i]) for i in near)
        likeliest = int(chances_NK[n].argmax())
        against = likeliest != given_N[n] and chances_NK[n, likeliest] >= usual_K[likeliest]
        by_classifier = bool(heard and against)
        most, agreeing = votes.most_common(1)[0] if votes else (likeliest, 0)
        by_neighbours = votes[int(given_N[n])] == 0 and agreeing >= 2
        if by_classifier or by_neighbours:
            suggested = likeliest if by_classifier else most
            chance = float(chances_NK[n, suggested])
            counted = (votes[suggested], len(near))
            found.append(DoubtedLabel(conversation, labels[suggested], chance, by_classifier, counted))
    return sorted(found, key=lambda d: (-(d.by_classifier + (d.neighbours[0] >= 2)), -d.confidence))


def _near(words_NW: Any, row: int) -> list[int]:
    """The nearest others, where they are near at all; rows are of length one, so a product is a cosine."""
    cosines_N = (words_NW @ words_NW[row].T).toarray().ravel()
    cosines_N[row] = 0.0
    nearest = np.argsort(-cosines_N)[:NEIGHBOURS]
    return [int(i) for i in nearest if cosines_N[i] >= NEAR]
