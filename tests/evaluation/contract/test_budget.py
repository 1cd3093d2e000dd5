"""How long an answer may be is one number, whoever writes, reads or makes room for it."""

import inspect
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from app.runs.presets import Preset, plan
from evaluation.contract.budget import ANSWER_TOKENS, lengths, misfit, room, text_of
from evaluation.contract.record import conversation_from_text
from evaluation.contract.render import render
from evaluation.inference import stage_client
from evaluation.inference.predictor import VllmPredictor
from evaluation.metrics.divergence import divergence
from tests.evaluation.shop import SCHEMA
from training.config import Distill, Rl, Traces

WRITING = (Traces, Distill, Rl)


def default(of: object, parameter: str) -> object:
    return inspect.signature(of).parameters[parameter].default  # type: ignore[arg-type]


def test_serving_the_gate_and_every_stage_that_writes_have_the_same_number() -> None:
    assert {stage().max_new_tokens for stage in WRITING} == {ANSWER_TOKENS}
    assert stage_client.ClientSettings(None, None).max_tokens == ANSWER_TOKENS  # type: ignore[arg-type]
    assert default(VllmPredictor, "max_tokens") == default(divergence, "max_tokens") == ANSWER_TOKENS


@pytest.mark.parametrize("preset", Preset)
def test_no_preset_says_another(preset: Preset) -> None:
    made = plan(preset)
    assert {made.traces.max_new_tokens, made.distill.max_new_tokens, made.rl.max_new_tokens} == {
        ANSWER_TOKENS
    }


@pytest.mark.parametrize("stage", WRITING)
def test_no_stage_may_be_rewarded_for_what_serving_would_cut_off(stage: type[Traces | Distill | Rl]) -> None:
    assert stage(max_new_tokens=ANSWER_TOKENS - 1)
    with pytest.raises(ValidationError, match="max_new_tokens"):
        stage(max_new_tokens=ANSWER_TOKENS + 1)


def test_a_prompt_is_measured_as_it_is_rendered_and_leaves_room_for_a_whole_answer() -> None:
    said, codes = conversation_from_text("where is my parcel"), tuple("ABCDEFGH")

    def characters(texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    whole = text_of(render(SCHEMA, said, codes).messages)
    assert lengths(SCHEMA, [said, said], codes, characters) == [len(whole)] * 2
    assert lengths(SCHEMA, [], codes, characters) == []
    assert room(4096) < 4096 - ANSWER_TOKENS  # the template takes its part


def test_a_model_that_was_trained_for_longer_answers_is_named() -> None:
    assert misfit(None) is misfit(ANSWER_TOKENS) is misfit(ANSWER_TOKENS - 1) is None
    assert str(ANSWER_TOKENS + 1) in str(misfit(ANSWER_TOKENS + 1))
