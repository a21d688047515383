"""The event stream: every event of a run, in order, once, through outages."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import nats.errors as nats_errors
import pytest

from bus.connection import Bus
from bus.events import EventStreamOptions
from tests.bus.conftest import MakeBus, until
from tests.bus.nats_server import NatsServer
from tests.bus.publishing import (
    Publisher,
    by_run,
    run_id,
    stored,
)
from tests.support.defaults import make_bus_options


async def stored_in_cluster(nats: NatsServer) -> list[tuple[str, int, bytes, dict[str, str]]]:
    """`stored`, read again while the cluster still settles who leads what."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await stored(nats)
            except (nats_errors.Error, TimeoutError):  # a consumer whose leader went with the killed server
                await asyncio.sleep(0.5)


async def test_events_arrive_with_subject_id_and_body_in_order(nats: NatsServer, make_bus: MakeBus) -> None:
    publisher = Publisher(await make_bus("a"))
    await publisher.stream.start()
    for sequence in range(1, 51):
        for run in range(40):
            assert publisher.publish(run_id(run), sequence, b'{"n":%d}' % sequence)
    assert await publisher.stream.drain(10)
    messages = await stored(nats)
    assert by_run(messages) == {run_id(run): list(range(1, 51)) for run in range(40)}
    assert all(body == b'{"n":%d}' % sequence for _, sequence, body, _ in messages)
    assert publisher.acked == {run_id(run): list(range(1, 51)) for run in range(40)}
    assert publisher.stream.queued == publisher.stream.queued_bytes == 0
    assert (
        not publisher.stream._runs
        and not publisher.stream._in_flight
        and publisher.stream._flying == publisher.stream._flying_bytes == 0
    )
    await publisher.stream.stop()


