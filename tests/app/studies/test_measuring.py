"""Arms are asked for all that a study measures, and what they said is kept."""

from pathlib import Path
from typing import Any, cast

import anyio
import httpx

from app.serving.base import STARTER, find_base
from app.serving.vllm import VllmEndpoint
from app.settings import Settings
from app.studies import knowledge
from app.studies.measuring import _Asking, _Measured
from app.studies.paired import differences
from app.studies.preparing import StudyFolder, prepare
from app.studies.results import BASE_ARM, at_end
from app.studies.serving import ANSWER_TIMEOUT_S
from evaluation.inference.stage_client import ServedStage
from evaluation.inference.tokenizer_files import load_codes
from tests.app.studies.quiet import QUIET
from tests.app.studies.shipped import training_study
from tests.evaluation.fake_server import FakeServer, says

CODES = load_codes(find_base(STARTER).folder, 40)
FACTS = knowledge.read("velmarsh_bikes").facts


class Learned(FakeServer):
    """The base knows what it reads, and the arm all facts. One token a character."""

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "prompt" in body:
            self.bodies.append(body)
            tokens = [None, *({"1": {"logprob": -1.0}} for _ in body["prompt"][1:])]
            return 200, {"choices": [{"text": "x", "prompt_logprobs": tokens}]}
        first, last = (body["messages"][place]["content"] for place in (0, -1))
        if "prompt_logprobs" in body:
            self.bodies.append(body)
            read = [None, *({"1": {"logprob": -1.5}} for _ in range(len(last) + 5))]
            return 200, {"choices": [{"message": {"content": "x"}}], "prompt_logprobs": read}
        if body["temperature"] == 1.0:
            self.bodies.append(body)
            each = -1.5 if body["model"] == "base" else -0.5
            entries = [{"token": c, "logprob": each, "bytes": list(c.encode())} for c in "Sure."]
            return 200, {"choices": [{"message": {"content": "Sure."}, "logprobs": {"content": entries}}]}
        if first.startswith("You work for"):
            self.bodies.append(body)
            knows = body["model"] == "arm" or "This is known:" in last
            said = next(f.answer for f in FACTS if any(q.text in last for q in knowledge._asked(f)))
            return 200, {"choices": [{"message": {"content": said if knows else "I do not know."}}]}
        return super().respond(body)


def server_of() -> Learned:
    return Learned(lambda asked: says(asked.options[0].code), codes=CODES)


class Endpoint:
    def __init__(self, server: FakeServer):
        self._server = server

    def async_client(self, timeout_s: float) -> httpx.AsyncClient:
        assert timeout_s == ANSWER_TIMEOUT_S  # an answer that waits behind others ends no study
        transport = httpx.ASGITransport(self._server)
        return httpx.AsyncClient(transport=transport, base_url="http://model", timeout=timeout_s)


class GatesEndpoint(Endpoint):
    """An evaluation sets no time of its own."""

    def async_client(self, timeout_s: float = ANSWER_TIMEOUT_S) -> httpx.AsyncClient:
        return super().async_client(timeout_s)


def measured(
    server: FakeServer, folder: Path, endpoint: type[Endpoint] = Endpoint, **change: Any
) -> _Measured:
    study = training_study("knowledge").model_copy(update={"retention_items": 20} | change)
    prepared = prepare(study, StudyFolder(0, find_base(STARTER), folder, ""))
    served = [ServedStage(BASE_ARM, "base", "b"), ServedStage("arm", "arm", "a")]
    asked = cast(VllmEndpoint, endpoint(server))
    made = anyio.run(_Asking(prepared, asked, served, Settings(), QUIET).everything)
    assert made.pass_at_k == {}
    return made


def test_facts_sentences_distance_and_retention_are_measured_of_every_arm(tmp_path: Path) -> None:
    server = server_of()
    made = measured(server, tmp_path)
    base, arm = (at_end([made.points[name]]) for name in (BASE_ARM, "arm"))
    assert (base["strict"].value, base["strict, shown"].value, arm["strict"].value) == (0.0, 1.0, 1.0)
    assert (arm["strict"].n, arm["paraphrased"].n, arm["indirect"].n) == (40, 80, 40)
    assert "strict, shown" not in arm
    assert (base["kl_to_base"].value, arm["kl_to_base"].value) == (0.0, 1.0)
    assert base["everyday"].n == 60 and base["retention"].n == 20
    over = differences(made.answers["arm"], made.answers[BASE_ARM], made.counted)
    assert (over["strict"].value, over["strict"].n, over["kl_to_base"].value) == (1.0, 40, 1.0)
    assert over["strict"].ci95 is not None and "strict, shown" not in over and "accuracy" not in over
    kept = {path.name.rpartition("-")[0] for path in (tmp_path / "answers").iterdir()}
    assert kept == {"retention", "sentences", "prompts-48", "known-32", "known-32-shown"}
    assert any("It began in 2017." in path.read_text() for path in (tmp_path / "answers").iterdir())


def test_what_arms_have_answered_is_scored_anew_without_asking(tmp_path: Path) -> None:
    before = measured(server_of(), tmp_path)
    silent = server_of()
    assert measured(silent, tmp_path) == before and silent.bodies == []


def test_arms_are_compared_on_the_tenants_own_questions_too(tmp_path: Path) -> None:
    """Arm and base answer alike, so every difference is 0, of as many questions as were asked."""
    made = measured(server_of(), tmp_path, GatesEndpoint, suite_items=40)
    base, arm = (at_end([made.points[name]]) for name in (BASE_ARM, "arm"))
    over = differences(made.answers["arm"], made.answers[BASE_ARM], made.counted)
    for name in ("accuracy", "steerability", "flip_accuracy", "invariance", "majority_over_selection"):
        assert arm[name] == base[name] and arm[name].n > 0
        assert over[name].value == 0.0 and over[name].n == arm[name].n
