"""A new dataset is read in proportion to its size, also while PostgreSQL's statistics do not know of it."""

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import repository
from app.infra.db.session import transaction
from tests.app.datasets.conftest import Product, row
from tests.servers import postgres
from tests.servers.postgres import Place

pytestmark = pytest.mark.anyio
ROWS = 600
A_FEW = 10  # for each; joined without an index it is as many as there are rows
# Of another tenant, without the rows that they belong to: only the statistics are wanted.
_OTHERS = (
    "SET session_replication_role = replica",
    """INSERT INTO conversations
       (id, tenant_id, dataset_id, external_id, messages, text_sha256, group_id, split, created_at)
       SELECT md5('c' || n)::uuid, md5('tenant')::uuid, md5('dataset')::uuid, 'c' || n, '[]', repeat('0', 64), n,
              'train', now()
       FROM generate_series(1, 300) AS n""",
    """INSERT INTO labels (id, tenant_id, conversation_id, schema_id, category_key, source, created_at)
       SELECT md5('l' || n)::uuid, md5('tenant')::uuid, md5('c' || n)::uuid, md5('schema')::uuid, 'a', 'import', now()
       FROM generate_series(1, 300) AS n""",
    "ANALYZE conversations, labels",
)  # fmt: skip


@pytest.fixture
def database_url(place: Place) -> str:
    return place.app_url


async def test_the_labels_of_a_new_dataset_are_found_by_an_index(product: Product, place: Place) -> None:
    await postgres.sql(place.admin_url, *_OTHERS)
    dataset_id = await product.filled(
        *(row(f"c{n}", f"Where is order {n} of last week?") for n in range(ROWS))
    )
    async with transaction(product.database, product.scope, read_only=True) as session:
        async for _ in repository.all_labelled(session, product.scope, UUID(dataset_id)):
            pass
        assert await _rows_read(session) <= A_FEW * ROWS
    async with transaction(product.database, product.scope, read_only=True) as session:
        await repository.cells(session, product.scope, UUID(dataset_id))
        assert await _rows_read(session) <= A_FEW * ROWS


async def _rows_read(session: AsyncSession) -> int:
    """From tables, in this transaction, wanted or not."""
    read = "coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
    return int(
        (await session.execute(text(f"SELECT sum({read}) FROM pg_stat_xact_user_tables"))).scalar_one()
    )
