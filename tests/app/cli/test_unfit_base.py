"""A base that cannot do the task is found out before anything is written, and it is said what is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import run as job
from app.cli.program import cli
from app.errors import InputError
from app.local.product import plan
from app.serving.base import STARTER, context_of, find_base, tried
from app.serving.vllm import VllmEndpoint, command
from app.settings import Settings
from evaluation.inference.predictor import load_codes
from tests.factories import bases
from tests.factories.bases import write_tokenizer
from training.starter.world import demo_tenant

REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message here') }}{% endif %}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A copy of the starter, to be spoilt."""
    folder = tmp_path / "base"
    shutil.copytree(find_base(STARTER).folder, folder)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    tenant = demo_tenant(seed=1)
    (tmp_path / "schema.json").write_text(tenant.category_schema.model_dump_json())
    rows = (c.model_dump_json(exclude_unset=True) + "\n" for c in tenant.conversations)
    (tmp_path / "conversations.jsonl").write_text("".join(rows))
    return [
        "--schema", str(tmp_path / "schema.json"), "--conversations", str(tmp_path / "conversations.jsonl"),
        "--out", str(tmp_path / "out"), "--preset", "smoke",
    ]  # fmt: skip


def no_template(base: Path) -> None:
    (base / "chat_template.jinja").unlink()


def broken_template(base: Path) -> None:
    (base / "chat_template.jinja").write_text("{{ raise_exception('not for you') }}")


def foreign_tokens(base: Path) -> None:
    write_tokenizer(base, bases.FOLDS_WIDTH)


def few_codes(base: Path) -> None:
    write_tokenizer(base, bases.CHATML, letters="AB")


def short_context(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 300}))


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_template, "has no chat template"),
        (broken_template, "not for you"),
        (foreign_tokens, "its control tokens"),
        (few_codes, "one-token answer codes"),
        (short_context, "longer than 100 tokens"),
    ],
)
def test_a_run_on_an_unfit_base_ends_with_2_and_writes_nothing(
    spoil: Callable[[Path], None], reason: str, base: Path, files: list[str], tmp_path: Path
) -> None:
    spoil(base)
    ended = CliRunner().invoke(cli, ["run", *files, "--base", str(base)], env={"COLUMNS": "500"})
    assert ended.exit_code == 2, ended.output
    assert reason in ended.output
    assert not (tmp_path / "out").exists()


@pytest.mark.seconds
def test_a_base_without_a_system_role_is_no_unfit_one(
    base: Path, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = base / "chat_template.jinja"
    template.write_text(REFUSES + template.read_text())

    def train(*_: object) -> None:
        raise InputError("as far as the stages")

    monkeypatch.setattr(job, "_train", train)
    ended = CliRunner().invoke(cli, ["run", *files, "--base", str(base)])
    assert "as far as the stages" in ended.output
    assert not tried(base).form.system_role


def test_the_product_does_not_start_on_an_unfit_base(base: Path, tmp_path: Path) -> None:
    no_template(base)
    settings = Settings(home=tmp_path, base=str(base), port=18435)
    with pytest.raises(InputError, match="has no chat template"):
        plan(settings, lambda _part, _line: None, with_vllm=True)


def test_a_base_is_served_with_no_more_than_it_can_read(base: Path) -> None:
    settings = Settings(vllm_max_model_len=2048)
    assert context_of(base, settings) == 2048
    short_context(base)
    assert context_of(base, settings) == 300
    argv = command(base, VllmEndpoint("http://vllm", Path("s")), settings)
    assert argv[argv.index("--max-model-len") + 1] == "300"
    (base / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 700}}))
    assert context_of(base, settings) == 700
    (base / "config.json").write_text("{}")
    assert context_of(base, settings) == 2048


def test_a_tokenizer_that_was_exchanged_is_read_anew(base: Path) -> None:
    before = load_codes(base, 4).form
    write_tokenizer(base, bases.MISTRAL)
    after = load_codes(base, 4).form
    assert (before.end, after.end) == ("<|im_end|>", "</s>")
