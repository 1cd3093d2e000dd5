"""What the files of a model folder say: which codes are one token, its chat form, and what is read beside it."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from evaluation import sentence_encoder
from evaluation.contract.base_note import ADAPTER_LIKENESS, LIKENESS, LIKENESS_FILE, NOTE
from evaluation.contract.chat import (
    PLAIN,
    ChatForm,
    ChatFormError,
    ChatTemplate,
    ControlToken,
    chat_form,
    check_control,
    control_tokens,
)
from evaluation.contract.render import ANSWER_MARK, CodesError, choose_codes
from evaluation.inference.likeness import Likeness
from evaluation.sentence_encoder import EncoderMissing

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


class Codes(NamedTuple):
    """With the chat form of the model that is to write them.

    likeness: of the sentence encoder that is heard where the model chooses a code; None: of none (see `likeness`).
    """

    texts: tuple[str, ...]
    token_ids: tuple[int, ...]
    form: ChatForm = PLAIN
    likeness: Likeness | None = None

    def alone(self) -> "Codes":
        """No encoder is heard: what answers is the language model."""
        return self._replace(likeness=None)

    def beside(self, adapter: Path | None) -> "Codes":
        """With the copy of the encoder that was trained with the adapter in this folder, where it brings one."""
        file = None if adapter is None else adapter / ADAPTER_LIKENESS
        if self.likeness is None or file is None or not file.is_file():
            return self
        return self._replace(likeness=self.likeness._replace(file=file))


def load_codes(model_dir: Path, count: int) -> Codes:
    """The first `count` one-token codes of the model's tokenizer.

    A folder without a chat template is one for asking a server that has it: how that takes a system message is seen
    when it is asked. Raises: CodesError where it has fewer codes, or wants an encoder that is not there; ChatFormError.
    """
    read = _read(model_dir)

    def tokens_of(text: str) -> list[int]:
        return list(read.tokenizer.encode(text, add_special_tokens=False).ids)

    texts = choose_codes(tokens_of, count)
    ids = tuple(tokens_of(f"{ANSWER_MARK} {code}")[-1] for code in texts)
    return Codes(texts, ids, read.form, _likeness(model_dir))


def _likeness(model_dir: Path) -> Likeness | None:
    """Raises: CodesError."""
    weight = float(_json(model_dir / NOTE).get(LIKENESS) or 0.0)
    if not weight:
        return None
    try:
        sentence_encoder.is_there()
    except EncoderMissing as error:
        raise CodesError(f"the base in {model_dir} is read beside a sentence encoder, and {error}") from None
    file = model_dir / LIKENESS_FILE
    if not file.is_file():
        raise CodesError(
            f"the base in {model_dir} is read beside a sentence encoder; {LIKENESS_FILE} is missing; build it again"
        )
    return Likeness(weight, file)


def check_template(model_dir: Path) -> None:
    """Raises: ChatFormError where the folder has no chat template, as one that holds no instruct model."""
    if _template_source(model_dir, _json(model_dir / CONFIG)) is None:
        raise ChatFormError(
            "it has no chat template, so it is not known how it is asked: most likely it is no instruct model; "
            f"choose one that is (often named -Instruct or -it), or put its template into {TEMPLATE}"
        )


class _Read(NamedTuple):
    tokenizer: Tokenizer
    form: ChatForm


def _read(model_dir: Path) -> _Read:
    """Kept as long as the files stay as they are: a large tokenizer takes a second to read."""
    files = [model_dir / name for name in (TOKENIZER, CONFIG, TEMPLATE)]
    return _read_once(
        model_dir, tuple((s.st_mtime_ns, s.st_size) for f in files if f.is_file() and (s := f.stat()))
    )


@lru_cache(maxsize=4)
def _read_once(model_dir: Path, as_of: tuple[tuple[int, int], ...]) -> _Read:
    tokenizer = Tokenizer.from_file(str(model_dir / TOKENIZER))
    config = _json(model_dir / CONFIG)
    special = {name: text for name in config if name.endswith("_token") and (text := _text(config[name]))}
    source = _template_source(model_dir, config)
    template = None if source is None else ChatTemplate(source, special)
    control = control_tokens(_added(tokenizer, config, special), template)
    form = ChatForm(control) if template is None else chat_form(template, control, special.get("eos_token"))

    def tokens_of(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    ids = {token: number for token in control if (number := tokenizer.token_to_id(token)) is not None}
    check_control(form, tokens_of, ids)
    if form.end is not None and form.end != special.get("eos_token"):
        form = form._replace(end_id=ids[form.end])
    return _Read(tokenizer, form)


def _added(tokenizer: Tokenizer, config: dict[str, Any], special: dict[str, str]) -> list[ControlToken]:
    """Those of the file, and what the configuration adds to them, as transformers does it: now in the tokenizer too."""
    have = {token.content: token.special for token in tokenizer.get_added_tokens_decoder().values()}
    named = [*special.values(), *map(_text, _listed(config))]
    more = {text: True for text in named if text is not None} | {
        entry["content"]: bool(entry.get("special"))
        for entry in config.get("added_tokens_decoder", {}).values()
    }
    missing = [AddedToken(text, special=True, normalized=False) for text in more if text not in have]
    tokenizer.add_special_tokens(missing)
    return [ControlToken(text, is_special) for text, is_special in (more | have).items()]


def _listed(config: dict[str, Any]) -> list[Any]:
    found = [config.get(name) or [] for name in ("additional_special_tokens", "extra_special_tokens")]
    return [token for some in found for token in (some.values() if isinstance(some, dict) else some)]


def _template_source(model_dir: Path, config: dict[str, Any]) -> str | None:
    """From the file of its own, which wins, or from the configuration, where several are told apart by name."""
    if (model_dir / TEMPLATE).is_file():
        return (model_dir / TEMPLATE).read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {one["name"]: one["template"] for one in found}.get("default")
    return found if isinstance(found, str) else None


def _text(token: Any) -> str | None:
    """A special token of the configuration: a string, or an object that holds one."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_bytes())
    except ValueError as error:
        raise ChatFormError(f"its {path.name} is not JSON: {error}") from None
    return read if isinstance(read, dict) else {}
