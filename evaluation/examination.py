"""Models asked a suite until the verdict on the last of them is clear, and the report on all of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from evaluation import gate
from evaluation.assembly import COMPARED_WITH, Choices, StageRun, assemble
from evaluation.growing import Sample
from evaluation.measures import Measure
from evaluation.policy import Policy
from evaluation.report import Looks, Report
from evaluation.suites.steerability import Suite

Ask: TypeAlias = Callable[[str, Sequence[int]], Awaitable[StageRun]]
"""A stage's answers to these questions of the suite. Those it gave before are kept by whoever asks."""


async def examine(
    tenant: str,
    suite: Suite,
    stages: Sequence[str],
    ask: Ask,
    policy: Policy,
    *,
    threshold: float | None = None,
    baselines: Mapping[str, Measure] = {},
) -> Report:
    """stages: in order, the candidate last. Those that the verdict does not depend on are asked when it is found."""
    sample = Sample(suite, policy.looks)
    choices = Choices(threshold, policy.families.counted)
    deciding = [stage for stage in stages if stage in COMPARED_WITH or stage == stages[-1]]

    async def look(names: Sequence[str]) -> Report:
        runs = [await ask(name, sample.indices) for name in names]
        looks = Looks(planned=policy.looks, used=sample.used)
        made = assemble(tenant, suite, runs, choices, looks=looks, baselines=baselines)
        return made.model_copy(update={"gate": gate.decide(made, policy)})

    made = await look(deciding)
    while made.gate is not None and sample.grow(made.gate.checks):
        made = await look(deciding)
    return made if len(deciding) == len(stages) else await look(stages)
