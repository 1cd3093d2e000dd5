"""What a stage's process and whoever starts it agree on."""

import inspect
from typing import get_args

import pytest

from app.runs import kinds
from app.runs.presets import Preset, plan
from training import protocol
from training.config import StageManifest
from training.protocol import GOES_ON_FROM, READ_TRACES, STAGES, FailureCode, Fault, fault_of_code


def test_the_order_of_stages_is_the_one_that_presets_and_runs_have() -> None:
    assert tuple(stage.kind for stage in plan(Preset.smoke).stages) == STAGES
    assert tuple(kind.value for kind in kinds.STAGES) == STAGES
    assert {*GOES_ON_FROM, *GOES_ON_FROM.values(), *READ_TRACES} < {*STAGES}
    known = get_args(StageManifest.model_fields["stage"].annotation)
    assert tuple(stage.model_fields["kind"].default for stage in known) == STAGES


def test_every_failure_code_says_whose_fault_it_is() -> None:
    assert {code.fault for code in FailureCode} == set(Fault)
    assert [code for code in FailureCode if fault_of_code(code.value) is not code.fault] == []
    assert fault_of_code("of_a_later_version") is Fault.ours


def test_a_failure_code_that_does_not_say_so_cannot_even_be_imported() -> None:
    first = "    non_finite_loss = "
    source = inspect.getsource(protocol)
    assert source.count(first) == 1
    exec(source, {"__name__": "whole"})
    with pytest.raises(TypeError):
        exec(source.replace(first, f'    unsaid = "unsaid"\n{first}'), {"__name__": "planted"})
