"""Retention: the real harness, in its own process, asks a server with a known model behind it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from evaluation.retention import harness, tasks
from evaluation.retention.__main__ import main
from evaluation.retention.harness import HarnessLimits, Result, RetentionError, RetentionNotMeasured, Server
from evaluation.retention.report import RetentionReport, StageResults, assemble

TOKENIZER = Path(__file__).parents[2] / "training" / "starter" / "weights"
ITEMS = {item.question: (item.answer, i) for name in tasks.TASKS for i, item in enumerate(tasks.items(name))}
Skill = Callable[[str, int], bool]  # of the answer and the item's number: whether the model has it right

needs_harness = pytest.mark.skipif(
    find_spec("lm_eval") is None,
    reason="NOT TESTED: the lm-evaluation-harness is missing; make install brings it (extra `retention`)",
)


class Completions:
    """Answers the items of our suite on the completion route. skills: by the model's name. echoes: as vLLM does."""

    def __init__(self, skills: dict[str, Skill], echoes: bool = True) -> None:
        self.skills, self.echoes = skills, echoes
        self.tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
        self.bodies: list[dict[str, Any]] = []

    def respond(self, body: dict[str, Any]) -> dict[str, Any]:
        self.bodies.append(body)
        (prompt,) = body["prompt"]
        asked, _, continued = self.tokenizer.decode(prompt, skip_special_tokens=False).partition(
            "assistant\n"
        )
        answer, number = next(ITEMS[question] for question in ITEMS if question in asked)
        right = self.skills[body["model"]](answer, number)
        choice: dict[str, Any] = {"index": 0, "text": f" {answer}\n" if right else "I cannot say."}
        if body.get("echo"):
            shown = len(prompt) + 1 if self.echoes else 1
            likely = -0.1 if (continued == answer) == right else -4.0
            top = [{"token": likely}] * shown
            choice["logprobs"] = {"token_logprobs": [likely] * shown, "top_logprobs": top}
        return {"choices": [choice]}


