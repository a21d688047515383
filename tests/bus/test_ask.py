"""Asks between buses on a real server."""

from __future__ import annotations

import asyncio
import time

import pytest

from bus.ask import Ask
from bus.errors import HandlerFailed, OutcomeUnknown, Unreachable
from tests.bus.conftest import MakeBus, until
from tests.bus.nats_server import NatsServer


async def echo(payload: bytes) -> bytes:
    return b"echo " + payload


async def pair(make_bus: MakeBus) -> tuple[Ask, Ask]:
    a, b = Ask(await make_bus("node.a")), Ask(await make_bus("node b"))
    a.serve(echo)
    b.serve(echo)
    await asyncio.sleep(0.05)
    return a, b


async def test_two_nodes_ask_each_other(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    answers = await asyncio.gather(
        *(a.ask("node b", b"%d" % n, 5) for n in range(100)), *(b.ask("node.a", b"%d" % n, 5) for n in range(100))
    )
    assert answers == [b"echo %d" % n for n in range(100)] * 2
    assert a.pending == b.pending == 0


async def test_a_slow_handler_does_not_block_others(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    release = asyncio.Event()

    async def handler(payload: bytes) -> bytes:
        if payload == b"slow":
            await release.wait()
        return payload

    b.serve(handler)
    slow = asyncio.create_task(a.ask("node b", b"slow", 5))
    assert await a.ask("node b", b"fast", 1) == b"fast"
    assert not slow.done()
    release.set()
    assert await slow == b"slow"


async def test_unreachable(nats: NatsServer, make_bus: MakeBus) -> None:
    a, _ = await pair(make_bus)
    before = time.monotonic()
    with pytest.raises(Unreachable):
        await a.ask("nobody", b"x", 5)
    with pytest.raises(Unreachable):
        await a.ask("node b", b"x" * 2_000_000, 5)
    nats.kill()
    await asyncio.sleep(0.2)
    with pytest.raises(Unreachable):
        await a.ask("node b", b"x", 5)
    assert time.monotonic() - before < 4
    assert a.pending == 0


async def test_time_out_is_outcome_unknown_and_cancels_the_handler(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    cancelled = asyncio.Event()

    async def handler(_payload: bytes) -> bytes:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return b""

    b.serve(handler)
    before = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await a.ask("node b", b"x", 0.3)
    assert 0.3 <= time.monotonic() - before < 5
    await asyncio.wait_for(cancelled.wait(), 20)


async def test_a_cancelled_caller_cancels_the_handler(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(_payload: bytes) -> bytes:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return b""

    b.serve(handler)
    call = asyncio.create_task(a.ask("node b", b"x", 60))
    await asyncio.wait_for(entered.wait(), 20)
    call.cancel()
    await asyncio.wait_for(cancelled.wait(), 20)
    assert a.pending == 0


async def test_an_answer_that_crossed_the_withdrawal_is_handed_back(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    entered = asyncio.Event()

    async def handler(_payload: bytes) -> bytes:
        entered.set()
        while True:
            try:
                return await asyncio.shield(answer)
            except asyncio.CancelledError:
                continue  # as a commit that can no longer be stopped

    b.serve(handler)
    back: list[bytes] = []
    a.on_undelivered(back.append)
    call = asyncio.create_task(a.ask("node b", b"poll", 60))
    await asyncio.wait_for(entered.wait(), 20)
    call.cancel()
    await asyncio.sleep(0.05)
    answer.set_result(b"task 1")
    await until(lambda: back == [b"task 1"])


async def test_an_answer_made_while_disconnected_is_handed_back(nats: NatsServer, make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    b.serve(lambda _payload: answer)
    back: list[bytes] = []
    b.on_undelivered(back.append)
    call = asyncio.create_task(a.ask("node b", b"poll", 60))
    await asyncio.sleep(0.1)
    nats.kill()
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(call, 20)
    answer.set_result(b"task 1")
    await until(lambda: back == [b"task 1"])


async def test_parked_handlers_of_failed_asks_are_cancelled_after_the_reconnect(nats: NatsServer, make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    parked: list[asyncio.Future[bytes]] = []

    def handler(_payload: bytes) -> asyncio.Future[bytes]:
        parked.append(asyncio.get_running_loop().create_future())
        return parked[-1]

    b.serve(handler)
    calls = [asyncio.create_task(a.ask("node b", b"poll", 60)) for _ in range(10)]
    await until(lambda: len(parked) == 10)
    nats.kill()
    assert all(isinstance(done, OutcomeUnknown) for done in await asyncio.gather(*calls, return_exceptions=True))
    assert not any(future.done() for future in parked)
    nats.start()
    await until(lambda: all(future.cancelled() for future in parked))


async def test_an_answer_lost_inside_nats_is_handed_back_after_the_reconnect(nats: NatsServer, make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    parked: list[asyncio.Future[bytes]] = []
    back: list[bytes] = []

    def handler(_payload: bytes) -> asyncio.Future[bytes]:
        parked.append(asyncio.get_running_loop().create_future())
        return parked[-1]

    b.serve(handler)
    b.on_undelivered(back.append)
    calls = [asyncio.create_task(a.ask("node b", b"poll", 60)) for _ in range(10)]
    await until(lambda: len(parked) == 10)
    nats.freeze()
    for number, future in enumerate(parked):
        future.set_result(b"task %d" % number)
    await asyncio.sleep(0.1)  # written to the socket, and never read
    assert not back
    nats.kill()
    assert all(isinstance(done, OutcomeUnknown) for done in await asyncio.gather(*calls, return_exceptions=True))
    nats.start()
    await until(lambda: sorted(back) == [b"task %d" % number for number in range(10)])


async def test_fail_pending_ends_asks_to_a_dead_node_and_work_for_it(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    loop = asyncio.get_running_loop()
    parked: list[asyncio.Future[bytes]] = []

    def park(_payload: bytes) -> asyncio.Future[bytes]:
        parked.append(loop.create_future())
        return parked[-1]

    a.serve(park)
    b.serve(park)
    to_b = asyncio.create_task(a.ask("node b", b"x", 60))
    to_a = asyncio.create_task(b.ask("node.a", b"x", 60))
    await until(lambda: len(parked) == 2)
    a.fail_pending("someone else")
    await asyncio.sleep(0.05)
    assert not to_b.done()
    a.fail_pending("node b")
    with pytest.raises(OutcomeUnknown, match="gone"):
        await to_b
    assert sum(future.cancelled() for future in parked) == 1
    to_a.cancel()


async def test_a_failing_handler_is_told(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)

    async def fails(_payload: bytes) -> bytes:
        raise ValueError("what a pity")

    b.serve(fails)
    with pytest.raises(HandlerFailed, match="ValueError: what a pity"):
        await a.ask("node b", b"x", 5)

    def fails_at_once(_payload: bytes) -> asyncio.Future[bytes]:
        raise ValueError("at once")

    b.serve(fails_at_once)
    with pytest.raises(HandlerFailed, match="at once"):
        await a.ask("node b", b"x", 5)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024 - 1, 1024 * 1024, 5_000_000])
async def test_answers_of_any_size(make_bus: MakeBus, size: int) -> None:
    a, b = await pair(make_bus)
    answer = (b"0123456789" * (size // 10 + 1))[:size]

    async def handler(_payload: bytes) -> bytes:
        return answer

    b.serve(handler)
    assert await a.ask("node b", b"x", 5) == answer


async def test_five_thousand_parked_asks(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    parked: list[tuple[bytes, asyncio.Future[bytes]]] = []

    def handler(payload: bytes) -> asyncio.Future[bytes]:
        parked.append((payload, asyncio.get_running_loop().create_future()))
        return parked[-1][1]

    b.serve(handler)
    tasks_before = len(asyncio.all_tasks())
    futures = [a.start_ask("node b", b"%d" % n, 70) for n in range(5000)]
    await until(lambda: len(parked) == 5000)
    assert len(asyncio.all_tasks()) == tasks_before
    cpu = time.process_time()
    await asyncio.sleep(1)
    assert time.process_time() - cpu < 0.5, "parked asks cost CPU"
    for payload, future in reversed(parked):
        future.set_result(b"answer " + payload)
    assert await asyncio.gather(*futures) == [b"answer %d" % n for n in range(5000)]
    assert a.pending == 0


async def test_tell(make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    got: list[bytes] = []
    b.on_tell(got.append)
    await asyncio.sleep(0.05)
    assert a.tell("node b", b"look")
    await until(lambda: got == [b"look"])


async def test_asks_work_after_a_restart_of_nats(nats: NatsServer, make_bus: MakeBus) -> None:
    a, b = await pair(make_bus)
    nats.kill()
    await asyncio.sleep(0.3)
    nats.start()
    await until(lambda: a._bus.connected and b._bus.connected)
    assert await a.ask("node b", b"x", 2) == b"echo x"
    assert await b.ask("node.a", b"x", 2) == b"echo x"
