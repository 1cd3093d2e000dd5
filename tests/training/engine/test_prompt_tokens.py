"""What a stage makes of messages is what serving makes of them, also where a model's template can think."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from evaluation.contract.chat import TEMPLATE_ARGUMENTS
from evaluation.contract.perturb import identity
from evaluation.contract.render import candidate_codes
from tests.training.shop import Tenant
from training.config import Distill, Rl, StageManifest
from training.data.examples import Rendering
from training.engine.model import prompt_tokens
from training.engine.progress import EventWriter
from training.generation.samplers import Writes
from training.stages import rl
from training.stages.distill import stage as distill

# As Qwen3's: without the switch the model opens the block itself, and an answer that is shown has it.
_SWITCHED_OFF = "enable_thinking is defined and enable_thinking is false"
_HYBRID = "{% if " + _SWITCHED_OFF + " %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"


@pytest.fixture
def hybrid(base: Path, tmp_path: Path) -> Path:
    """The tiny base with the template of a model that thinks unless it is told not to."""
    folder = tmp_path / "hybrid"
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    opening = "'<|im_start|>assistant\\n' }}"
    assert opening in tokenizer.chat_template
    content = "+ m['content']"
    shown = "+ ('<think>\\n\\n</think>\\n\\n' if m['role'] == 'assistant' else '') "
    assert content in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(content, shown + content)
    tokenizer.chat_template = tokenizer.chat_template.replace(opening, opening + _HYBRID)
    tokenizer.save_pretrained(folder)
    return folder


def test_messages_are_rendered_with_the_switches_that_serving_sends(hybrid: Path, tenant: Tenant) -> None:
    tokenizer = AutoTokenizer.from_pretrained(hybrid)
    codes = tuple(code for code, _ in zip(candidate_codes(), tenant.schema.answers, strict=False))
    messages = Rendering(identity(tenant.schema), codes).example(tenant.conversations[0]).prompt.messages
    served = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, **TEMPLATE_ARGUMENTS
    )
    tokens = prompt_tokens(tokenizer, messages)
    assert tokens == served["input_ids"]
    assert tokenizer.decode(tokens).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("kind", ["distill", "rl"])
def test_a_student_writes_after_the_prompt_that_is_served(
    kind: str, hybrid: Path, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = Writes.write

    def watched(self: Any, prompts: list[list[int]]) -> list[list[int]]:
        seen.extend(self.processing_class.decode(prompt) for prompt in prompts)
        return real(self, prompts)

    monkeypatch.setattr(Writes, "write", watched)
    stage = {"kind": kind, "steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_new_tokens": 8}
    manifest = StageManifest.model_validate(
        {
            "stage": stage | ({"generations": 4} if kind == "rl" else {"hint": "criterion"}),
            "base": str(hybrid),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "out": str(tmp_path),
        }
    )
    if isinstance(manifest.stage, Rl):
        rl.run(manifest, manifest.stage, EventWriter(tmp_path, "rl"))
    else:
        assert isinstance(manifest.stage, Distill)
        distill.run(manifest, manifest.stage, EventWriter(tmp_path, "distill"))
    assert len(seen) == 4
    assert all(text.endswith("assistant\n<think>\n\n</think>\n\n") for text in seen)
