"""What a stage's process and whoever starts it agree on."""

import inspect

import pytest

from training import protocol
from training.protocol import FailureCode, may_be_retried


def test_every_failure_code_says_whether_it_may_be_retried() -> None:
    assert {type(code.retried) for code in FailureCode} == {bool}
    assert [code for code in FailureCode if may_be_retried(code.value) is not code.retried] == []


def test_a_failure_code_that_does_not_say_so_cannot_even_be_imported() -> None:
    first = "    non_finite_loss = "
    source = inspect.getsource(protocol)
    assert source.count(first) == 1
    exec(source, {"__name__": "whole"})
    with pytest.raises(TypeError):
        exec(source.replace(first, f'    unsaid = "unsaid"\n{first}'), {"__name__": "planted"})
