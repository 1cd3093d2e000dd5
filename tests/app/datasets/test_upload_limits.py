"""How much may come in, and what a request may say about it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.datasets import uploads
from app.infra.db.session import transaction
from app.infra.tables.tenants import HeldKind, Tenant
from app.tenants import repository as tenants
from app.tenants import share
from tests.app.datasets.conftest import Product
from tests.app.datasets.steps import offset

pytestmark = pytest.mark.anyio
CONTENT = b'{"id": "a"}\n' * 100_000


async def set_quota(product: Product, free_bytes: int) -> None:
    """So much beside what the tenant holds already: its schema's draft counts too."""
    async with transaction(product.database) as session:
        tenant: Tenant | None = await tenants.get(session, product.scope)
        assert tenant is not None
        before = tenant.upload_quota_bytes
        held = before - await share.free_bytes(
            session, product.scope, HeldKind.upload, product.scope.tenant_id
        )
        tenant.upload_quota_bytes = held + free_bytes


async def test_a_file_beyond_the_quota_is_refused_before_it_is_sent(product: Product) -> None:
    await set_quota(product, 1_000_000)
    dataset_id = await product.dataset()

    async def never_read() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    refused = await product.put(dataset_id, never_read(), Content_Length="1000001")
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_quota_exceeded")
    refused = await product.put(dataset_id, b"x" * 10, Content_Range="bytes 0-9/1000001")
    assert refused.status_code == 409
    assert (await product.put(dataset_id, b"x" * 10, Content_Range="bytes 0-9/1000000")).status_code == 202


async def test_the_quota_counts_what_other_uploads_have_announced(product: Product) -> None:
    await set_quota(product, 1000)
    first, second = await product.dataset("one"), await product.dataset("two")
    assert (await product.put(first, b"x" * 10, Content_Range="bytes 0-9/900")).status_code == 202
    assert (await product.put(second, b"x" * 101)).json()["code"] == "upload_quota_exceeded"
    assert (await product.put(second, b"x" * 100)).status_code == 202
    assert (await product.client.delete(f"/v1/datasets/{first}")).status_code == 204
    assert (await product.put(await product.dataset("three"), b"x" * 900)).status_code == 202


async def test_a_body_that_hides_its_length_is_stopped_at_the_quota(product: Product) -> None:
    await set_quota(product, 3_000_000)
    dataset_id = await product.dataset()
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 65_536
            yield b"x" * 65_536

    refused = await product.put(dataset_id, endless())
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_quota_exceeded")
    assert read < 3_200_000
    assert await offset(product, dataset_id) == (0, "?0")


async def test_two_files_that_hide_their_length_cannot_share_the_same_rest_of_a_quota(
    product: Product,
) -> None:
    await set_quota(product, len(CONTENT) + 1000)
    names = [await product.dataset("one"), await product.dataset("two")]
    together = asyncio.Barrier(2)

    async def blocks() -> AsyncIterator[bytes]:
        yield CONTENT[:1000]
        await together.wait()
        yield CONTENT[1000:]

    sent = await asyncio.gather(*(product.put(name, blocks()) for name in names))
    assert sorted(one.status_code for one in sent) == [202, 409]


async def test_a_file_larger_than_any_may_be_is_refused(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 10_000)
    dataset_id = await product.dataset()
    refused = await product.put(dataset_id, b"x" * 10_001)
    assert (refused.status_code, refused.json()["code"]) == (413, "file_too_large")

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 1000

    assert (await product.put(dataset_id, blocks())).status_code == 413
    assert await offset(product, dataset_id) == (0, "?0")


async def test_a_body_longer_than_its_range_is_refused(product: Product) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield b"x" * 6
        yield b"x" * 6

    dataset_id = await product.dataset()
    refused = await product.put(dataset_id, blocks(), Content_Range="bytes 0-9/20")
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content_Encoding": "br"}, 415),
        ({"Content_Range": "bytes 5-1/10"}, 422),
        ({"Content_Range": "lines 0-4/5"}, 422),
    ],
)
async def test_a_header_that_cannot_be_is_refused(
    product: Product, headers: dict[str, str], status: int
) -> None:
    assert (await product.put(await product.dataset(), b"12345", **headers)).status_code == status


async def test_pieces_of_one_file_are_of_one_kind_and_length(product: Product) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, b"x" * 10, Content_Range="bytes 0-9/20")
    other = await product.put(dataset_id, b"x", Content_Range="bytes 10-10/20", Content_Type="text/csv")
    packed = await product.put(dataset_id, b"x", Content_Range="bytes 10-10/20", Content_Encoding="gzip")
    longer = await product.put(dataset_id, b"x", Content_Range="bytes 10-10/21")
    beyond = await product.put(dataset_id, b"x" * 11, Content_Range="bytes 10-20/*")
    assert [one.status_code for one in (other, packed, longer, beyond)] == [415, 415, 422, 422]
    assert await offset(product, dataset_id) == (10, "?0")


async def test_an_empty_file_is_refused(product: Product) -> None:
    assert (await product.put(await product.dataset(), b"")).status_code == 422
