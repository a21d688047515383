"""A node that says nothing on NATS is not waited for."""

from __future__ import annotations

import asyncio
import time

import pytest

from bus.ask import Ask
from bus.errors import OutcomeUnknown, Unreachable
from tests.bus.conftest import MakeBus, until


async def test_a_node_that_falls_silent_is_not_waited_for_until_it_is_heard_again(make_bus: MakeBus) -> None:
    a, b = Ask(await make_bus("a")), Ask(await make_bus("b"))
    cancelled: list[bytes] = []

    async def hold(payload: bytes) -> bytes:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(payload)
            raise
        return payload

    a.serve(hold)
    b.serve(hold)
    await until(lambda: a.hears("b") and b.hears("a"))
    begun = time.monotonic()
    asked = asyncio.create_task(a.ask("b", b"x", 60))
    served = asyncio.create_task(b.ask("a", b"y", 60))
    await asyncio.sleep(0.2)
    b.speak_while(lambda: False)
    with pytest.raises(OutcomeUnknown):
        await asked
    assert time.monotonic() - begun < 20
    assert not a.all_heard and not a.hears("b")
    await until(lambda: sorted(cancelled) == [b"x", b"y"])
    with pytest.raises(Unreachable):
        await a.ask("b", b"x", 60)
    assert not a.tell("b", b"x")
    served.cancel()
    await asyncio.gather(served, return_exceptions=True)

    b.speak_while(lambda: True)
    await until(lambda: a.hears("b") and a.all_heard)

    async def answer(payload: bytes) -> bytes:
        return payload

    b.serve(answer)
    assert await a.ask("b", b"again", 5) == b"again"


async def test_a_node_that_is_gone_is_not_missed(make_bus: MakeBus) -> None:
    a, bus = Ask(await make_bus("a")), await make_bus("b")
    Ask(bus)
    await until(lambda: a.hears("b"))
    a.fail_pending("b")
    await bus.stop()
    await asyncio.sleep(3)
    assert a.all_heard and not a.hears("b")
