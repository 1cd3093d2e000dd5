"""Questions that come with their options, answered by the base as it stands.

What has more options than one prompt takes is read in groups, and then once more over the likeliest of every group,
whose shares put all groups on one scale.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.classify.service import Answered
from app.decisions.planning import ReadingPlan, kept_of_each
from app.decisions.reading import Asking, Decided, behind, read, shares_of, together, tokens


async def decide(asking: Asking, plan: ReadingPlan) -> Decided:
    """Raises: ConversationTooLong, ServingAway, UngatedNotAllowed."""
    options, orders = plan.shown.question.options, plan.shown.orders
    found = await together([_in_order(asking, plan, order) for order in orders])
    reads = [answered for one in found for answered in one.reads]
    probabilities = tuple(
        sum(one.shares[number] for one in found) / len(found) for number in range(len(options))
    )
    return Decided(options, probabilities, orders[0], behind(reads, len(orders)), tokens(reads))


def on_one_scale(groups: Sequence[Mapping[int, float]], last: Mapping[int, float]) -> dict[int, float]:
    """Shares of all options that add up to 1. last: the shares of the likeliest of every group in one read."""
    made: dict[int, float] = {}
    for group in groups:
        in_both = [number for number in group if number in last]
        scale = sum(last[number] for number in in_both) / sum(group[number] for number in in_both)
        made |= {number: last.get(number, share * scale) for number, share in group.items()}
    whole = sum(made.values())
    return {number: share / whole for number, share in made.items()}


class _Found(NamedTuple):
    """shares: by the number of the option."""

    shares: Mapping[int, float]
    reads: list[Answered]


async def _in_order(asking: Asking, plan: ReadingPlan, order: Sequence[int]) -> _Found:
    """Raises: ConversationTooLong, ServingAway."""
    reads = await together([_read(asking, plan, numbers) for numbers in plan.groups(order)])
    groups = [_by_number(answered) for answered in reads]
    if len(groups) == 1:
        return _Found(groups[0], reads)
    each = kept_of_each(len(groups), plan.most)
    kept = {number for group in groups for number in sorted(group, key=lambda n: -group[n])[:each]}
    last = await _in_order(asking, plan, [number for number in order if number in kept])
    return _Found(on_one_scale(groups, last.shares), [*reads, *last.reads])


async def _read(asking: Asking, plan: ReadingPlan, numbers: Sequence[int]) -> Answered:
    async with asking.places:
        context = await asking.ad_hoc(plan.shown.schema(numbers))
        return await read(asking, context, plan.shown.question)


def _by_number(answered: Answered) -> dict[int, float]:
    return {int(str(key)): share for key, share in shares_of(answered).items()}
