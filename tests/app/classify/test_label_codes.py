"""A deployed model answers beside the encoder that was trained with it, wherever its adapter lies."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from app.classify.label_codes import CodedSchema, LabelCodes
from app.errors import ServingError
from app.infra.storage import open_storage
from app.infra.tables.runs import ModelVersion
from app.serving import adapters
from app.settings import Settings
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference.likeness import Likeness
from evaluation.inference.predictor import Codes
from tests.app.serving.test_adapters import adapter, encoder

pytestmark = pytest.mark.anyio
SCHEMA = CategorySchema(categories=(Category(key="a", name="A", definition="Anything."),))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", storage_url=str(tmp_path / "storage"))


def coded(likeness: Likeness | None) -> CodedSchema:
    return CodedSchema(SCHEMA, Codes(("A", "B"), (1, 2), likeness=likeness))


def stored(settings: Settings, tmp_path: Path, *, with_encoder: bool) -> ModelVersion:
    source = adapter(tmp_path / f"made-{with_encoder}")
    if with_encoder:
        (source / adapters.ENCODER).write_bytes(encoder())
    frozen = adapters.freeze(source, tmp_path / "frozen", 16)
    key = f"tenants/{uuid4()}/adapters/{frozen.sha256}/"
    for name in adapters.files_of(frozen.folder):
        open_storage(settings.storage_url).put_file(frozen.folder / name, key + name)
    return ModelVersion(adapter_sha256=frozen.sha256, adapter_key=key)


async def test_its_encoder_is_fetched_once_and_heard_in_the_place_of_the_bases(
    settings: Settings, tmp_path: Path
) -> None:
    model, of_base = stored(settings, tmp_path, with_encoder=True), Likeness(1.5, tmp_path / "of the base")
    label_codes = LabelCodes(settings)
    heard = (await label_codes.beside(coded(of_base), model)).codes.likeness
    assert heard is not None and heard.weight == 1.5 and heard.file.read_bytes() == encoder()
    shutil.rmtree(tmp_path / "storage")
    assert (await label_codes.beside(coded(of_base), model)).codes.likeness == heard


async def test_a_model_without_one_answers_beside_that_of_the_base(
    settings: Settings, tmp_path: Path
) -> None:
    model, of_base = stored(settings, tmp_path, with_encoder=False), coded(Likeness(1.5, tmp_path))
    assert await LabelCodes(settings).beside(of_base, model) == of_base


async def test_where_the_base_hears_none_nothing_is_fetched(settings: Settings, tmp_path: Path) -> None:
    alone = coded(None)
    gone = ModelVersion(adapter_sha256="0" * 64, adapter_key="nowhere/")
    assert await LabelCodes(settings).beside(alone, gone) is alone


async def test_an_adapter_that_is_gone_is_said(settings: Settings, tmp_path: Path) -> None:
    gone = ModelVersion(adapter_sha256="0" * 64, adapter_key="tenants/t/adapters/0/")
    with pytest.raises(ServingError, match="adapter cannot be read"):
        await LabelCodes(settings).beside(coded(Likeness(1.5, tmp_path)), gone)
