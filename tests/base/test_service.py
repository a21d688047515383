"""The contract of what starts and stops (`base.service`), as the base keeps it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from base.service import Service


def runs(service: Service) -> bool:
    return service.running


class Clerk(Service):
    """Writes down what happens to it."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.diary: list[str] = []
        self.fails = fails
        self.gate = asyncio.Event()
        self.gate.set()
        self.stop_fails = False

    async def _start(self) -> None:
        self.diary.append("start")
        self._spawn(self._work(), "clerk")
        await asyncio.sleep(0)  # the task runs by now
        if self.fails:
            self.fails -= 1
            raise OSError("away")
        await self.gate.wait()

    async def _work(self) -> None:
        try:
            while not self.stopping:
                await asyncio.sleep(60)
        finally:
            self.diary.append("task ended")

    async def _stop(self) -> None:
        self.diary.append("stop")
        await self.gate.wait()
        if self.stop_fails:
            raise OSError("broken")

    async def _stopped(self) -> None:
        self.diary.append("stopped")


async def test_it_starts_and_stops_in_order() -> None:
    clerk = Clerk()
    await clerk.start()
    assert runs(clerk) and clerk.diary == ["start"]
    await clerk.stop()
    assert not runs(clerk) and clerk.diary == ["start", "stop", "task ended", "stopped"]


async def test_a_second_start_has_no_effect() -> None:
    clerk = Clerk()
    await clerk.start()
    await clerk.start()
    assert clerk.diary == ["start"]
    await clerk.stop()


async def test_a_stop_before_a_start_and_a_second_one_have_no_effect() -> None:
    clerk = Clerk()
    await clerk.stop()
    assert clerk.diary == []
    await clerk.start()
    await clerk.stop()
    done = list(clerk.diary)
    await clerk.stop()
    assert clerk.diary == done


async def test_it_starts_again_after_a_stop() -> None:
    clerk = Clerk()
    for _ in range(2):
        await clerk.start()
        await asyncio.sleep(0)
        await clerk.stop()
    assert clerk.diary == ["start", "stop", "task ended", "stopped"] * 2


async def test_a_start_that_fails_leaves_nothing_and_may_be_tried_again() -> None:
    clerk = Clerk(fails=1)
    with pytest.raises(OSError, match="away"):
        await clerk.start()
    assert not runs(clerk) and clerk.diary == ["start", "task ended", "stopped"]
    await clerk.stop()
    assert clerk.diary == ["start", "task ended", "stopped"]
    await clerk.start()
    assert runs(clerk)
    await clerk.stop()


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    clerk = Clerk()
    clerk.gate.clear()
    starting = asyncio.create_task(clerk.start())
    await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled() and not runs(clerk) and clerk.diary == ["start", "task ended", "stopped"]


async def test_all_who_stop_it_return_when_it_has_ended() -> None:
    clerk = Clerk()
    await clerk.start()
    clerk.gate.clear()
    stops = [asyncio.create_task(clerk.stop()) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(stop.done() for stop in stops)
    clerk.gate.set()
    await asyncio.gather(*stops)
    assert clerk.diary == ["start", "stop", "task ended", "stopped"]


async def test_a_stop_waits_for_a_start() -> None:
    clerk = Clerk()
    clerk.gate.clear()
    starting = asyncio.create_task(clerk.start())
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(clerk.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    clerk.gate.set()
    await asyncio.gather(starting, stopping)
    assert not runs(clerk) and clerk.diary[-1] == "stopped"


async def test_a_stop_that_is_given_up_leaves_no_task() -> None:
    clerk = Clerk()
    await clerk.start()
    clerk.gate.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(clerk.stop(), 0.01)
    assert "task ended" in clerk.diary


async def test_what_goes_wrong_at_a_stop_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clerk = Clerk()
    await clerk.start()
    clerk.stop_fails = True
    with caplog.at_level(logging.ERROR):
        await clerk.stop()
    assert clerk.diary == ["start", "stop", "task ended", "stopped"]
    assert "Clerk did not stop cleanly" in caplog.text


async def test_draining_stops_nothing() -> None:
    clerk = Clerk()
    await clerk.drain()
    await clerk.start()
    await clerk.drain()
    assert runs(clerk) and clerk.diary == ["start"]
    await clerk.stop()
