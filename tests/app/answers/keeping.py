"""A tenant with a live deployment that keeps its answers for thirty days."""

from typing import Any, NamedTuple

import httpx
from sqlalchemy import delete, func, select

from app.answers.writer import AnswerWriter
from app.auth.principal import Scope
from app.infra.db.session import transaction
from app.infra.tables.answers import KeptAnswer
from tests.app.classify.serving_contexts import Live, deployed, model_server, plug_in, set_tenant
from tests.callers import Callers


class Keeping(NamedTuple):
    """reader, labeller, eraser: with a key that may do that and nothing else."""

    callers: Callers
    live: Live
    reader: httpx.AsyncClient
    labeller: httpx.AsyncClient
    eraser: httpx.AsyncClient

    @property
    def writer(self) -> AnswerWriter:
        writer: AnswerWriter = self.callers.api.state.answer_writer
        return writer

    async def ask(self, text: str = "Where is my parcel?", **more: Any) -> dict[str, Any]:
        """The answer as it was given."""
        given = await self.live.client.post("/v1/classify", json=self.live.question(text) | more)
        assert given.status_code == 200, given.text
        return dict(given.json())

    async def listed(self, **query: Any) -> list[dict[str, Any]]:
        page = await self.reader.get("/v1/answers", params=query)
        assert page.status_code == 200, page.text
        return list(page.json()["items"])

    async def feedback(self, answer_id: str, **body: Any) -> httpx.Response:
        return await self.labeller.post(f"/v1/answers/{answer_id}/feedback", json=body)

    async def forget(self, **query: str) -> httpx.Response:
        return await self.eraser.delete("/v1/answers", params=query)

    async def stored(self) -> int:
        async with transaction(self.callers.database) as session:
            return await session.scalar(select(func.count()).select_from(KeptAnswer)) or 0


async def started(callers: Callers) -> Keeping:
    await plug_in(callers, model_server())
    live = await deployed(callers)
    async with transaction(callers.database) as session:
        await session.execute(delete(KeptAnswer))  # the one that every story has
    await set_tenant(callers, live, keep_answers_days=30)
    reader = await callers.of(live.told.scope, Scope.answers_read)
    labeller = await callers.of(live.told.scope, Scope.answers_read, Scope.labels_write)
    eraser = await callers.of(live.told.scope, Scope.datasets_write)
    return Keeping(callers, live, reader, labeller, eraser)
