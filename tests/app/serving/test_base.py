"""Which models this installation can serve at all."""

import pytest

from app.errors import InputError
from app.infra.tables.runs import ModelVersion
from app.serving.base import digest, find_base, served_base
from app.settings import Settings
from evaluation.contract.budget import ANSWER_TOKENS


def test_a_model_that_was_trained_for_longer_answers_than_are_read_is_not_served() -> None:
    settings, base = Settings(base="starter"), find_base("starter")
    made = ModelVersion(base_sha256=digest(base), answer_tokens=ANSWER_TOKENS)
    assert served_base(settings, made) == base
    made.answer_tokens = ANSWER_TOKENS + 1
    with pytest.raises(InputError, match=f"answers of {ANSWER_TOKENS + 1} tokens"):
        served_base(settings, made)
    made.answer_tokens, made.base_sha256 = None, "0" * 64
    with pytest.raises(InputError, match="another base"):
        served_base(settings, made)
