"""Everything that asks these wires, against the whole product with the real vLLM: started once, with the starter."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import pytest
from langchain_openai.decisions import Choice, OpenAIDecisions, Predicate
from openai import OpenAI
from typesafe_sdk import Noul, Score, TypeSafeClient

from evaluation.contract.record import Split
from tests.app.local.stand_in import Place
from tests.app.local.test_product import ROOT, served
from tests.evaluation.shop import SCHEMA, conversations

pytestmark = pytest.mark.e2e
STATE = "I was charged twice for my order. Please give me one payment back."
TEAMS = {
    "billing": "Payments, invoices and refunds",
    "technical": "Problems using the product",
    "other": None,
}
TIMEOUT_S = 600


class Asked(NamedTuple):
    url: str
    key: str


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """With the key of a client of a tenant that lets the base as it stands answer."""
    folder: Path = tmp_path_factory.mktemp("decisions")
    (folder / "path").mkdir()
    with (
        TemporaryDirectory(prefix="sw-") as sockets,
        served(Place(folder / "home", folder / "path", Path(sockets))) as product,
    ):
        admin = product.read_until("admin key").split()[2]
        product.read_until("ready")
        with httpx.Client(base_url=f"{product.url}/v1", timeout=60) as client:
            client.headers["Authorization"] = f"Bearer {admin}"
            tenant = client.post("/tenants", json={"name": "shop", "ungated": "api"}).raise_for_status()
            client.headers["X-Tenant"] = tenant.json()["id"]
            key = client.post("/api-keys", json={"name": "client", "scopes": ["classify"]})
        yield Asked(product.url, key.raise_for_status().json()["key"])


def test_openais_client(api: Asked) -> None:
    client = OpenAI(api_key=api.key, base_url=f"{api.url}/v1", timeout=TIMEOUT_S)
    assert "steerwise" in [model.id for model in client.models.list()]
    choices: Any = [
        {"value": value, **({} if said is None else {"description": said})} for value, said in TEAMS.items()
    ]
    team: Any = {"type": "choice", "name": "team", "instructions": "Which team?", "choices": choices}
    found = client.decisions.create(
        model="steerwise",
        input=[{"role": "user", "content": STATE}],
        questions=[team, {"type": "predicate", "instructions": "Is it about money?"}],
    )
    choice, predicate = found.answers
    assert choice.type == "choice" and choice.choice in TEAMS
    assert sum(one.probability for one in choice.probabilities) == pytest.approx(1.0)
    assert predicate.type == "predicate" and 0 < predicate.probability < 1
    assert found.usage.output_tokens == 2 and found.usage.input_tokens > 100


def test_the_system_one_client(api: Asked) -> None:
    with TypeSafeClient(api_key=api.key, base_url=api.url, model="steerwise", timeout=TIMEOUT_S) as client:
        found = client.system_one(
            state={"subject": "payment", "message": STATE * 20},
            questions={
                "angry": Noul(instructions="Is the customer angry?"),
                "urgency": Score(
                    instructions="How urgent is it?", criteria=["Can wait", "This week", "Today"]
                ),
            },
        )
    assert 0 < found.nouls["angry"].noul < 1
    assert sum(found.scores["urgency"].probabilities.values()) == pytest.approx(1.0)
    assert 0 <= found.scores["urgency"].score <= 2


def test_langchains_client(api: Asked) -> None:
    client = OpenAIDecisions(
        model="steerwise", api_key=api.key, base_url=f"{api.url}/v1", timeout=TIMEOUT_S, max_retries=0
    )
    found = client.invoke(
        {
            "input": STATE,
            "questions": {
                "team": Choice(instructions="Which team?", choices=TEAMS),
                "money": Predicate(instructions="Is it about money?"),
            },
        }
    )
    assert found.choices["team"].choice in TEAMS and 0 < found.predicates["money"].probability < 1


def test_all_255_options_are_read_by_one_question(api: Asked) -> None:
    criteria = {f"part {number}": f"about the part with the number {number}" for number in range(255)}
    body = {
        "model": "steerwise",
        "state": STATE,
        "questions": {"q": {"type": "choice", "criteria": criteria}},
    }
    headers = {"Authorization": f"Bearer {api.key}"}
    found = httpx.post(f"{api.url}/v1/systemone", json=body, headers=headers, timeout=TIMEOUT_S)
    answer = found.raise_for_status().json()["answers"]["q"]
    assert set(answer["probabilities"]) == set(criteria)
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["steerwise"]["reads"] > 3


def test_jevbench_reads_every_answer_and_finds_no_question_that_leans_on_another(
    api: Asked, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    jevbench = [sys.executable, "-m", "jevbench", "eval", "--suite", "examples", "--diagnostics"]
    told = ["--url", f"{api.url}/v1/systemone", "--model", "steerwise", "--no-cache", "--out", str(out)]
    environment = os.environ | {"JEVBENCH_API_KEY": api.key}
    done = subprocess.run([*jevbench, *told], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["result"]["errors"] == [] and report["scores"]["incomplete"] == []
    scores = report["scores"]["relations"]
    assert {name: score for name, score in scores.items() if name.startswith("batch_")} == {
        "batch_content": 1.0,
        "batch_order": 1.0,
        "batch_size_sweep": 1.0,
        "batch_solo": 1.0,
    }
    assert scores["option_permutation"] == 1.0
    fits = [one for one in report["result"]["outcomes"] if one["relation"] == "confidence_consistency"]
    assert fits and not any(one["violated"] for one in fits)
    assert {one["detail"]["definition"] for one in fits} == {"one_minus_normalized_entropy"}


@pytest.mark.parametrize("wire", ["systemone", "decisions"])
def test_the_benchmark_measures_the_server_as_it_would_any_other(
    api: Asked, tmp_path: Path, wire: str
) -> None:
    (tmp_path / "schema.json").write_text(SCHEMA.model_dump_json())
    rows = [c for c in conversations() if c.split is Split.test][:8]
    (tmp_path / "rows.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    command = [
        *(sys.executable, "-m", "evaluation", "run", "--wire", wire, "--base-url", api.url),
        *("--schema", str(tmp_path / "schema.json"), "--conversations", str(tmp_path / "rows.jsonl")),
        *("--model", "steerwise", "--api-key-env", "DECISIONS_KEY", "--max-items", "24"),
        *("--out", str(tmp_path / "report.json")),
    ]
    environment = os.environ | {"DECISIONS_KEY": api.key}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (3, 4), done.stdout + done.stderr
    written = json.loads((tmp_path / "report.json").read_text())
    (stage,) = written["stages"]
    assert stage["accuracy"]["n"] > 0 and written["mode"] == "fast"
