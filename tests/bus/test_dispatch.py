"""Task dispatch over JetStream."""

from __future__ import annotations

import asyncio
import time

import pytest

from bus.connection import Bus
from bus.dispatch import Dispatch
from tests.bus.conftest import MakeBus, until
from tests.bus.nats_server import NatsServer

pytestmark = pytest.mark.proof


async def receiver(bus: Bus) -> tuple[Dispatch, list[bytes]]:
    got: list[bytes] = []
    dispatch = Dispatch(bus)
    dispatch.on_dispatch(got.append)
    await dispatch.start()
    await until(lambda: dispatch.receiving)
    return dispatch, got


async def test_in_order_and_only_to_its_node(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    b, at_b = await receiver(await make_bus("b"))
    c, at_c = await receiver(await make_bus("c"))
    for n in range(1000):
        assert a.send("b", b"%d" % n)
    a.send("c", b"for c")
    await until(lambda: len(at_b) == 1000 and len(at_c) == 1)
    assert at_b == [b"%d" % n for n in range(1000)] and at_c == [b"for c"]
    assert a.sent == 1001 and a.unsent == 0 and b.received == 1000
    await b.stop()
    await c.stop()


async def test_nothing_waits_to_be_sent(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    b, _ = await receiver(await make_bus("b"))
    arrived = asyncio.Event()
    b.on_dispatch(lambda _payload: arrived.set())
    took = []
    for _ in range(50):
        arrived.clear()
        before = time.perf_counter()
        a.send("b", b"x" * 300)
        await asyncio.wait_for(arrived.wait(), 20)
        took.append(time.perf_counter() - before)
    assert min(took) < 0.01, took
    await b.stop()


async def test_sending_never_raises_and_counts(nats: NatsServer, make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    assert a.send("nobody", b"x") is True
    assert a.send("b", b"x" * 2_000_000) is False
    nats.kill()
    await asyncio.sleep(0.2)
    assert a.send("b", b"x") is False
    assert (a.sent, a.unsent) == (1, 2)


@pytest.mark.parametrize("wiped", [False, True])
async def test_goes_on_after_nats_restarts(nats: NatsServer, make_bus: MakeBus, wiped: bool) -> None:
    a = Dispatch(await make_bus("a"))
    b, got = await receiver(await make_bus("b"))
    a.send("b", b"before")
    await until(lambda: got == [b"before"])
    nats.kill()
    if wiped:
        nats.wipe()
    await until(lambda: not b.receiving)
    nats.start()
    await until(lambda: b.receiving)
    await until(lambda: a.send("b", b"after"))
    await until(lambda: b"after" in got)
    assert b.consumers == 2
    await b.stop()


async def test_what_is_sent_while_the_receiver_is_away_arrives_once(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    bus = await make_bus("b")
    b, got = await receiver(bus)
    a.send("b", b"1")
    await until(lambda: got == [b"1"])
    assert bus._client is not None
    bus._client.abort()  # the connection breaks
    await until(lambda: not bus.connected)
    a.send("b", b"2")
    a.send("b", b"3")
    await until(lambda: b.receiving)
    await until(lambda: len(got) >= 3)
    await asyncio.sleep(0.2)
    assert got == [b"1", b"2", b"3"]
    await b.stop()


@pytest.mark.slow
async def test_a_lost_consumer_is_noticed_by_its_silence(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    bus = await make_bus("b")
    b, got = await receiver(bus)
    js = bus.jetstream()
    assert js is not None and b._consumer is not None
    await js.delete_consumer(bus.subjects.dispatch_stream, b._consumer)
    a.send("b", b"waits")
    await until(lambda: got == [b"waits"], 12)
    await b.stop()


@pytest.mark.slow
async def test_a_purged_or_deleted_stream_is_gone_on_with(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    bus = await make_bus("b")
    b, got = await receiver(bus)
    js = bus.jetstream()
    assert js is not None
    for number in range(5):
        a.send("b", b"%d" % number)
    await until(lambda: len(got) == 5)
    await js.purge_stream(bus.subjects.dispatch_stream)
    a.send("b", b"after the purge")
    await until(lambda: got[-1] == b"after the purge")
    await js.delete_stream(bus.subjects.dispatch_stream)
    await until(lambda: b.consumers == 2 and b.receiving)
    a.send("b", b"after the deletion")
    await until(lambda: got[-1] == b"after the deletion")
    assert len(got) == 7
    await b.stop()


async def test_a_full_stream_keeps_the_newest(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    bus = await make_bus("b")
    b, got = await receiver(bus)
    js = bus.jetstream()
    assert js is not None
    stream = (await js.stream_info(bus.subjects.dispatch_stream)).config
    stream.max_bytes = 10_000
    await js.update_stream(stream)
    for number in range(500):
        a.send("b", b"%d" % number + b"x" * 1000)
    await until(lambda: bool(got) and got[-1].startswith(b"499"))
    await b.stop()


async def test_a_new_process_of_a_node_does_not_get_what_the_old_one_missed(make_bus: MakeBus) -> None:
    a = Dispatch(await make_bus("a"))
    old, got_old = await receiver(await make_bus("b"))
    a.send("b", b"old")
    await until(lambda: got_old == [b"old"])
    await old.stop()
    a.send("b", b"missed")
    await asyncio.sleep(0.1)
    new, got_new = await receiver(await make_bus("b"))
    a.send("b", b"new")
    await until(lambda: bool(got_new))
    assert got_new == [b"new"]
    await new.stop()