async def test_subject_is_encoded(nats: NatsServer, make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    publisher = Publisher(bus)
    await publisher.stream.start()
    got: list[bytes] = []
    bus.subscribe("dw.events.ns.Order.*.WorkflowStarted", lambda subject, _r, _b, _h: got.append(subject))
    publisher.stream.publish(run_id(1), 1, bus.subjects.event("ns", "Order", "a.b *>ü", "WorkflowStarted"), b"{}")
    await until(lambda: got == [b"dw.events.ns.Order.a%2Eb%20%2A%3E%C3%BC.WorkflowStarted"])
    await publisher.stream.stop()


@pytest.mark.slow
@pytest.mark.proof
async def test_no_gap_and_no_disorder_across_outages(nats: NatsServer, make_bus: MakeBus) -> None:
    bus = await make_bus("a")
    publisher = Publisher(bus)
    await publisher.stream.start()
    runs = 60
    last = dict.fromkeys(range(runs), 0)
    chance = random.Random(1)
    stop = asyncio.Event()

    async def produce() -> None:
        while not stop.is_set():
            for _ in range(40):
                run = chance.randrange(runs)
                last[run] += 1
                assert publisher.publish(run_id(run), last[run], b"x" * chance.randrange(600))
            await asyncio.sleep(0.005)

    producing = asyncio.create_task(produce())
    await asyncio.sleep(1)
    for outage in (0.0, 5.0):
        nats.kill()
        await asyncio.sleep(outage)
        nats.start()
        await until(lambda: bus.connected)
        await asyncio.sleep(0.5)
    for broken in range(60):  # and connections that break in the middle of traffic
        if broken >= 5 and publisher.stream.resent:
            break
        assert bus._client is not None
        bus._client.abort()
        await until(lambda: not bus.connected)
        await until(lambda: bus.connected)
        await asyncio.sleep(0.2)
    stop.set()
    await producing
    assert await publisher.stream.drain(20)
    expected = {run_id(run): list(range(1, count + 1)) for run, count in last.items() if count}
    assert by_run(await stored(nats)) == expected
    assert publisher.acked == expected
    assert publisher.stream.resent > 0, "the outages hit nothing"
    await publisher.stream.stop()


async def test_two_nodes_publishing_the_same_run_leave_one_ordered_copy(nats: NatsServer, make_bus: MakeBus) -> None:
    one, other = Publisher(await make_bus("a")), Publisher(await make_bus("b"))
    await one.stream.start()
    await other.stream.start()
    for run in range(50):
        for sequence in range(1, 21):
            one.publish(run_id(run), sequence)
        for sequence in range(1, 31):
            other.publish(run_id(run), sequence)
    assert await one.stream.drain(10) and await other.stream.drain(10)
    assert by_run(await stored(nats)) == {run_id(run): list(range(1, 31)) for run in range(50)}
    for publisher in (one, other):
        await publisher.stream.stop()


async def test_a_new_owner_republishing_the_tail_changes_nothing(nats: NatsServer, make_bus: MakeBus) -> None:
    old, new = Publisher(await make_bus("a")), Publisher(await make_bus("b"))
    await old.stream.start()
    await new.stream.start()
    for sequence in range(1, 11):
        old.publish(run_id(1), sequence)
    assert await old.stream.drain(5)
    for sequence in range(4, 16):
        new.publish(run_id(1), sequence)
    assert await new.stream.drain(5)
    assert by_run(await stored(nats)) == {run_id(1): list(range(1, 16))}
    assert new.acked[run_id(1)] == list(range(4, 16))
    for publisher in (old, new):
        await publisher.stream.stop()


async def test_queue_before_nats_and_after_it_lost_its_data(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    publisher = Publisher(await make_bus("a", connected=False))
    await publisher.stream.start()
    for sequence in range(1, 11):
        assert publisher.publish(run_id(1), sequence)
    await asyncio.sleep(0.2)
    assert publisher.stream.queued == 10
    nats.start()
    assert await publisher.stream.drain(5)
    assert by_run(await stored(nats)) == {run_id(1): list(range(1, 11))}
    nats.kill()
    nats.wipe()
    await until(lambda: not publisher.bus.connected)
    for sequence in range(11, 16):
        assert publisher.publish(run_id(1), sequence)
    nats.start()
    assert await publisher.stream.drain(5)
    assert by_run(await stored(nats)) == {run_id(1): list(range(11, 16))}
    await publisher.stream.stop()


async def test_a_stream_deleted_under_a_living_connection_is_made_again(nats: NatsServer, make_bus: MakeBus) -> None:
    publisher = Publisher(await make_bus("a"))
    await publisher.stream.start()
    publisher.publish(run_id(1), 1)
    assert await publisher.stream.drain(5)
    js = publisher.bus.jetstream()
    assert js is not None
    await js.delete_stream("dw_events")
    for sequence in range(2, 30):
        publisher.publish(run_id(1), sequence)
        publisher.publish(run_id(2), sequence)
    assert await publisher.stream.drain(5)
    assert by_run(await stored(nats)) == {run_id(1): list(range(2, 30)), run_id(2): list(range(2, 30))}
    await publisher.stream.stop()


async def test_a_full_queue_drops_whole_tails_until_resumed(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    publisher = Publisher(await make_bus("a", connected=False), EventStreamOptions(queue_messages=100))
    await publisher.stream.start()
    for sequence in range(1, 61):
        assert publisher.publish(run_id(1), sequence)
    accepted = [publisher.publish(run_id(2), sequence) for sequence in range(1, 61)]
    assert accepted == [True] * 40 + [False] * 20
    assert publisher.dropped == [run_id(2)]
    nats.start()
    assert await publisher.stream.drain(5)
    assert publisher.publish(run_id(2), 61) is False, "a run with a gap must not go on"
    assert publisher.acked[run_id(2)] == list(range(1, 41))
    publisher.stream.resume(run_id(2))
    assert all(publisher.publish(run_id(2), sequence) for sequence in range(41, 62))
    assert await publisher.stream.drain(5)
    assert by_run(await stored(nats)) == {run_id(1): list(range(1, 61)), run_id(2): list(range(1, 62))}
    assert publisher.dropped == [run_id(2)]
    await publisher.stream.stop()


async def test_a_gap_is_refused_and_a_repetition_ignored(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    publisher = Publisher(await make_bus("a", connected=False))
    assert publisher.publish(run_id(1), 7)
    assert publisher.publish(run_id(1), 8)
    assert publisher.publish(run_id(1), 7)
    assert publisher.stream.queued == 2
    assert publisher.stream.follows(run_id(1), 9) and publisher.stream.follows(run_id(1), 8)
    assert not publisher.stream.follows(run_id(1), 10) and not publisher.stream.follows(run_id(2), 1)
    assert publisher.stream.queued_of(run_id(1)) == 2 and publisher.stream.queued_of(run_id(2)) == 0
    assert publisher.publish(run_id(1), 10) is False
    assert publisher.dropped == [run_id(1)]


async def test_the_byte_limit_of_the_queue(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    publisher = Publisher(await make_bus("a", connected=False), EventStreamOptions(queue_bytes=100_000))
    accepted = [publisher.publish(run_id(run), 1, b"x" * 10_000) for run in range(20)]
    assert accepted == [True] * 9 + [False] * 11


async def test_an_event_too_large_for_nats_keeps_its_place_without_its_body(nats: NatsServer, make_bus: MakeBus) -> None:
    publisher = Publisher(await make_bus("a"))
    await publisher.stream.start()
    publisher.publish(run_id(1), 1, b"small")
    publisher.publish(run_id(1), 2, b"x" * 1_500_000)
    publisher.publish(run_id(1), 3, b"small")
    assert await publisher.stream.drain(5)
    messages = await stored(nats)
    assert [(sequence, body) for _, sequence, body, _ in messages] == [(1, b"small"), (2, b""), (3, b"small")]
    assert messages[1][3]["Dw-Body-Omitted"] == "1500000"
    assert publisher.stream.oversize == 1 and publisher.bus.session == 1
    await publisher.stream.stop()


async def test_queued_events_are_fitted_to_a_server_with_a_smaller_limit(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    publisher = Publisher(await make_bus("a", connected=False))
    await publisher.stream.start()
    publisher.publish(run_id(1), 1, b"x" * 200_000)
    publisher.publish(run_id(1), 2, b"y" * 100)
    nats.config = "max_payload: 65536"
    nats.start()
    assert await publisher.stream.drain(5)
    assert [(sequence, len(body)) for _, sequence, body, _ in await stored(nats)] == [(1, 0), (2, 100)]
    assert publisher.bus.session == 1 and publisher.stream.queued_bytes == 0
    await publisher.stream.stop()


async def test_discarded_runs_are_not_published(nats: NatsServer, make_bus: MakeBus) -> None:
    nats.kill()
    publisher = Publisher(await make_bus("a", connected=False))
    await publisher.stream.start()
    for run in range(4):
        for sequence in (1, 2, 3):
            publisher.publish(run_id(run), sequence)
    assert publisher.stream.discard_where(lambda run: run in (run_id(1), run_id(2))) == 2
    assert publisher.stream.queued == 6
    nats.start()
    assert await publisher.stream.drain(5)
    assert by_run(await stored(nats)) == {run_id(0): [1, 2, 3], run_id(3): [1, 2, 3]}
    assert publisher.stream.queued == publisher.stream.queued_bytes == 0
    await publisher.stream.stop()


@pytest.mark.slow
async def test_an_unanswered_event_is_sent_again(nats: NatsServer, make_bus: MakeBus) -> None:
    publisher = Publisher(await make_bus("a"))
    await publisher.stream.start()
    publisher.publish(run_id(1), 1)
    assert await publisher.stream.drain(5)
    nats.freeze()
    publisher.publish(run_id(1), 2)
    publisher.publish(run_id(1), 3)
    await asyncio.sleep(6.5)  # longer than the wait for an answer, shorter than the pings' patience
    nats.thaw()
    assert await publisher.stream.drain(10)
    assert by_run(await stored(nats)) == {run_id(1): [1, 2, 3]}
    assert publisher.stream.resent >= 1
    await publisher.stream.stop()


@pytest.mark.slow
@pytest.mark.proof
async def test_order_in_a_cluster_whose_stream_leader_is_killed(tmp_path: Path) -> None:
    servers = [NatsServer(tmp_path / f"n{n}") for n in range(3)]
    ports = [NatsServer(tmp_path).port for _ in servers]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    for number, (server, port) in enumerate(zip(servers, ports, strict=True)):
        server.folder.mkdir()
        server.config = f'server_name: n{number}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        server.start()
    bus = Bus(make_bus_options(servers=tuple(server.url for server in servers), replicas=3), "a")
    publisher = Publisher(bus)
    try:
        await bus.start()
        await publisher.stream.start()
        assert await bus.wait_connected(5) and bus.clustered
        publisher.publish(run_id(0), 1)
        assert await publisher.stream.drain(20), bus.last_error
        last = 1
        killed: NatsServer | None = None
        for turn in range(300):
            last += 1
            for run in range(20):
                publisher.publish(run_id(run), last)
            await asyncio.sleep(0.01)
            if turn == 100:
                js = bus.jetstream()
                assert js is not None
                cluster = (await js.stream_info("dw_events")).cluster
                assert cluster is not None and cluster.leader is not None
                killed = servers[int(cluster.leader[1:])]
                killed.kill()
        assert await publisher.stream.drain(30), bus.last_error
        alive = next(server for server in servers if server is not killed)
        runs = by_run(await stored_in_cluster(alive))
        assert runs == {run_id(0): list(range(1, last + 1))} | {run_id(run): list(range(2, last + 1)) for run in range(1, 20)}
    finally:
        await publisher.stream.stop(0)
        await bus.stop()
        for server in servers:
            server.kill()
