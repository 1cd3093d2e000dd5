"""What the starter can do before any training: the figures on its card, measured anew through vLLM.

valid_answers is over the items of all kinds. told_answer has the right answer in its prompt, as a teacher's has.
"""

import asyncio
from typing import get_args

from rich.table import Table

from app.cli.console import Progress
from app.serving.base import STARTER, ModelBase, find_base
from app.serving.vllm import BASE_NAME, VllmEndpoint, while_alive
from app.settings import Settings
from app.studies.asking import likeliest
from app.studies.held_out import AnswerScore, counting, longest, plain, scores_of
from app.studies.serving import served
from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.parse import parse
from evaluation.contract.render import condition_text, render
from evaluation.contract.score import is_right
from evaluation.inference.predictor import VllmPredictor, load_codes
from evaluation.metrics.measures import Measure, rate
from training.starter.world import BenchItem, BenchKind, bench_items
from training.teachers.privileged import Hint, HintKind, with_hint


def measure(items: int, seed: int, settings: Settings, progress: Progress) -> dict[str, Measure]:
    """items: of each kind."""
    base = find_base(STARTER)
    with served(base, settings, progress) as vllm:
        return asyncio.run(while_alive(vllm, _all(base, vllm.endpoint, items, seed, settings, progress)))


def table(measured: dict[str, Measure]) -> Table:
    shown = Table("asked of the starter", "share right", "95 %", "n")
    for name, one in measured.items():
        ends = f"{one.ci95[0]:.3f} to {one.ci95[1]:.3f}" if one.ci95 else "–"
        shown.add_row(name, "–" if one.value is None else f"{one.value:.3f}", ends, str(one.n))
    return shown


async def _all(
    base: ModelBase, endpoint: VllmEndpoint, items: int, seed: int, settings: Settings, progress: Progress
) -> dict[str, Measure]:
    questions = {kind: bench_items(kind, items, seed) for kind in get_args(BenchKind)}
    codes = load_codes(base.folder, max(longest(asked) for asked in questions.values()))
    measured, scores = {}, list[AnswerScore]()
    async with endpoint.async_client() as client:
        predictor = VllmPredictor(client, BASE_NAME, codes, max_tokens=ANSWER_TOKENS)
        for kind, asked in questions.items():
            shown = counting(progress, kind, len(asked))
            ask = _told if kind == "told_answer" else plain
            of_kind = await scores_of(predictor, asked, settings.concurrency, shown, ask)
            progress.end(kind)
            measured[kind] = rate(sum(score.right for score in of_kind), len(of_kind))
            scores += of_kind
    # `told_answer` decides nothing: it comes last, after the figure that counts for all.
    told = measured.pop("told_answer")
    return measured | {
        "valid_answers": rate(sum(score.valid for score in scores), len(scores)),
        "told_answer": told,
    }


async def _told(predictor: VllmPredictor, item: BenchItem) -> AnswerScore:
    """Asked without the predictor's own prompt, which has no place for a hint."""
    prompt = render(item.schema, item.conversation, predictor.codes)
    code = prompt.codes[item.schema.answers.index(item.gold)]
    hint = Hint(HintKind.criterion, code, condition_text(item.decider), "")
    text = await likeliest(predictor, with_hint(prompt, hint), ANSWER_TOKENS)
    answer = parse(text, item.schema, prompt.codes)
    return AnswerScore(is_right(answer, item.gold), answer.failure is None)
