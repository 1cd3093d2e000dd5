"""What the tokenizer of the served base decides: which codes stand for a schema's answers, and how long a text is."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from app.errors import AdapterRefused, InputError, ServingError
from app.infra.storage import open_storage
from app.infra.tables.runs import ModelVersion
from app.infra.tables.schemas import SchemaVersion
from app.schemas import service as schemas
from app.serving.adapter_store import fetch_for_serving
from app.serving.base import codes_for, context_of, find_base, misfit, token_counter
from app.settings import Settings
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Codes

_KEPT_PAGES = 512
_KEPT_FOLDERS = 512
_LARGE_BYTES = 64 << 10  # counted beside the event loop, which everybody else waits for


class CodedSchema(NamedTuple):
    """A published version as it is shown to the model."""

    schema: CategorySchema
    codes: Codes


class LabelCodes:
    def __init__(self, settings: Settings):
        self._settings = settings
        self._pages: OrderedDict[UUID, CodedSchema] = OrderedDict()  # a version never changes
        self._codes: dict[int, Codes] = {}  # by the number of categories, which alone decides them
        self._folders: OrderedDict[str, Path] = OrderedDict()  # of checked adapters, by their digests
        self._count: Callable[[list[str]], list[int]] | None = None
        self._context: int | None = None

    async def page(self, version: SchemaVersion) -> CodedSchema:
        """Raises: ServingError."""
        found = self._pages.get(version.id)
        if found is None:
            found = self._pages[version.id] = await self.coded(schemas.content_of(version))
            if len(self._pages) > _KEPT_PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(version.id)
        return found

    async def coded(self, schema: CategorySchema) -> CodedSchema:
        """Of any schema, one that is stored nowhere too. Raises: ServingError."""
        codes = self._codes.get(len(schema.keys))
        if codes is None:
            codes = self._codes[len(schema.keys)] = await asyncio.to_thread(self._read_codes, schema)
        return CodedSchema(schema, codes)

    async def beside(self, coded: CodedSchema, model: ModelVersion) -> CodedSchema:
        """As the model is asked: with the encoder that was trained with it, where the base is one that hears any.

        Raises: ServingError.
        """
        if coded.codes.likeness is None:
            return coded
        folder = self._folders.get(model.adapter_sha256)
        if folder is None or not folder.is_dir():
            folder = self._folders[model.adapter_sha256] = await asyncio.to_thread(self._fetch, model)
            if len(self._folders) > _KEPT_FOLDERS:
                self._folders.popitem(last=False)
        return coded._replace(codes=coded.codes.beside(folder))

    async def tokens(self, texts: list[str]) -> list[int]:
        """Of each, without those of the chat template."""
        if self._count is None:
            self._count = await asyncio.to_thread(lambda: token_counter(self._folder()))
        if sum(map(len, texts)) < _LARGE_BYTES:
            return self._count(texts)
        return await asyncio.to_thread(self._count, texts)

    async def context(self) -> int:
        """Tokens of a prompt and its answer."""
        if self._context is None:
            self._context = await asyncio.to_thread(lambda: context_of(self._folder(), self._settings))
        return self._context

    def misfit(self, model: ModelVersion) -> str | None:
        """Why it must not answer on the base that is served; None where it may. Raises: ServingError."""
        try:
            return misfit(self._settings, model)
        except InputError as error:
            raise ServingError(str(error), error.details) from None

    def _fetch(self, model: ModelVersion) -> Path:
        """Where model servers share this machine it lies here already."""
        storage = open_storage(self._settings.storage_url)
        try:
            return fetch_for_serving(storage, self._settings, model.adapter_key, model.adapter_sha256)
        except (AdapterRefused, FileNotFoundError) as error:
            raise ServingError(f"the model's adapter cannot be read: {error}") from error

    def _read_codes(self, schema: CategorySchema) -> Codes:
        try:
            return codes_for(self._folder(), schema)
        except InputError as error:  # no fault of who asks for an answer
            raise ServingError(str(error), error.details) from None

    def _folder(self) -> Path:
        return find_base(self._settings.base, self._settings.home).folder