@contextmanager
def listening(server: Completions) -> Iterator[str]:
    """The server's address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({"data": [{"id": name} for name in server.skills]})

        def do_POST(self) -> None:
            self._send(server.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _send(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")  # the harness reads nothing else
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def able(answer: str, number: int) -> bool:
    return True


def forgetful(answer: str, number: int) -> bool:
    """Every second answer is lost, and every no."""
    return number % 2 == 0 and answer != "no"


def arguments(address: str, out: Path, *more: str) -> list[str]:
    return ["--base-url", address, "--tokenizer", str(TOKENIZER), "--out", str(out), *more]


def test_the_files_of_the_suite_are_what_its_script_writes() -> None:
    written = dict(tasks.files())
    assert {path.name: path.read_text() for path in tasks.SUITE.iterdir()} == written
    assert {name for name in written if name.endswith(".yaml")} == {f"{t.name}.yaml" for t in harness.OWN}


def test_the_suite_asks_30_to_60_different_things_a_task_and_no_answer_can_be_guessed() -> None:
    for name in tasks.TASKS:
        items = tasks.items(name)
        assert 30 <= len({item.question for item in items}) == len(items) <= 60
        answers = [item.answer for item in items]
        assert max(map(answers.count, answers)) <= len(answers) / 2


def test_reading_depends_on_the_last_place() -> None:
    moved = [item for item in tasks.items("steerwise_reading") if "Later" in item.question]
    assert len(moved) == 30
    for item in moved:
        told, question = item.question.split("\n")
        place = question.removeprefix("Is ").partition(" now?")[0].partition(" in ")[2]
        assert told.endswith(f"to {place}.") == (item.answer == "yes")


@pytest.mark.seconds
def test_evaluation_imports_neither_the_harness_nor_torch() -> None:
    check = "import sys, evaluation.retention.__main__; print({'lm_eval', 'torch', 'datasets'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "set()"


@pytest.mark.slow
@needs_harness
def test_what_a_candidate_has_lost_is_found_by_the_real_harness(tmp_path: Path) -> None:
    server = Completions({"first": able, "tuned": forgetful})
    with listening(server) as address:
        given = arguments(address, tmp_path / "report.json", "--model", "base=first", "--model", "tuned")
        assert main(given) == 0
    made = RetentionReport.model_validate_json((tmp_path / "report.json").read_text())
    base, candidate = made.stages
    assert (base.stage, base.retained, candidate.stage) == ("base", None, "candidate")
    assert {name: (t.score.value, t.retained) for name, t in base.tasks.items()} == dict.fromkeys(
        tasks.TASKS, (1.0, None)
    )
    for name, task in candidate.tasks.items():
        assert task.score.n == tasks.TASKS[name].items
        assert task.retained is not None
        assert task.retained.ci95 is not None
        assert task.retained.ci95[0] < task.retained.value == -0.5 < task.retained.ci95[1]
    assert candidate.retained is not None
    assert candidate.retained.value == -0.5
    assert candidate.retained.n == sum(made.items for made in tasks.TASKS.values())
    assert {body.get("temperature") for body in server.bodies} == {0}


@pytest.mark.slow
@needs_harness
def test_a_task_that_could_not_be_measured_has_a_reason_and_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without the log-probs of prompts; data that is nowhere; code that nobody allowed to run."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    wanted = "steerwise_follow,steerwise_reading,winogrande,humaneval_instruct"
    with listening(Completions({"tuned": able}, echoes=False)) as address:
        given = arguments(
            address, tmp_path / "report.json", "--model", "tuned", "--tasks", wanted, "--limit", "6"
        )
        assert main(given) == 4
    made = RetentionReport.model_validate_json((tmp_path / "report.json").read_text())
    [stage] = made.stages
    assert (stage.tasks["steerwise_follow"].score.value, stage.tasks["steerwise_follow"].score.n) == (1.0, 6)
    for name, why in (
        ("steerwise_reading", "no log-probs of a prompt"),
        ("winogrande", "winogrande"),
        ("humaneval_instruct", "runs code that the model wrote"),
    ):
        task = stage.tasks[name]
        assert (task.score.value, task.score.n) == (None, 0)
        assert task.not_measured is not None
        assert why in task.not_measured


@needs_harness
def test_a_harness_that_dies_leaves_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.exit('no space left on device')")
    monkeypatch.setattr(harness, "CHILD", child)
    found = harness.measure(
        Server("http://127.0.0.1:9", TOKENIZER), "tuned", harness.OWN, HarnessLimits(limit=1)
    )
    assert list(found) == list(tasks.TASKS)
    for result in found.values():
        assert isinstance(result, RetentionNotMeasured)
        assert "exit code 1" in result.reason and "no space left on device" in result.reason


def test_retained_pairs_the_items_that_both_were_asked() -> None:
    base: dict[str, Result] = {
        "a": {str(i): 1.0 for i in range(10)},
        "b": {"x": 0.0, "y": 0.25},
        "c": RetentionNotMeasured("no data"),
    }
    later: dict[str, Result] = {
        "a": {str(i): float(i % 2) for i in range(20)},
        "b": {"x": 0.5, "y": 0.75},
        "c": {"z": 1.0},
    }
    made = assemble([StageResults("base", "m", base), StageResults("rl", "m", later)], harness="1")
    [_, rl] = made.stages
    found = {name: (task.score.value, task.retained) for name, task in rl.tasks.items()}
    assert found["a"][0] == 0.5
    assert {name: (r.value, r.n) for name, (_, r) in found.items() if r} == {
        "a": (-0.5, 10),
        "b": (0.5, 2),
        "c": (None, 0),  # nothing to compare with is not a loss of nothing
    }
    assert rl.retained is not None
    assert (rl.retained.value, rl.retained.n) == (0.0, 12)  # (-0.5 + 0.5) / 2: tasks count alike
    assert made.stages[0].tasks["c"].not_measured == "no data"


def test_bad_input_exits_2_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unreachable = arguments("http://127.0.0.1:9", tmp_path / "report.json")
    for more, said in (
        (["--model", "m"], "no model server answers"),
        (["--model", "m", "--tasks", "own,nonsense"], "there is no task 'nonsense'"),
        (["--model", "m", "--model", "n"], "two models have one stage"),
    ):
        assert main([*unreachable, *more]) == 2
        assert said in capsys.readouterr().err
    with listening(Completions({"m": able})) as address:
        for more, said in (
            (["--model", "n"], "the server has no model n; it has m"),
            (["--model", "m", "--tokenizer", str(tmp_path)], "no tokenizer.json"),
        ):
            assert main(arguments(address, tmp_path / "report.json", *more)) == 2
            assert said in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def test_without_the_harness_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(RetentionError, match=r"pip install 'steerwise\[retention\]'"):
        harness.measure(Server("http://127.0.0.1:9", TOKENIZER), "m", harness.OWN)


def test_scores_that_lie_between_right_and_wrong_keep_their_mean() -> None:
    made = assemble([StageResults("base", "m", {"mc2": {"1": 0.2, "2": 0.7}})], harness="1")
    assert made.stages[0].tasks["mc2"].score.value == pytest.approx(0.45)
    assert json.loads(made.model_dump_json())["stages"][0]["retained"] is None
