"""The sample grows, family by family, until the verdict is clear or every question has been asked.

A look takes a random share of the conversations, and of the edits the questions about those. Which share is drawn
follows from the suite alone, so every candidate is asked the same. That a verdict is looked for several times is paid
for by wider intervals (`gate.widening`).
"""

import random
from collections.abc import Collection, Sequence

from evaluation.contract.perturb import IDENTITY
from evaluation.reporting.report import Check, Verdict
from evaluation.suites.steerability import Suite


class Sample:
    """The indices of the questions to be asked, which grow with each look."""

    def __init__(self, suite: Suite, looks: Sequence[float]):
        self._suite, self._looks = suite, looks
        order = sorted(suite.conversations)
        random.Random(f"looks-{suite.seed}").shuffle(order)
        self._place = {identity: (i + 1) / len(order) for i, identity in enumerate(order)}
        self._share = dict.fromkeys([p.family for p in suite.perturbations], looks[0])
        self.used = 1

    @property
    def indices(self) -> list[int]:
        """Rising. A question about an edit comes with the one about the same conversation without it."""
        edits, share = self._suite.perturbations, self._share
        return [
            index
            for index, item in enumerate(self._suite.items)
            if self._place[item.conversation_id] <= share[edits[item.perturbation].family]
        ]

    def grow(self, checks: Sequence[Check]) -> bool:
        """Where the checks leave it open: False where they do not, or where nothing is left to ask."""
        families = open_families(checks, list(self._share))
        if not families or self.used == len(self._looks):
            return False
        for family in {*families, IDENTITY}:
            self._share[family] = self._looks[self.used]
        self.used += 1
        return True


def open_families(checks: Sequence[Check], asked: Collection[str]) -> set[str]:
    """Whose answers could still change the verdict: nobody's once a check has failed."""
    if any(check.verdict is Verdict.failed for check in checks):
        return set()
    undecided = [check for check in checks if check.verdict is Verdict.incomplete]
    named = {family for check in undecided for family in check.families or asked}
    return named & set(asked)
