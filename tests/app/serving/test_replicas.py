"""The pool of vLLMs, over real sockets: adapters are loaded once, failures are answered by another replica."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.errors import AdapterRefused, InputError, ServingAway, ServingFull, ServingLost
from app.serving import adapters
from app.serving.replica import ALONE_S, SICK_AFTER
from app.serving.replicas import AskedModel, Replicas, opened, while_serving
from app.serving.vllm import VllmEndpoint, endpoint_at
from app.settings import Settings
from evaluation.contract.record import conversation_from_text
from evaluation.inference.http import Retries
from evaluation.inference.predictor import Codes, PredictorError, Sending
from tests.evaluation.fake_server import POOL
from tests.evaluation.shop import SCHEMA
from tests.factories.trained import adapter
from tests.servers.vllm import FakeVllm, first_code, listening, socket_path

pytestmark = pytest.mark.anyio
CODES = Codes(tuple(POOL), tuple(range(len(POOL))))
ASKED = conversation_from_text("where is my parcel")
IMPATIENT = Sending(Retries(attempts=1))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def vllms() -> list[FakeVllm]:
    return [FakeVllm({"base": first_code}) for _ in range(2)]


@pytest.fixture
def urls(vllms: list[FakeVllm]) -> Iterator[tuple[str, ...]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(listening(v, stack.enter_context(socket_path()))) for v in vllms)


@pytest.fixture
def settings(urls: tuple[str, ...], tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", vllm_urls=urls, vllm_max_adapters=3)


@pytest.fixture
async def replicas(settings: Settings) -> AsyncIterator[Replicas]:
    async with opened(settings) as pool:
        yield pool


def made(folder: Path, number: int = 1) -> tuple[Path, str]:
    path = adapter(folder / str(number), lora_alpha=number)
    return path, adapters.check(path, 8).sha256


async def ask(pool: Replicas, name: str) -> str | None:
    return (await pool.predict(AskedModel(name, CODES), SCHEMA, ASKED, IMPATIENT)).category


async def test_an_adapter_is_loaded_everywhere_and_once(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    assert not await replicas.has(name)
    for _ in range(2):
        await replicas.load(folder, name)
    assert await replicas.has(name)
    assert [list(vllm.adapters) for vllm in vllms] == [[name], [name]]
    assert await ask(replicas, name) == "refund"
    for _ in range(2):
        await replicas.unload(name)
    assert not await replicas.has(name)


async def test_a_server_that_fetches_adapters_is_told_where_they_are_in_the_storage(
    settings: Settings, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    for fetches, told in ((False, str(folder.resolve())), (True, "storage:tenants/t/adapters/1/")):
        async with opened(settings.model_copy(update={"vllm_fetches_adapters": fetches})) as pool:
            await pool.all[0].load(folder, name, "tenants/t/adapters/1/")
            assert vllms[0].adapters == {name: told}
            await pool.all[0].unload(name)


async def test_two_processes_that_load_the_same_are_both_content(
    replicas: Replicas, settings: Settings, tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    async with opened(settings) as other:
        await asyncio.gather(replicas.load(folder, name), other.load(folder, name))
    assert await replicas.has(name)


async def test_an_adapter_under_another_name_than_its_content_is_refused(
    replicas: Replicas, tmp_path: Path
) -> None:
    folder, _ = made(tmp_path)
    with pytest.raises(AdapterRefused, match="named after"):
        await replicas.load(folder, "0" * 64)


async def test_what_vllm_says_about_an_adapter_that_it_refuses_is_told(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    vllms[0].refusing = "rank too large"
    with pytest.raises(AdapterRefused) as caught:
        await replicas.load(*made(tmp_path))
    assert "rank too large" in caught.value.details[0]


async def test_there_are_no_more_adapters_than_places(replicas: Replicas, tmp_path: Path) -> None:
    for number in range(3):
        await replicas.load(*made(tmp_path, number))
    with pytest.raises(ServingFull):
        await replicas.load(*made(tmp_path, 3))
    await replicas.load(*(tmp_path / "0", adapters.check(tmp_path / "0", 8).sha256))


async def test_a_replica_that_lost_its_adapters_is_passed_over_and_gets_them_back(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    await replicas.load(folder, name)
    vllms[0].adapters.clear()
    for _ in range(4):
        assert await ask(replicas, name) == "refund"
    vllms[1].adapters.clear()
    with pytest.raises(ServingAway) as caught:
        await ask(replicas, name)
    assert caught.value.headers["Retry-After"] == "1"
    assert not await replicas.has(name)
    await replicas.load(folder, name)
    assert await ask(replicas, name) == "refund"


async def test_another_replica_answers_where_one_is_overloaded(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    _, name = made(tmp_path)
    await replicas.load(tmp_path / "1", name)
    with replicas.borrowed(name) as favourite:
        pass
    vllms[replicas.all.index(favourite)].status = 503
    assert await ask(replicas, name) == "refund"
    for vllm in vllms:
        vllm.status = 503
    with pytest.raises(ServingAway):
        await ask(replicas, name)


async def test_work_goes_to_the_least_busy_and_else_always_to_the_same(replicas: Replicas) -> None:
    name = "1" * 64
    with replicas.borrowed(name) as first, replicas.borrowed(name) as second:
        assert second is not first
    for _ in range(3):
        with replicas.borrowed(name) as again:
            assert again is first
    assert first.busy == second.busy == 0


@pytest.mark.seconds
async def test_one_that_went_away_is_let_alone_for_a_moment_and_then_asked_again(
    settings: Settings, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    with socket_path() as path:
        with listening(vllms[0], path) as url:
            lone = settings.model_copy(update={"vllm_urls": (url,)})
            pool = Replicas(lone)
            await pool.load(folder, name)
            assert await pool.healthy()
        with pytest.raises(ServingAway):
            await ask(pool, name)
        assert not pool.all[0].may_have(name)
        assert not await pool.healthy()
        with pytest.raises(ServingAway):
            await pool.roomiest()
        with listening(vllms[0], path):
            await asyncio.sleep(ALONE_S * 1.1)
            assert await ask(pool, name) == "refund"
            await pool.aclose()


async def test_a_replica_that_breaks_is_nobodys_trouble_beside_a_healthy_one(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]  # a slow machine must not make it look as if the pause were over
    monkeypatch.setattr("app.serving.replica.time", SimpleNamespace(monotonic=lambda: now[0]))
    folder, name = made(tmp_path)
    await replicas.load(folder, name)
    with replicas.borrowed(name) as favourite:
        pass
    broken = vllms[replicas.all.index(favourite)]
    broken.status = 500
    asked_before = len(broken.seen)
    for _ in range(20):
        assert await ask(replicas, name) == "refund"
    assert len(broken.seen) - asked_before == SICK_AFTER  # and is then let alone
    broken.status = None
    now[0] += ALONE_S * 1.1
    assert await ask(replicas, name) == "refund"
    assert not favourite.sick and len(broken.seen) - asked_before == SICK_AFTER + 1


async def test_a_question_that_breaks_every_replica_is_asked_of_two(
    settings: Settings, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    third = FakeVllm({"base": first_code})
    with socket_path() as path, listening(third, path) as url:
        async with opened(settings.model_copy(update={"vllm_urls": (*settings.vllm_urls, url)})) as pool:
            folder, name = made(tmp_path)
            await pool.load(folder, name)
            every = [*vllms, third]
            for vllm in every:
                vllm.status, vllm.seen = 500, []
            with pytest.raises(ServingAway):
                await ask(pool, name)
            assert sorted(len(vllm.seen) for vllm in every) == [0, 1, 1]
            for _ in range(3 * SICK_AFTER):
                with pytest.raises(ServingAway):
                    await ask(pool, name)
            for vllm in every:
                vllm.status = None
            assert await ask(pool, name) == "refund"  # at once: they are there, whoever they could not answer


@pytest.mark.seconds
async def test_one_that_stays_away_is_tried_by_one_request_at_a_time(
    settings: Settings, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    with socket_path() as path:
        with listening(vllms[0], path) as url:
            pool = Replicas(settings.model_copy(update={"vllm_urls": (url,)}))
            await pool.load(folder, name)
        with pytest.raises(ServingAway):
            await ask(pool, name)
        await asyncio.sleep(ALONE_S * 1.1)
        with pool.borrowed(name) as tried:
            assert not tried.may_have(name)
        assert tried.may_have(name)  # it has answered
        await pool.aclose()


async def test_a_long_answer_that_began_before_a_failure_keeps_nobody_away(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    folder, name = made(tmp_path)
    await replicas.load(folder, name)
    with replicas.borrowed(name) as streaming:
        assert streaming.is_to_blame(PredictorError("it did not answer another one"), name)
        assert not streaming.may_have(name)
        await asyncio.sleep(ALONE_S * 1.1)
        assert streaming.may_have(name)


async def test_a_question_that_vllm_refuses_is_nobodys_absence(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    _, name = made(tmp_path)
    await replicas.load(tmp_path / "1", name)
    for vllm in vllms:
        vllm.status = 400
    with pytest.raises(PredictorError):
        await ask(replicas, name)


async def test_the_roomiest_is_the_one_with_the_fewest_adapters_that_answers(
    replicas: Replicas, vllms: list[FakeVllm], tmp_path: Path
) -> None:
    await replicas.all[0].load(*made(tmp_path))
    assert await replicas.roomiest() is replicas.all[1]
    vllms[1].status = 503
    assert await replicas.roomiest() is replicas.all[0]


async def test_work_ends_soon_when_the_replica_under_it_lost_an_adapter(
    replicas: Replicas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.replicas._WATCH_EVERY_S", 0.05)
    folder, name = made(tmp_path)
    replica = replicas.all[0]
    await replica.load(folder, name)

    async def quick() -> str:
        await asyncio.sleep(0.2)
        return "done"

    assert await while_serving(replica, [name], quick()) == "done"
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()

    await replica.unload(name)
    with pytest.raises(ServingLost, match="went away"):
        await while_serving(replica, [name], endless())
    assert cancelled.is_set()


async def test_without_a_model_server_it_is_said_how_to_name_one() -> None:
    async with opened(Settings()) as pool:
        assert not await pool.healthy()
        with pytest.raises(ServingAway, match="STEERWISE_VLLM_URLS"):
            await pool.has("x")
        with pytest.raises(ServingAway):
            await ask(pool, "x")


@pytest.mark.parametrize("url", ["unix:///run/v.sock", "http://10.0.0.7:8000", "https://models.test"])
def test_a_url_names_an_endpoint_and_back(url: str) -> None:
    assert endpoint_at(url).url == url


def test_the_version_in_a_url_is_left_out() -> None:
    assert endpoint_at("http://vllm:8000/v1/") == VllmEndpoint("http://vllm:8000")


@pytest.mark.parametrize("url", ["vllm:8000", "unix://run/v.sock", "unix:///", "ftp://host", "http://", ""])
def test_a_url_that_names_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="names no model server"):
        endpoint_at(url)
