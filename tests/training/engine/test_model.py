"""What the training sends a base is what serving sends it, whatever the base's family."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from evaluation.contract.chat import ChatTemplate
from evaluation.contract.record import conversation_from_text
from evaluation.contract.render import render
from evaluation.inference.tokenizer_files import load_codes
from tests.evaluation.contract.test_chat import FAMILIES, stranger
from tests.factories import bases
from tests.factories.bases import Family, write_tokenizer
from training.artifacts import StageFailed
from training.engine.model import completion_tokens, form_of, load_tokenizer, prompt_tokens


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_training_reads_the_same_chat_form_as_serving(family: Family, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, family)
    served, tokenizer = load_codes(folder, 7).form, load_tokenizer(str(folder))
    assert form_of(tokenizer)._replace(end_id=None) == served._replace(end_id=None)
    assert tokenizer.eos_token == served.end
    marks = (*family.marks, *(mark for mark in family.plain_marks if mark.strip()))
    schema, text = stranger(marks)
    messages = render(schema, conversation_from_text(text), load_codes(folder, 7).texts).messages
    template = ChatTemplate((folder / "chat_template.jinja").read_text(), _named(folder))
    shown = template.render(served.messages(messages), opened=True)
    assert tokenizer.decode(prompt_tokens(tokenizer, messages)) == tokenizer.decode(
        tokenizer(shown, add_special_tokens=False)["input_ids"]
    )
    steering = {tokenizer.convert_tokens_to_ids(mark) for mark in marks}
    *written, end = completion_tokens(tokenizer, f'The customer says "{text}".')
    assert not steering & set(written)
    assert tokenizer.convert_ids_to_tokens(end) == served.end


def test_a_base_that_cannot_be_asked_ends_the_stage_with_the_reason(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, bases.NO_INSTRUCT)
    with pytest.raises(StageFailed, match="chat_template is not set"):
        load_tokenizer(str(folder))


def _named(folder: Path) -> dict[str, str]:
    named: dict[str, str] = AutoTokenizer.from_pretrained(str(folder)).special_tokens_map
    return named
