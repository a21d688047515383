"""Answers between nodes that reach nobody are noticed, and a new process settles what its predecessor left (bus.ask)."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import OutcomeUnknown
from tests.cluster.asking import (
    MakeAsk,
    Parking,
    soon,
)

pytestmark = [pytest.mark.cluster, pytest.mark.proof]


async def test_an_answer_to_a_node_that_is_gone_is_returned(make: MakeAsk) -> None:
    (asker_bus, asker), (_, server) = await make("asker"), await make("server")
    handler = Parking()
    back: list[bytes] = []
    server.serve(handler)
    server.on_undelivered(back.append)
    await asyncio.sleep(0.05)
    calls = [asyncio.create_task(asker.ask("server", b"poll", 30)) for _ in range(200)]
    await handler.wait_for(200)
    await asker_bus.stop()
    for call in calls:
        with pytest.raises(OutcomeUnknown):
            await call
    # NATS takes a moment to notice that the connection is gone; what is answered before is lost inside it.
    parked = iter(handler.parked)
    async with asyncio.timeout(15):
        while not back:
            next(parked).set_result(b"perhaps lost")
            await asyncio.sleep(0.1)
    back.clear()
    next(parked).set_result(b"a task")
    await soon(lambda: back == [b"a task"])


async def test_an_answer_that_was_received_is_not_returned(make: MakeAsk) -> None:
    (_, asker), (_, server) = await make("asker"), await make("server")
    handler = Parking()
    back: list[bytes] = []
    server.serve(handler)
    for ask in (asker, server):
        ask.on_undelivered(back.append)
    await asyncio.sleep(0.05)
    calls = [asyncio.create_task(asker.ask("server", b"poll", 30)) for _ in range(2000)]
    await handler.wait_for(2000)
    for number, parked in enumerate(handler.parked):
        parked.set_result(b"%d" % number * 1000)
    assert len(await asyncio.gather(*calls)) == 2000
    await asyncio.sleep(0.2)
    assert not back


async def test_an_answer_that_meets_the_cancellation_of_its_ask_is_returned(make: MakeAsk) -> None:
    (_, asker), (_, server) = await make("asker"), await make("server")
    handler = Parking()
    back: list[bytes] = []
    server.serve(handler)
    asker.on_undelivered(back.append)
    await asyncio.sleep(0.05)
    call = asyncio.create_task(asker.ask("server", b"poll", 30))
    await handler.wait_for(1)
    # What receiving the answer does; the caller is not resumed yet, and exactly then it is cancelled.
    (token,) = asker._pending
    entry = asker._take(token)
    assert entry is not None
    entry.future.set_result(b"a task")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert back == [b"a task"]


async def test_a_new_process_under_the_same_name_ends_what_the_old_one_had(make: MakeAsk) -> None:
    (_, staying), (_, old) = await make("staying"), await make("restarted")
    at_old, at_staying = Parking(), Parking()
    old.serve(at_old)
    staying.serve(at_staying)
    await asyncio.sleep(0.05)
    to_old = asyncio.create_task(staying.ask("restarted", b"poll", 30))
    from_old = asyncio.create_task(old.ask("staying", b"poll", 30))
    await at_old.wait_for(1)
    await at_staying.wait_for(1)
    _, new = await make("restarted")
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(to_old, 20)
    await soon(at_staying.parked[0].cancelled)
    from_new = asyncio.create_task(new.ask("staying", b"poll", 30))
    await at_staying.wait_for(2)
    at_staying.parked[1].set_result(b"for the new one")
    assert await asyncio.wait_for(from_new, 20) == b"for the new one"
    from_old.cancel()
