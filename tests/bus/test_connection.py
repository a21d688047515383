"""The connection comes and goes by itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from bus.broadcast import Broadcast
from bus.connection import Bus
from tests.bus.conftest import MakeBus, until
from tests.bus.nats_server import NatsServer
from tests.support.defaults import make_bus_options


async def test_start_does_not_need_nats_and_connects_when_it_comes(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    before = time.monotonic()
    bus = await make_bus("a", connected=False)
    assert time.monotonic() - before < 2
    await asyncio.sleep(0.3)
    assert not bus.connected and bus.last_error
    assert bus.publish("x", b"y") is False
    nats.start()
    await until(lambda: bus.connected)
    assert bus.publish("x", b"y") is True


async def test_subscriptions_and_callbacks_survive_a_killed_server(nats: NatsServer, make_bus: MakeBus) -> None:
    bus, other = await make_bus("a"), await make_bus("b")
    events: list[str] = []
    bus.on_connect(lambda: events.append("up"))
    bus.on_disconnect(lambda: events.append("down"))
    got: list[bytes] = []
    bus.subscribe("test.*", lambda subject, _reply, body, _headers: got.append(subject + b"=" + body))
    await asyncio.sleep(0.05)
    assert other.publish("test.1", b"one")
    await until(lambda: got == [b"test.1=one"])
    nats.kill()
    await until(lambda: not bus.connected and not other.connected)
    assert bus.jetstream() is None
    nats.start()
    await until(lambda: bus.connected and other.connected)
    assert other.publish("test.2", b"two")
    await until(lambda: got == [b"test.1=one", b"test.2=two"])
    assert events == ["up", "down", "up"]
    assert bus.session == 2


@pytest.mark.slow
async def test_a_hung_server_is_noticed_and_publishing_never_blocks(nats: NatsServer, make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    nats.freeze()
    try:
        sent = 0
        before = time.monotonic()
        for _ in range(200):  # 200 x 0.5 MiB is more than may wait
            sent += bus.publish("big", b"x" * 500_000)
            await asyncio.sleep(0)
        assert 0 < sent < 150
        assert time.monotonic() - before < 10
        await until(lambda: not bus.connected)
    finally:
        nats.thaw()
    await until(lambda: bus.connected)


async def test_a_message_over_the_servers_limit_is_refused_here(make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    assert bus.max_payload == 1024 * 1024
    assert bus.publish("x", b"x" * (bus.max_payload + 1)) is False
    assert bus.publish("x", b"x" * bus.max_payload) is True
    await asyncio.sleep(0.2)
    assert bus.connected and bus.session == 1


async def test_a_session_the_server_ends_with_an_error_is_replaced(make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    assert bus.send_command(b"NONSENSE\r\n")
    await until(lambda: bus.session == 2)
    assert bus.connected


async def test_a_failing_handler_does_not_end_the_connection(make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    got: list[bytes] = []

    def handler(_subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        got.append(body)
        raise RuntimeError("broken")

    bus.subscribe("x", handler)
    bus.publish("x", b"1")
    bus.publish("x", b"2")
    await until(lambda: got == [b"1", b"2"])
    assert bus.connected and bus.session == 1


async def test_unsubscribe(make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    got: list[bytes] = []
    sid = bus.subscribe("x", lambda _s, _r, body, _h: got.append(body))
    bus.publish("x", b"1")
    await until(lambda: got == [b"1"])
    bus.unsubscribe(sid)
    bus.publish("x", b"2")
    await asyncio.sleep(0.1)
    assert got == [b"1"]


async def test_credentials(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    nats.config = 'authorization { user: "u", password: "p" }'
    nats.start()
    wrong = await make_bus("a", connected=False, options=make_bus_options(servers=(nats.url,), username="u", password="no"))
    right = await make_bus("b", options=make_bus_options(servers=(nats.url,), username="u", password="p"))
    assert right.connected
    await until(lambda: "uthorization" in str(wrong.last_error))
    assert not wrong.connected


async def test_the_second_server_is_tried(nats: NatsServer, make_bus: MakeBus) -> None:
    bus = await make_bus("a", options=make_bus_options(servers=("nats://127.0.0.1:1", nats.url)))
    assert bus.connected


def test_a_credentials_file_needs_its_package() -> None:
    with pytest.raises(ValueError, match="nkeys"):
        Bus(make_bus_options(creds_file="x.creds"), "a")


async def test_broadcast_reaches_all_others_and_not_the_sender(make_bus: MakeBus) -> None:
    names = ["a", "b.with dot", "c"]
    got: list[tuple[str, str, bytes]] = []
    casts = {}
    for name in names:
        casts[name] = Broadcast(await make_bus(name))

        def receive(sender: str, body: bytes, name: str = name) -> None:
            got.append((name, sender, body))

        casts[name].on_broadcast("topic", receive)
    await asyncio.sleep(0.05)
    assert casts["b.with dot"].broadcast("topic", b"hello")
    assert casts["a"].broadcast("other", b"unheard")
    await until(lambda: len(got) == 2)
    await asyncio.sleep(0.05)
    assert sorted(got) == [("a", "b.with dot", b"hello"), ("c", "b.with dot", b"hello")]
