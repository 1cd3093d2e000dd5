"""Runs the lm-evaluation-harness, in a process of its own: the harness brings torch, and its tasks what they like.

It is started by its path and imports nothing of ours. The request is JSON on standard input (`harness.py` writes it);
each task leaves one line of JSON in the file `out`: its scores by item, or why there are none.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    request = json.load(sys.stdin)
    evaluator = importlib.import_module("lm_eval.evaluator")
    # Reading in the harness's own tasks takes longer than asking a model all of ours.
    manager = importlib.import_module("lm_eval.tasks").TaskManager(
        include_path=request["suite"], include_defaults=request["suite"] is None
    )
    with Path(request["out"]).open("w", encoding="utf-8") as out:
        for task in request["tasks"]:
            try:
                found: dict[str, Any] = {"scores": _scores(evaluator, manager, request, task)}
            except Exception as error:  # noqa: BLE001 (whatever a task raises becomes the reason in the report)
                found = {"not_measured": f"{type(error).__name__}: {error}"}
            out.write(json.dumps({"task": task["name"], **found}) + "\n")
            out.flush()


def _scores(evaluator: Any, manager: Any, request: dict[str, Any], task: dict[str, Any]) -> dict[str, float]:
    """By item. A group, such as mmlu, has the items of all its tasks."""
    results = evaluator.simple_evaluate(
        model="local-completions",
        model_args=request["model"],
        tasks=[task["name"]],
        limit=request["limit"],
        apply_chat_template=task["chat"],
        task_manager=manager,
        confirm_run_unsafe_code=request["run_code"],
        bootstrap_iters=0,  # the report makes its own intervals
    )
    samples = {f"{name}/{s['doc_id']}": s for name, rows in results["samples"].items() for s in rows}
    likelihoods = [r[0][0] for s in samples.values() for r in s["resps"] if isinstance(r[0], tuple | list)]
    if likelihoods and not any(likelihoods):  # an answer of no tokens: the first choice would win every time
        raise RuntimeError("the server gives no log-probs of a prompt (`echo` with `logprobs`; vLLM does)")
    return {key: float(sample[task["metric"]]) for key, sample in samples.items()}


if __name__ == "__main__":
    main()
