"""What became of an answer, as it is counted: the key of a category, or a word that no key may be."""

from evaluation.contract.schema import NONE_WORD

NONE_OF_THESE = NONE_WORD
ABSTAINED = "(abstained)"
FAILED = "(failed)"


def outcome_of(category: str | None, *, abstained: bool, failed: bool) -> str:
    if failed:
        return FAILED
    if abstained:
        return ABSTAINED
    return NONE_OF_THESE if category is None else category
