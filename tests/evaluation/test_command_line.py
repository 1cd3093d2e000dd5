"""`python -m evaluation` over a real socket, with the exit codes that scripts rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from tokenizers.pre_tokenizers import ByteLevel

from evaluation.__main__ import _parser, _served, main
from evaluation.contract.record import Split
from evaluation.reporting import report
from evaluation.reporting.report import Verdict
from tests.evaluation import models
from tests.evaluation.evaluation_run import evaluated
from tests.evaluation.fake_server import CODES, FakeServer, listening
from tests.evaluation.shop import SCHEMA, conversations
from tests.evaluation.wire_server import WireServer


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    (tmp_path / "schema.json").write_text(SCHEMA.model_dump_json())
    rows = "".join(c.model_dump_json() + "\n" for c in conversations())
    (tmp_path / "conversations.jsonl").write_text(rows)
    _tokenizer().save(str(tmp_path / "tokenizer.json"))
    return [
        *(
            "--schema",
            str(tmp_path / "schema.json"),
            "--conversations",
            str(tmp_path / "conversations.jsonl"),
        ),
        *(
            "--tokenizer",
            str(tmp_path),
            "--out",
            str(tmp_path / "report.json"),
            "--page",
            str(tmp_path / "page.html"),
        ),
        *("--max-items", "720", "--model", "base=fake", "--model", "rl=fake"),
    ]


def _tokenizer() -> Tokenizer:
    """Its first codes have the token ids that the fake server knows: 100, 101, …"""
    pieces = sorted(ByteLevel.alphabet())
    vocabulary = {piece: i if i < 100 else i + 1000 for i, piece in enumerate(pieces)}
    codes = [code for code in CODES.texts if len(code) == 1]
    vocabulary |= {f"Ġ{code}": CODES.token_ids[i] for i, code in enumerate(codes)}
    filled = vocabulary | {f"[{i}]": i for i in range(2000) if i not in set(vocabulary.values())}
    tokenizer = Tokenizer(tokenizer_models.BPE(filled, [("Ġ", code) for code in codes]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer


def test_a_model_that_follows_definitions_exits_0_and_leaves_report_and_page(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(FakeServer(models.oracle())) as address:
        assert main(["run", *inputs, "--base-url", address]) == 0
    assert capsys.readouterr().out.startswith("passed\n")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["report_version"] == 3
    assert [stage["stage"] for stage in written["stages"]] == ["base", "rl"]
    assert written["stages"][-1]["label_mass"]["value"] == pytest.approx(0.9, abs=0.01)
    assert written["baselines"]["tfidf_accuracy"]["n"] == written["baselines"]["embeddings_accuracy"]["n"] > 0
    assert "Passed" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("wire", ["systemone", "decisions"])
def test_a_server_of_typed_decisions_is_measured_without_a_tokenizer(
    wire: str, inputs: list[str], tmp_path: Path
) -> None:
    at = inputs.index("--tokenizer")
    asked = [*inputs[:at], *inputs[at + 2 :], "--wire", wire]
    with listening(WireServer(models.oracle())) as address:
        assert main(["run", *asked, "--base-url", address]) == 0
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["mode"] == "fast"
    assert written["stages"][-1]["steerability"]["value"] == pytest.approx(1.0)
    with listening(WireServer(models.habit())) as address:
        assert main(["run", *asked, "--base-url", address]) == 3


def test_an_adapter_is_named_for_its_sentence_encoder(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    asked = ["run", *inputs, "--base-url", "http://127.0.0.1:1", "--adapter"]
    assert main([*asked, f"sft={adapter}"]) == 2
    assert "names no stage 'sft'" in capsys.readouterr().err
    nothing_read = [
        str(tmp_path / "no.jsonl") if one.endswith("conversations.jsonl") else one for one in asked
    ]
    assert main([*nothing_read, f"rl={adapter}"]) == 2
    assert "likeness.safetensors is missing" in capsys.readouterr().err
    (adapter / "likeness.safetensors").write_bytes(b"an encoder")
    given = _parser().parse_args([*asked, f"rl={adapter}"])
    base, candidate = _served(given)
    assert (base.version, base.adapter, candidate.adapter) == ("fake", None, adapter)
    (adapter / "likeness.safetensors").write_bytes(b"another")
    assert (
        _served(given)[1].version != candidate.version
    )  # so that kept answers of the other are not taken for its
    at = asked.index("--tokenizer")
    assert main([*asked[:at], *asked[at + 2 :], f"rl={adapter}", "--wire", "systemone"]) == 2
    assert "leave it out" in capsys.readouterr().err


def test_baselines_are_asked_the_same_questions_without_a_server(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*inputs[:4], "--max-items", "120", "--suite", str(tmp_path / "suite.json")]
    assert main(["baselines", *asked, "--out", str(tmp_path / "found.json")]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["accuracy", "steerability", "flip", "accuracy", "invariance"]
    assert [row.split("  ")[0] for row in rows] == [
        "TF-IDF, linear",
        "embeddings, linear",
        "embeddings, similarity",
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["labels"] > 0 and set(found["baselines"]) == {"tfidf", "embeddings", "similarity"}
    without = [*inputs[:6], "--base-url", "x", "--suite", str(tmp_path / "suite.json"), "--model", "fake"]
    with listening(FakeServer(models.oracle())) as address:
        without[without.index("x")] = address
        main(["run", *without, "--out", str(tmp_path / "report.json")])
    assert json.loads((tmp_path / "report.json").read_text())["suite_sha256"] == found["suite_sha256"]
    assert "\ncandidate " in capsys.readouterr().out
    assert main(["baselines", *asked, "--out", str(tmp_path)]) == 2


def test_what_a_wire_cannot_do_is_said_before_anything_is_asked(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    at = inputs.index("--tokenizer")
    without = [*inputs[:at], *inputs[at + 2 :]]
    with listening(server := WireServer(models.oracle())) as address:
        assert main(["run", *without, "--base-url", address]) == 2
        assert (
            main(["run", *without, "--base-url", address, "--wire", "systemone", "--mode", "reasoned"]) == 2
        )
        assert server.bodies == []
        keyed = [*without, "--base-url", address, "--wire", "decisions", "--api-key-env", "NO_SUCH_KEY"]
        assert main(["run", *keyed]) == 2
        assert server.bodies == []
        unknown = [*without, "--base-url", address, "--wire", "decisions", "--model", "third=other"]
        assert main(["run", *unknown]) == 2
    said = capsys.readouterr().err
    assert "--tokenizer: name the folder" in said and "the wire systemone answers at once" in said
    assert "NO_SUCH_KEY is empty" in said
    assert "refuses model 'other' on the wire decisions: 404" in said


def test_the_example_measures_any_server(inputs: list[str], tmp_path: Path) -> None:
    example = str(Path(__file__).parents[2] / "examples" / "measure_server.py")
    files = [str(tmp_path / "schema.json"), str(tmp_path / "conversations.jsonl")]
    with listening(FakeServer(models.oracle())) as address:
        command = [sys.executable, example, *files, address, "fake", str(tmp_path), "--max-items", "240"]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["accuracy", "1.000"], ["steerability", "1.000"], ["flip_accuracy", "1.000"], ["invariance", "1.000"],
    ]  # fmt: skip


def test_all_families_are_asked_and_a_rewording_can_be_given(inputs: list[str], tmp_path: Path) -> None:
    reworded = tmp_path / "other.json"
    reworded.write_text(SCHEMA.model_dump_json())
    asked = [*inputs, "--reworded", str(reworded), "--max-items", "900"]
    with listening(FakeServer(models.habit())) as address:
        assert main(["run", *asked, "--base-url", address]) == 3
    per_family = json.loads((tmp_path / "report.json").read_text())["stages"][-1]["per_family"]
    assert {"novel", "split", "merge", "reword"} < per_family.keys()


def test_a_suite_is_written_once_and_then_asked_of_every_model(inputs: list[str], tmp_path: Path) -> None:
    suites = []
    for model, seed in ((models.oracle(), "0"), (models.habit(), "1")):
        asked = [*inputs, "--suite", str(tmp_path / "suite.json"), "--seed", seed, "--max-items", "120"]
        with listening(FakeServer(model)) as address:
            assert main(["run", *asked, "--base-url", address]) in (3, 4)
        suites.append(json.loads((tmp_path / "report.json").read_text())["suite_sha256"])
    assert suites[0] == suites[1] == json.loads((tmp_path / "suite.json").read_text())["sha256"]
    (tmp_path / "suite.json").write_text("{}")
    assert main(["run", *inputs, "--suite", str(tmp_path / "suite.json")]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--families", "swap,twist"], "no family twist"),
        (["--reworded", "schema.json", "--families", "swap"], "add it to --families"),
        (["--reworded", "conversations.jsonl"], "cannot be used as a rewording"),
        (["--reworded", "fewer.json", "--families", "reword"], "does not have the same categories"),
    ],
)
def test_families_and_rewordings_that_cannot_be_used_are_named(
    arguments: list[str], said: str, inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = SCHEMA.model_copy(update={"categories": SCHEMA.categories[1:]})
    (tmp_path / "fewer.json").write_text(fewer.model_dump_json())
    given = [str(tmp_path / a) if "json" in a else a for a in arguments]
    assert main(["run", *inputs, *given]) == 2
    assert said in capsys.readouterr().err


def test_decide_judges_a_written_report_under_any_policy(tmp_path: Path) -> None:
    path, policy = tmp_path / "report.json", tmp_path / "policy.toml"
    report.write(evaluated({"base": models.oracle(), "sft": models.habit()}), path)
    assert main(["decide", "--report", str(path), "--out", str(path)]) == 3
    graded = report.read(path)
    assert graded.gate is not None
    assert graded.gate.verdict is Verdict.failed
    for least_n, code in ((10, 0), (99999, 4)):
        floor = f'[[floors]]\nmeasure = "accuracy"\nlimit = 0.1\nslack = 0.1\nleast_n = {least_n}\n'
        policy.write_text(f"version = 2\nmax_errored = 0.1\n{floor}")
        assert main(["decide", "--report", str(path), "--policy", str(policy)]) == code


def test_a_reader_that_closes_the_pipe_changes_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write(evaluated({"base": models.oracle(), "sft": models.habit()}), path)
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "evaluation", "decide", "--report", str(path)]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")


def test_labels_in_doubt_are_left_out_of_what_is_measured(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, doubted = tmp_path / "report.json", tmp_path / "doubted.jsonl"
    made = evaluated({"base": models.oracle(), "sft": models.habit()})
    report.write(made, path)
    asked = sorted({item.conversation_id for item in made.suite.items})
    lines = [
        json.dumps({"id": asked[0], "text": "two\u2028lines"}, ensure_ascii=False),
        asked[1],
        "elsewhere",
    ]
    doubted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = ["--report", str(path), "--without", str(doubted)]
    assert main(["decide", *given]) == 3
    told = capsys.readouterr()
    assert told.err == f"2 of {len(asked)} conversations left out\n"
    assert told.out.splitlines()[-1].startswith("sft ")
    assert main(["decide", *given, "--out", str(path)]) == 2
    assert report.read(path) == made
    doubted.write_text('{"key": "1"}\n')
    assert main(["decide", *given]) == 2
    assert "line 1 has no id" in capsys.readouterr().err
    conversations = inputs[inputs.index("--conversations") + 1]
    assert main(["baselines", *inputs[:4], "--without", conversations]) == 2
    assert "nothing is left" in capsys.readouterr().err


def over_the_wire(inputs: list[str], *more: str) -> list[str]:
    """Of one model, as somebody asks who measures a server elsewhere."""
    at, models_at = inputs.index("--tokenizer"), inputs.index("--model")
    return ["run", *inputs[:at], *inputs[at + 2 : models_at], "--model", "fake", "--wire", "systemone", *more]


def test_a_server_of_which_nobody_has_the_base_can_pass_and_what_compares_with_one_is_named(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(WireServer(models.oracle())) as address:
        assert main(over_the_wire(inputs, "--base-url", address)) == 0
    unjudged = (
        "not judged, as no stage `base` was asked (--model base=NAME): accuracy on schemas of others compared with the "
        "base, accuracy compared with the base, flip accuracy compared with the base"
    )
    assert f"\n- {unjudged}\n" in capsys.readouterr().out
    assert "Not judged, as no stage base was asked: accuracy on" in (tmp_path / "page.html").read_text()
    assert main(["decide", "--report", str(tmp_path / "report.json")]) == 0
    assert unjudged in capsys.readouterr().out


def test_answers_that_are_kept_are_of_one_server(inputs: list[str], tmp_path: Path) -> None:
    for model, accurate in ((models.oracle(), True), (models.dice(), False)):
        with listening(server := WireServer(model)) as address:
            asked = ["--base-url", address, "--keep", str(tmp_path / "kept"), "--max-items", "60"]
            main(over_the_wire(inputs, *asked))
            first = len(server.bodies)
            main(over_the_wire(inputs, *asked, "--base-url", f"{address}/v1/"))
        assert len(server.bodies) == first + 1 > 60, "the second time it is only tried"
        (stage,) = json.loads((tmp_path / "report.json").read_text())["stages"]
        assert stage["model"] == "fake" and (stage["accuracy"]["value"] == 1) is accurate
    given = _parser().parse_args(["run", *inputs, "--socket", "a.sock", "--base-url", "http://me:word@host"])
    assert {one.server for one in _served(given)} == {f"unix:{Path('a.sock').resolve()}"}
    given.socket = None
    assert {one.server for one in _served(given)} == {"http://host"}


class Breaking(WireServer):
    """From the given request on."""

    def __init__(self, first: int):
        super().__init__(models.oracle())
        self.first = first

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = super().respond(body)
        return answer if len(self.bodies) < self.first else (500, {"error": "out of memory"})


@pytest.mark.parametrize("labelled", [True, False])
def test_requests_that_fail_in_the_middle_say_what_the_server_said(
    labelled: bool, inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = set() if labelled else {"category", "criterion"}
    rows = [c.model_dump(mode="json", exclude=left_out) for c in conversations()]
    (tmp_path / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with listening(Breaking(12)) as address:
        assert main(over_the_wire(inputs, "--base-url", address, "--max-items", "60")) == 4
    told = capsys.readouterr()
    assert 'requests failed, most often: 500: {"error": "out of memory"}' in told.err
    assert "requests failed on our side" in told.out


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--base-url", "http://127.0.0.1:9"], "cannot be reached"),
        (["--base-url", "http://127.0.0.1:80a"], "is no address of a server (Invalid port: '80a')"),
        (["--base-url", "localhost:8000"], "write http://HOST:PORT"),
        (["--concurrency", "0"], "--concurrency: 1 at least"),
        (["--out", "."], "--out .: name a file in a folder that exists"),
        (["--page", "."], "--page .: name a file in a folder that exists"),
    ],
)
def test_what_cannot_be_asked_ends_before_the_benchmark(
    wrong: list[str], said: str, inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(over_the_wire(inputs, *wrong)) == 2
    told = capsys.readouterr().err
    assert said in told and " of " not in told.splitlines()[-1].partition(":")[0]


@pytest.mark.usefixtures("without_pauses")
def test_an_unreachable_server_is_incomplete_and_not_a_verdict_on_the_model(inputs: list[str]) -> None:
    arguments = [*inputs, "--base-url", "http://127.0.0.1:9", "--max-items", "20", "--concurrency", "20"]
    assert main(["run", *arguments]) == 4


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("schema.json", "{", "not JSON"),
        ("schema.json", '{"categories": []}', "1 to 100"),
        ("conversations.jsonl", "", "is empty"),
    ],
)
def test_bad_input_exits_2_and_says_what_is_wrong(
    inputs: list[str], tmp_path: Path, file: str, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text(content)
    assert main(["run", *inputs]) == 2
    assert said in capsys.readouterr().err


def test_a_report_that_cannot_be_read_exits_2(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"report_version": 1}')
    assert main(["decide", "--report", str(tmp_path / "report.json")]) == 2
    assert main(["decide", "--report", str(tmp_path / "missing.json")]) == 2


def test_without_a_single_label_it_measures_what_needs_none_and_asks_for_labels(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [c.model_dump(mode="json", exclude={"category", "criterion"}) for c in conversations()]
    (tmp_path / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with listening(FakeServer(models.oracle())) as address:
        assert main(["run", *inputs, "--max-items", "240", "--base-url", address]) == 4
    shown = capsys.readouterr().out
    assert shown.startswith("incomplete\n- 50 more held-out conversations need a label")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["verdict"] == "incomplete" and written["label_free"]["follows"]["value"] == 1.0
    held_out = {c.id for c in conversations() if c.split is Split.test}
    assert {one["conversation_id"] for one in written["label_free"]["label_first"]} <= held_out
