"""NATS that stores nothing: said once when it begins and once when it ends, and what a client can do about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import nats as nats_client
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StreamConfig

from bus import remake
from bus.events import EventStreamOptions
from tests.bus.conftest import MakeBus, until
from tests.bus.nats_server import NatsServer
from tests.bus.publishing import Publisher, by_run, run_id, stored
from tests.support.disk import SmallDisk, small_disk

pytestmark = pytest.mark.proof

SMALL = EventStreamOptions(max_bytes=4 * 1024 * 1024)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """What the server of the next fixture stores its data on."""
    with small_disk(tmp_path / "data", 24) as disk:
        yield disk


@pytest.fixture
def nats(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    """A running server, on the small disk where the test asks for that."""
    if "disk" in request.fixturenames:
        request.getfixturevalue("disk")
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The first three words of each warning about the stream."""
    about = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [line.split(":")[0].split(",")[0] for line in about if line.startswith("the event stream")]


STANDS, WORKS = "the event stream stands still", "the event stream works again"


async def test_a_full_disk_is_said_once_and_a_restart_with_space_goes_on(
    disk: SmallDisk, nats: NatsServer, make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(await make_bus("a"), SMALL)
    await publisher.stream.start()
    publisher.publish(run_id(1), 1)
    assert await publisher.stream.drain(5)
    disk.fill()
    for run in range(1, 200):
        publisher.publish(run_id(run), 2, b"x" * 10_000)
    await until(lambda: publisher.stream.standstill.reason is not None)
    assert "disk is full" in str(publisher.stream.standstill.reason)
    assert publisher.stream.silent_seconds() > 0
    assert not await remake.disk_takes_writes(publisher.bus)
    await asyncio.sleep(4)
    assert publisher.stream._flying <= 64, "one run asks whether it goes on, not all"
    disk.free()
    await until(lambda: publisher.stream.silent_seconds() > 8)
    assert await remake.disk_takes_writes(publisher.bus)
    assert said(caplog) == [STANDS]
    nats.kill()
    nats.start()
    assert await publisher.stream.drain(20)
    assert said(caplog) == [STANDS, WORKS]
    assert publisher.stream.standstill.reason is None and publisher.stream.silent_seconds() == 0.0
    assert by_run(await stored(nats)) == {run_id(1): [1, 2]} | {run_id(run): [2] for run in range(2, 200)}
    await publisher.stream.stop()


async def test_a_stream_closed_for_writing_is_made_anew_with_its_durable_consumers(
    disk: SmallDisk, nats: NatsServer, make_bus: MakeBus
) -> None:
    publisher = Publisher(await make_bus("a"), SMALL)
    await publisher.stream.start()
    publisher.publish(run_id(1), 1)
    assert await publisher.stream.drain(5)
    client = await nats_client.connect(nats.url)
    js = client.jetstream()
    reader = await js.pull_subscribe("dw.events.>", durable="reader", stream="dw_events")
    await js.add_consumer("dw_events", ConsumerConfig(name="passing", ack_policy=AckPolicy.NONE, inactive_threshold=60))
    await (await reader.fetch(1))[0].ack()
    disk.fill()
    publisher.publish(run_id(1), 2, b"x" * 10_000)
    await until(lambda: publisher.stream.standstill.silent)
    disk.free()
    consumers = await remake.durable_consumers(publisher.bus)
    assert consumers is not None
    before = await publisher.stream.look()
    assert await remake.delete_event_stream(publisher.bus)
    publisher.stream.doubt()
    assert await publisher.stream.wait_ready(10)
    assert before is not None and await publisher.stream.look() != before
    assert await remake.restore_consumers(publisher.bus, consumers)
    assert await remake.restore_consumers(publisher.bus, consumers), "what is there already is left alone"
    assert await publisher.stream.drain(10)
    assert [message.headers["Nats-Msg-Id"] for message in await reader.fetch(1)] == [f"{run_id(1)}:2"]  # type: ignore[index]
    assert [info.name for info in await js.consumers_info("dw_events")] == ["reader"]
    await client.close()
    await publisher.stream.stop()


async def test_a_limit_of_the_stream_is_told_and_put_right(
    nats: NatsServer, make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody had the stream refuse new events when it is full: what the deployment wants is put back."""
    publisher = Publisher(await make_bus("a"), SMALL)
    await publisher.stream.start()
    publisher.publish(run_id(1), 1)
    assert await publisher.stream.drain(5)
    js = publisher.bus.jetstream()
    assert js is not None
    drifted = StreamConfig(name="dw_events", subjects=["dw.events.>"], max_bytes=10_000, discard=DiscardPolicy.NEW)
    await js.update_stream(drifted)
    for sequence in range(2, 50):
        publisher.publish(run_id(1), sequence, b"x" * 1000)
    assert await publisher.stream.drain(20)
    assert by_run(await stored(nats)) == {run_id(1): list(range(1, 50))}
    config = (await js.stream_info("dw_events")).config
    assert (config.max_bytes, config.discard) == (SMALL.max_bytes, DiscardPolicy.OLD)
    assert said(caplog) == []
    await publisher.stream.stop()


async def test_a_full_stream_lets_its_oldest_events_go(nats: NatsServer, make_bus: MakeBus) -> None:
    publisher = Publisher(
        await make_bus("a"), EventStreamOptions(max_bytes=100_000, max_age_seconds=2, duplicate_window_seconds=1)
    )
    await publisher.stream.start()
    for sequence in range(1, 201):
        publisher.publish(run_id(1), sequence, b"x" * 1000)
    assert await publisher.stream.drain(20)
    kept = by_run(await stored(nats)).get(run_id(1), [])
    assert 0 < len(kept) < 100 and kept == list(range(201 - len(kept), 201))
    async with asyncio.timeout(20):
        while await stored(nats):
            await asyncio.sleep(0.2)
    publisher.publish(run_id(1), 201)
    assert await publisher.stream.drain(20)
    await publisher.stream.stop()


async def test_a_stream_that_can_not_be_made_is_said_with_its_reason(
    nats: NatsServer, make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    nats.kill()
    nats.config = "jetstream { max_file_store: 1MB }"
    nats.start()
    publisher = Publisher(await make_bus("a"), SMALL)
    await publisher.stream.start()
    await until(lambda: publisher.stream.standstill.reason is not None)
    assert "storage" in str(publisher.stream.standstill.reason)
    assert publisher.stream.silent_seconds() == 0.0, "a restart would not help"
    publisher.publish(run_id(1), 1)
    await until(lambda: said(caplog) == [STANDS])
    nats.kill()
    nats.config = ""
    nats.start()
    assert await publisher.stream.drain(20)
    assert said(caplog) == [STANDS, WORKS]
    await publisher.stream.stop()


async def test_a_short_loss_of_the_connection_is_no_standstill(
    nats: NatsServer, make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(await make_bus("a"), SMALL)
    await publisher.stream.start()
    nats.kill()
    await until(lambda: not publisher.bus.connected)
    publisher.publish(run_id(1), 1)
    await asyncio.sleep(5)
    nats.start()
    assert await publisher.stream.drain(20)
    assert said(caplog) == []
    await publisher.stream.stop()
