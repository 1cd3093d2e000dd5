"""The asynchronous client of the API.

    async with AsyncClient(api_key="sw_…") as client:
        print((await client.classify(schema="shop", text="where is my parcel")).category)

Requests that may pass by themselves (no connection, 408, 429, 502, 503, 504) are sent again, after as long as the API
says or a little longer each time; what makes something carries an `Idempotency-Key`, so that it is made once all the
same.
Give a key of your own where the process itself may be started again. Errors: `steerwise.errors`.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, Unpack

import httpx
from pydantic import BaseModel

from evaluation.atomic_files import whole
from evaluation.inference import http
from steerwise import calls
from steerwise import models as m
from steerwise import operations as op
from steerwise.calls import Call
from steerwise.errors import TookTooLong, Unreachable, refusal

M = TypeVar("M", bound=BaseModel)


class AsyncClient:
    """As `steerwise.client.Client`, for a running event loop."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        tenant_id: str | None = None,
        retries: int = 4,
        timeout: httpx.Timeout = calls.TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ):
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=url or calls.url_of_environment(),
            headers=calls.headers_of(api_key or calls.key_of_environment(), tenant_id),
            timeout=timeout,
            transport=transport,
        )

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # -------------------------------------------------------------------------------------------------- answering

    async def classify(self, **question: Unpack[m.ClassifyIn]) -> m.Answer:
        """Answer one conversation: `text` or `messages`, by `schema` or `schema_id`."""
        return await self._one(calls.call(op.CLASSIFY, body=question), m.Answer)

    async def classify_batch(self, **batch: Unpack[m.BatchIn]) -> list[m.BatchResult]:
        """Answer up to 256 conversations. What goes wrong with one of them is its result."""
        return (await self._one(calls.call(op.CLASSIFY_BATCH, body=batch), m.Batch)).results

    async def classify_stream(self, **question: Unpack[m.ClassifyIn]) -> AsyncIterator[str | m.Answer]:
        """The reasoning in pieces as it is written, then the answer. Nothing is asked again once a piece has come."""
        async with aclosing(
            await self._answered(calls.call(op.CLASSIFY_STREAM, body=question), stream=True)
        ) as response:
            async for piece in calls.async_pieces(calls.async_reached(response.aiter_bytes())):
                yield piece

    # ----------------------------------------------------------------------------------------------- kept answers

    def answers(self, **which: Unpack[m.AnswersQuery]) -> AsyncIterator[m.KeptAnswer]:
        """All that the filter leaves, the newest first, page by page."""
        return self._each(calls.call(op.ANSWERS, query=which), m.KeptAnswer)

    async def answer(self, answer_id: str) -> m.KeptAnswer:
        """One answer that was kept."""
        return await self._one(calls.call(op.ANSWER, answer_id=answer_id), m.KeptAnswer)

    async def export_answers(self, file: Path, **which: Unpack[m.ExportQuery]) -> int:
        """Into a file, which is there whole or not at all: JSONL, or `format="csv"`. Returns its size in bytes."""
        return await self._download(calls.call(op.EXPORT_ANSWERS, query=which), file)

    async def feedback(self, answer_id: str, **said: Unpack[m.FeedbackIn]) -> m.KeptAnswer:
        """Say whether an answer was `right`, or with False which `category_key` is. The category becomes a label."""
        return await self._one(calls.call(op.FEEDBACK, body=said, answer_id=answer_id), m.KeptAnswer)

    async def forget(self, *, idempotency_key: str | None = None, **of: Unpack[m.ForgetQuery]) -> m.Forgotten:
        """Remove what is kept of a customer or a conversation, in data sets too."""
        return await self._one(calls.call(op.FORGET, query=of, key=idempotency_key), m.Forgotten)

    # ----------------------------------------------------------------------------------------- schemas, data sets

    def schemas(self) -> AsyncIterator[m.Schema]:
        """All schemas, the newest first."""
        return self._each(calls.call(op.SCHEMAS), m.Schema)

    async def create_schema(
        self, *, idempotency_key: str | None = None, **schema: Unpack[m.SchemaIn]
    ) -> m.Schema:
        """Make a schema, with its draft."""
        return await self._one(calls.call(op.CREATE_SCHEMA, body=schema, key=idempotency_key), m.Schema)

    async def publish_schema(self, schema_id: str) -> m.Version:
        """Freeze the draft as it now is. Publishing what is published already gives that version."""
        return await self._one(calls.call(op.PUBLISH_SCHEMA, schema_id=schema_id), m.Version)

    def datasets(self, **which: Unpack[m.DatasetsQuery]) -> AsyncIterator[m.Dataset]:
        """All data sets, the newest first."""
        return self._each(calls.call(op.DATASETS, query=which), m.Dataset)

    async def create_dataset(
        self, *, idempotency_key: str | None = None, **dataset: Unpack[m.DatasetIn]
    ) -> m.Dataset:
        """Make an empty data set of a schema."""
        return await self._one(calls.call(op.CREATE_DATASET, body=dataset, key=idempotency_key), m.Dataset)

    async def dataset(self, dataset_id: str) -> m.Dataset:
        """One data set, and how far its file is."""
        return await self._one(calls.call(op.DATASET, dataset_id=dataset_id), m.Dataset)

    async def upload(self, dataset_id: str, file: Path, **how: Unpack[m.UploadQuery]) -> m.Upload:
        """Send a file of conversations; `wait_for_dataset` says what became of it.

        Refused as `dataset_has_content` where an earlier attempt arrived whole and its answer was lost.
        """
        called = calls.call(op.UPLOAD, query=how, dataset_id=dataset_id)
        return await self._one(calls.with_file(called), m.Upload, file)

    async def wait_for_dataset(self, dataset_id: str, timeout_s: float | None = None) -> m.Dataset:
        """Until its file has been read. Raises: TookTooLong."""
        call = calls.call(op.DATASET, dataset_id=dataset_id)
        return await self._until(call, m.Dataset, calls.DATASET_GOES_ON, timeout_s)

    async def append_conversation(
        self, dataset_id: str, **conversation: Unpack[m.ConversationIn]
    ) -> m.Conversation:
        """Add one conversation. Its id makes it safe to repeat."""
        call = calls.call(op.APPEND, body=conversation, dataset_id=dataset_id)
        return await self._one(call, m.Conversation)

    def conversations(
        self, dataset_id: str, **which: Unpack[m.ConversationsQuery]
    ) -> AsyncIterator[m.Conversation]:
        """A data set's conversations, the newest first."""
        call = calls.call(op.CONVERSATIONS, query=which, dataset_id=dataset_id)
        return self._each(call, m.Conversation)

    # ------------------------------------------------------------------------------- training, gates, deployments

    async def create_run(self, *, idempotency_key: str | None = None, **run: Unpack[m.RunIn]) -> m.Run:
        """Begin a training run."""
        return await self._one(calls.call(op.CREATE_RUN, body=run, key=idempotency_key), m.Run)

    async def run(self, run_id: str) -> m.Run:
        """One run, and how far it is."""
        return await self._one(calls.call(op.RUN, run_id=run_id), m.Run)

    async def cancel_run(self, run_id: str) -> m.Run:
        """Ask a run to end."""
        return await self._one(calls.call(op.CANCEL_RUN, run_id=run_id), m.Run)

    async def wait_for_run(self, run_id: str, timeout_s: float | None = None) -> m.Run:
        """Until it has ended, whatever its end. Raises: TookTooLong."""
        return await self._until(calls.call(op.RUN, run_id=run_id), m.Run, calls.RUN_GOES_ON, timeout_s)

    async def create_trigger(
        self, *, idempotency_key: str | None = None, **trigger: Unpack[m.TriggerIn]
    ) -> m.Trigger:
        """Say when runs shall begin by themselves."""
        return await self._one(calls.call(op.CREATE_TRIGGER, body=trigger, key=idempotency_key), m.Trigger)

    def triggers(self, **which: Unpack[m.TriggersQuery]) -> AsyncIterator[m.Trigger]:
        """All of them, the newest first."""
        return self._each(calls.call(op.TRIGGERS, query=which), m.Trigger)

    async def trigger(self, trigger_id: str) -> m.Trigger:
        """One trigger: what was found at the last check, and why it did not start."""
        return await self._one(calls.call(op.TRIGGER, trigger_id=trigger_id), m.Trigger)

    async def start_trigger(self, trigger_id: str, *, idempotency_key: str | None = None) -> m.Trigger:
        """Start it by hand; its `run_id` is the run."""
        call = calls.call(op.START_TRIGGER, key=idempotency_key, trigger_id=trigger_id)
        return await self._one(call, m.Trigger)

    async def simulate_trigger(self, **asked: Unpack[m.SimulationIn]) -> m.Simulation:
        """What a trigger would have started in the past that is kept."""
        return await self._one(calls.call(op.SIMULATE_TRIGGER, body=asked), m.Simulation)

    async def create_gate(self, *, idempotency_key: str | None = None, **gate: Unpack[m.GateIn]) -> m.Gate:
        """Have a model examined."""
        return await self._one(calls.call(op.CREATE_GATE, body=gate, key=idempotency_key), m.Gate)

    async def gate(self, gate_id: str) -> m.Gate:
        """One gate, with its verdict."""
        return await self._one(calls.call(op.GATE, gate_id=gate_id), m.Gate)

    async def wait_for_gate(self, gate_id: str, timeout_s: float | None = None) -> m.Gate:
        """Until it has been measured, whatever its verdict. Raises: TookTooLong."""
        return await self._until(calls.call(op.GATE, gate_id=gate_id), m.Gate, calls.GATE_GOES_ON, timeout_s)

    async def create_deployment(
        self, *, idempotency_key: str | None = None, **deployment: Unpack[m.DeploymentIn]
    ) -> m.Deployment:
        """Put the model of a passed gate live."""
        call = calls.call(op.CREATE_DEPLOYMENT, body=deployment, key=idempotency_key)
        return await self._one(call, m.Deployment)

    async def deployment(self, deployment_id: str) -> m.Deployment:
        """One deployment."""
        return await self._one(calls.call(op.DEPLOYMENT, deployment_id=deployment_id), m.Deployment)

    async def wait_for_deployment(self, deployment_id: str, timeout_s: float | None = None) -> m.Deployment:
        """Until it is live, or never will be. Raises: TookTooLong."""
        call = calls.call(op.DEPLOYMENT, deployment_id=deployment_id)
        return await self._until(call, m.Deployment, calls.DEPLOYMENT_GOES_ON, timeout_s)

    async def roll_back(self, deployment_id: str, *, idempotency_key: str | None = None) -> m.Deployment:
        """Put back what was live before a deployment, as a new one."""
        call = calls.call(op.ROLL_BACK, key=idempotency_key, deployment_id=deployment_id)
        return await self._one(call, m.Deployment)

    # ------------------------------------------------------------------------------------------- who, and how much

    async def me(self) -> m.Me:
        """Whose key this is, and what it may do."""
        return await self._one(calls.call(op.ME), m.Me)

    async def usage(self, **days: Unpack[m.UsageQuery]) -> m.Usage:
        """What the tenant used, day by day."""
        return await self._one(calls.call(op.USAGE, query=days), m.Usage)

    # ------------------------------------------------------------------------------------------------ how it is sent

    async def _one(self, call: Call, kind: type[M], file: Path | None = None) -> M:
        return kind.model_validate_json((await self._answered(call, file)).content)

    async def _each(self, call: Call, kind: type[M]) -> AsyncIterator[M]:
        cursor: str | None = None
        while True:
            page = calls.page_of(kind, (await self._answered(call.with_cursor(cursor))).content)
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _download(self, call: Call, file: Path) -> int:
        async with aclosing(await self._answered(call, stream=True)) as response:
            with whole(file) as sink:
                async for block in calls.async_reached(response.aiter_bytes()):
                    sink.write(block)
                return sink.tell()

    async def _until(self, call: Call, kind: type[M], goes_on: frozenset[str], timeout_s: float | None) -> M:
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = await self._one(call, kind)
            state: Any = getattr(found, "state", None)
            if state not in goes_on:
                return found
            if ends_at is not None and time.monotonic() + calls.LOOK_EVERY_S > ends_at:
                raise TookTooLong(f"it is still {state}; it goes on by itself")
            await asyncio.sleep(calls.LOOK_EVERY_S)

    async def _answered(
        self, call: Call, file: Path | None = None, *, stream: bool = False
    ) -> httpx.Response:
        """What is no refusal. stream: not read yet, and to be closed. Raises: ApiError, Unreachable."""
        try:
            return await http.async_again(lambda: self._sent(call, file, stream), calls.pauses(self._retries))
        except httpx.TransportError as error:
            raise Unreachable(f"no answer from {self._http.base_url}: {error!r}") from error

    async def _sent(self, call: Call, file: Path | None, stream: bool) -> httpx.Response:
        """Raises: ApiError, httpx.TransportError."""
        request = self._http.build_request(
            call.method,
            call.path,
            params=call.query,
            headers=call.headers,
            json=call.body,
            content=None if file is None else _blocks(file),
        )
        response = await self._http.send(request, stream=stream)
        if response.is_success:
            return response
        async with aclosing(response):
            raise refusal(response.status_code, await response.aread(), response.headers)


async def _blocks(file: Path) -> AsyncIterator[bytes]:
    opened = await asyncio.to_thread(file.open, "rb")
    with opened:
        while block := await asyncio.to_thread(opened.read, calls.BLOCK_BYTES):
            yield block
