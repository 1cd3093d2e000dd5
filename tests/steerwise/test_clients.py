"""Both clients against the real API, and against one that fails in every way that a network can."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steerwise import calls
from steerwise.async_client import AsyncClient
from steerwise.client import Client
from steerwise.errors import ApiError, SteerwiseError, TookTooLong, Unreachable
from steerwise.models import Answer
from tests.steerwise.conftest import Place

DRAFT = {
    "none_of_these": True,
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "The customer wants their money back."},
        {"key": "delivery", "name": "Delivery", "definition": "The customer asks where a parcel is."},
    ],
}
ROWS = [{"id": str(n), "text": f"where is my parcel {n}", "category": "delivery"} for n in range(3)]


def test_a_program_answers_keeps_judges_and_forgets(place: Place, tmp_path: Path) -> None:
    with Client(place.url, api_key=place.key) as client:
        assert client.me().tenant_name == place.told.tenant.name
        answer = client.classify(
            schema="shop", text="Where is my parcel?", customer_reference="c-1", metadata={"country": "DE"}
        )
        assert (answer.category, answer.schema_version) == ("delivery", 1)
        items = [{"id": str(n), "text": "I want my money back."} for n in range(3)]
        batch = client.classify_batch(schema="shop", items=items)  # type: ignore[arg-type]
        assert [one.answer.category for one in batch if one.answer] == ["refund"] * 3
        *reasoning, last = client.classify_stream(schema="shop", text="Where is my parcel?")
        assert isinstance(last, Answer) and "".join(map(str, reasoning)) and last.category == "delivery"
        kept = list(client.answers(customer_reference="c-1"))
        assert [one.id for one in kept] == [answer.id] and client.answer(answer.id) == kept[0]
        judged = client.feedback(answer.id, right=False, category_key="refund")
        assert judged.feedback is not None and judged.feedback.category_key == "refund"
        size = client.export_answers(tmp_path / "kept.csv", format="csv", customer_reference="c-1")
        assert (
            size == (tmp_path / "kept.csv").stat().st_size
            and answer.id in (tmp_path / "kept.csv").read_text()
        )
        gone = client.forget(customer_reference="c-1")
        assert (gone.answers, len(gone.conversations)) == (1, 1)
        assert client.usage().requests == 5


def test_a_program_makes_a_schema_and_a_dataset_and_what_it_repeats_is_done_once(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LOOK_EVERY_S", 0.01)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with Client(place.url, api_key=place.key) as client:
        made = [client.create_schema(name="depot", draft=DRAFT, idempotency_key="one") for _ in range(2)]
        assert made[0].id == made[1].id
        assert client.publish_schema(made[0].id).number == client.publish_schema(made[0].id).number == 1
        assert made[0].id in [one.id for one in client.schemas()]
        dataset = client.create_dataset(name="march", schema_id=made[0].id)
        sent = {"id": "chat-1", "messages": [{"role": "user", "text": "my money"}], "language": "en"}
        added = client.append_conversation(dataset.id, **sent)  # type: ignore[arg-type]
        assert added.messages[0].role == "customer"
        assert [one.external_id for one in client.conversations(dataset.id, language="en")] == ["chat-1"]
        other = client.create_dataset(name="april", schema_id=made[0].id)
        assert client.upload(other.id, file).received_bytes == file.stat().st_size
        with pytest.raises(TookTooLong, match="goes on by itself"):
            client.wait_for_dataset(other.id, timeout_s=0)  # there is no worker here
        assert client.dataset(other.id).state == "uploaded"
        assert {one.id for one in client.datasets(schema_id=made[0].id)} == {dataset.id, other.id}


def test_what_the_api_refuses_is_said_as_it_says_it(place: Place) -> None:
    with Client(place.url, api_key=place.key, retries=0) as client:
        with pytest.raises(ApiError) as refused:
            client.classify(schema="no such schema", text="hello")
        assert (refused.value.status, refused.value.code) == (404, "not_found")
        with pytest.raises(ApiError) as refused:
            client.classify(schema="shop")
        assert refused.value.code == "invalid_request" and refused.value.problems
        assert refused.value.request_id
        with pytest.raises(ApiError) as refused:
            list(client.classify_stream(schema="no such schema", text="hello"))
        assert refused.value.status == 404
        for ask in (client.run, client.gate, client.deployment, client.cancel_run, client.roll_back):
            with pytest.raises(ApiError) as refused:
                ask(_NOBODY)
            assert refused.value.status == 404
        for make in (
            lambda: client.create_run(schema_id=_NOBODY, dataset_id=_NOBODY),
            lambda: client.create_gate(model_version_id=_NOBODY),
            lambda: client.create_deployment(gate_id=_NOBODY),
        ):
            with pytest.raises(ApiError) as refused:
                make()
            assert refused.value.status == 404
    with Client(place.url, api_key="sw_wrong") as stranger, pytest.raises(ApiError) as refused:
        stranger.me()
    assert refused.value.status == 401


def test_the_asynchronous_client_does_the_same(place: Place, tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncClient(place.url, api_key=place.key) as client:
            asked = [client.classify(schema="shop", text="Where is my parcel?") for _ in range(3)]
            answers = await asyncio.gather(*asked)
            assert {one.category for one in answers} == {"delivery"}
            pieces = [piece async for piece in client.classify_stream(schema="shop", text="my money back")]
            assert isinstance(pieces[-1], Answer)
            kept = [one.id async for one in client.answers(category="delivery")]
            assert {one.id for one in answers} <= set(kept)
            assert await client.export_answers(tmp_path / "kept.jsonl") > 0
            dataset = await client.create_dataset(name="march", schema_id=str(place.told.schema.id))
            (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
            assert (await client.upload(dataset.id, tmp_path / "rows.jsonl")).complete
            with pytest.raises(ApiError):
                await client.run(_NOBODY)

    asyncio.run(story())


# ------------------------------------------------------------------------------------------------ what may pass by


ME = {
    "key": {
        "id": "k", "tenant_id": None, "name": "n", "prefix": "p", "scopes": [], "created_at": "2026-01-01T00:00:00Z",
        "expires_at": None, "revoked_at": None, "last_used_at": None,
    },
    "tenant_name": None,
    "platform_admin": False,
    "something_new": 7,
}  # fmt: skip


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps, and what would have been slept is here."""
    found: list[float] = []

    async def later(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr("steerwise.client.time.sleep", found.append)
    monkeypatch.setattr("steerwise.async_client.asyncio.sleep", later)
    return found


def failing(*ways: Any) -> tuple[Callable[[httpx.Request], httpx.Response], list[httpx.Request]]:
    """Each request meets the next way: an error that is raised, or an answer."""
    left, seen = list(ways), list[httpx.Request]()

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        way = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(way, Exception):
            raise way
        return httpx.Response(way[0], json=way[1], headers=way[2] if len(way) > 2 else {})

    return handle, seen


def asked(handle: Callable[[httpx.Request], httpx.Response], asynchronous: bool, **options: Any) -> Any:
    transport = httpx.MockTransport(handle)
    if not asynchronous:
        with Client("http://api", api_key="k", transport=transport, **options) as client:
            return client.me()

    async def ask() -> Any:
        async with AsyncClient("http://api", api_key="k", transport=transport, **options) as client:
            return await client.me()

    return asyncio.run(ask())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_may_pass_by_is_sent_again_after_as_long_as_the_api_says(
    asynchronous: bool, pauses: list[float]
) -> None:
    busy = {"code": "unavailable", "detail": "busy"}
    handle, seen = failing(
        httpx.ConnectError("refused"),
        (503, busy, {"Retry-After": "7"}),
        (429, busy),
        httpx.ReadError("gone"),
        (200, ME),
    )
    me = asked(handle, asynchronous)
    assert len(seen) == 5 and me.something_new == 7, "what a newer API has besides is kept"
    assert pauses[1] == 7 and 0 < pauses[0] < 1 and 1 < pauses[2] < 3 and 2 < pauses[3] < 6
    assert {request.headers["authorization"] for request in seen} == {"Bearer k"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_in_the_end_the_reason_is_said(asynchronous: bool, pauses: list[float]) -> None:
    handle, seen = failing(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable, match="http://api"):
        asked(handle, asynchronous, retries=2)
    assert len(seen) == 3
    handle, seen = failing((503, {"code": "serving_away", "detail": "no model server"}))
    with pytest.raises(ApiError, match="no model server"):
        asked(handle, asynchronous, retries=1)
    assert len(seen) == 2
    handle, seen = failing((403, {"code": "forbidden", "detail": "no"}))
    with pytest.raises(ApiError):
        asked(handle, asynchronous)
    assert len(seen) == 1, "what would only be refused again is not sent again"
    handle, seen = failing((500, ["no", "document"]))
    with pytest.raises(ApiError, match="not as Steerwise does"):
        asked(handle, asynchronous)


def test_one_piece_of_work_keeps_its_key_however_often_it_is_sent(pauses: list[float]) -> None:
    in_flight = (409, {"code": "request_in_flight", "detail": "wait"}, {"Retry-After": "1"})
    handle, seen = failing(
        httpx.ReadTimeout("slow"), in_flight, (422, {"code": "invalid_request", "detail": "no"})
    )
    with Client("http://api", transport=httpx.MockTransport(handle)) as client:
        for key in (None, "mine"):
            with pytest.raises(ApiError):
                client.create_gate(model_version_id="m", idempotency_key=key)
    keys = [request.headers["idempotency-key"] for request in seen]
    assert len(set(keys[:3])) == 1 and keys[3] == "mine" and keys[0] != "mine"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_that_breaks_off_is_no_answer(asynchronous: bool, pauses: list[float]) -> None:
    begun = b'event: reasoning\ndata: {"text": "They "}\n\n'
    problem = b'event: problem\ndata: {"status": 503, "code": "serving_away", "detail": "gone"}\n\n'
    for rest, error in ((b"", SteerwiseError), (problem, ApiError), (None, Unreachable)):
        pieces: list[Any] = []
        with pytest.raises(error):
            _stream(begun, rest, pieces, asynchronous)
        assert pieces == ["They "], "nothing is asked again once a piece has come"


def _stream(begun: bytes, rest: bytes | None, pieces: list[Any], asynchronous: bool) -> None:
    """rest: None: the connection breaks."""

    def blocks() -> Iterator[bytes]:
        yield begun
        if rest is None:
            raise httpx.ReadError("broken")
        yield rest

    async def async_blocks() -> AsyncIterator[bytes]:
        for block in blocks():
            yield block

    def handle(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=async_blocks() if asynchronous else blocks())

    transport = httpx.MockTransport(handle)
    if not asynchronous:
        with Client("http://api", transport=transport) as client:
            for piece in client.classify_stream(schema="s", text="t"):
                pieces.append(piece)
        return

    async def read() -> None:
        async with AsyncClient("http://api", transport=transport) as client:
            async for piece in client.classify_stream(schema="s", text="t"):
                pieces.append(piece)

    asyncio.run(read())


_NOBODY = "00000000-0000-0000-0000-000000000000"
