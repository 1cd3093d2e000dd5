"""What takes long is computed before a write transaction begins: on SQLite everybody else who writes waits for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, update

from app.datasets import placement
from app.datasets.fingerprint import fingerprint
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.datasets import ConversationRow
from tests.app.datasets.conftest import Product

pytestmark = pytest.mark.anyio
MAX_HELD_S = 0.5  # of processor time, with a megabyte in it
_WORDS = " ".join(f"word{number % 97} {number}" for number in range(70_000))[:900_000]


class Held:
    """longest_s: processor time of the longest write transaction. within: calls that were made inside of one."""

    def __init__(self) -> None:
        self.longest_s, self.within, self.calls, self._began = 0.0, 0, 0, None

    def begun(self, connection: Any) -> None:
        if not connection.get_execution_options().get("read_only"):
            self._began = time.process_time()

    def ended(self, _connection: Any) -> None:
        if self._began is not None:
            self.longest_s, self._began = max(self.longest_s, time.process_time() - self._began), None

    def called(self) -> None:
        self.calls += 1
        self.within += self._began is not None


@contextmanager
def write_transactions(database: Database) -> Iterator[Held]:
    held, engine = Held(), database.engine.sync_engine
    told = (("begin", held.begun), ("commit", held.ended), ("rollback", held.ended))
    for name, listener in told:
        event.listen(engine, name, listener)
    try:
        yield held
    finally:
        for name, listener in told:
            event.remove(engine, name, listener)


def long(number: int) -> dict[str, Any]:
    """Near duplicates of nearly a megabyte."""
    return {
        "id": f"c{number}",
        "messages": [
            {"role": "customer", "text": part}
            for part in (*(_WORDS[at : at + 90_000] for at in range(0, 900_000, 90_000)), f"number {number}")
        ],
    }


@pytest.mark.slow
async def test_near_duplicates_of_a_megabyte_hold_nobody_up(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = await product.dataset()
    with write_transactions(product.database) as held:

        def counted(given: Any) -> Any:
            held.called()
            return fingerprint(given)

        monkeypatch.setattr(placement, "fingerprint", counted)
        groups = set()
        for number in range(12):
            sent = await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=long(number))
            assert sent.status_code == 201, sent.text
            groups.add(sent.json()["group_id"])
    assert len(groups) == 1  # they are near duplicates, or nothing was shown
    assert (held.calls, held.within) == (12, 0)
    assert held.longest_s < MAX_HELD_S


async def test_rows_of_before_are_signed_once_and_found_as_ever(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = await product.dataset()
    path = f"/v1/datasets/{dataset_id}/conversations"
    text = "my parcel with the order number seven has not come yet and I wait for it since Monday"

    def said(number: int, end: str) -> dict[str, Any]:
        return {"id": f"c{number}", "messages": [{"role": "customer", "text": text + end}]}

    first = (await product.client.post(path, json=said(0, ""))).json()
    async with transaction(product.database, product.scope) as session:
        await session.execute(update(ConversationRow).values(signature=None))
    calls = 0

    def counted(given: Any) -> Any:
        nonlocal calls
        calls += 1
        return fingerprint(given)

    monkeypatch.setattr(placement, "fingerprint", counted)
    for number, end in ((1, "!"), (2, "?")):
        assert (await product.client.post(path, json=said(number, end))).json()["group_id"] == first[
            "group_id"
        ]
    assert calls == 3  # two that came, and one of before
