"""How far any OpenAI-compatible server follows your definitions, without training and without a running Steerwise.

`python examples/measure_server.py schema.json conversations.jsonl http://localhost:8000 MODEL TOKENIZER_FOLDER`
"""

import argparse
import asyncio
import sys
from pathlib import Path

from evaluation.contract.record import parse_jsonl
from evaluation.contract.schema import parse_schema
from evaluation.inference import runner
from evaluation.inference.predictor import VllmPredictor, connect, load_codes
from evaluation.metrics.measures import Measure
from evaluation.reporting.assembly import StageRun, assemble
from evaluation.reporting.report import StageReport
from evaluation.suites import steerability

SHOWN = ("accuracy", "steerability", "flip_accuracy", "invariance")


async def measured(given: argparse.Namespace) -> StageReport:
    schema = parse_schema(given.schema.read_bytes())
    parsed = parse_jsonl(given.conversations.read_bytes(), schema)
    if parsed.rejects:
        raise SystemExit(f"line {parsed.rejects[0].line}: {parsed.rejects[0].reason}")
    suite = steerability.build(schema, parsed.conversations, max_items=given.max_items)
    most = max(len(edit.schema.answers) for edit in suite.perturbations)
    codes = load_codes(given.tokenizer, most)
    async with connect(given.url) as client:
        predictor = VllmPredictor(client, given.model, codes)
        answers = await runner.run(suite.questions, predictor, model=given.model)
    return assemble(schema.name, suite, [StageRun("model", given.model, answers)]).stages[0]


def line(name: str, measure: Measure) -> str:
    if measure.value is None:
        return f"{name:<16} not measured"
    interval = f" ({measure.ci95[0]:.2f} to {measure.ci95[1]:.2f})" if measure.ci95 else ""
    return f"{name:<16} {measure.value:.3f}{interval}, n = {measure.n}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schema", type=Path)
    parser.add_argument("conversations", type=Path, help="labelled; all of them are asked")
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("tokenizer", type=Path, help="folder with the model's tokenizer.json")
    parser.add_argument("--max-items", type=int, default=600, help="questions, edits included")
    given = parser.parse_args()
    stage = asyncio.run(measured(given))
    print(*(line(name, getattr(stage, name)) for name in SHOWN), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
