"""Keeps up with what the server did: the worlds of the model in which everything it answered and recorded is right.

Usually there is one. Where an answer leaves open what happened (a refused command came before a deadline, or after it), there
are several until a later answer tells. What no world explains is a difference.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from actors.run import ids
from actors.run.replies import TOO_EARLY, Refused, RunReply
from actors.run.transition import RunMessage
from tests.differential.explaining import DEEPEST, Event, Explainer, Operation, ReadHistory, micros, plain, shown
from tests.differential.model import Decided, ModelRun, RunOracle

ANSWERED_SECONDS = 20.0  # an answered call is committed: its events are there
MESSAGE_SECONDS = 45.0  # a message may have to wait until a dead node's shards are taken over
_MOST_WORLDS = 8


class Difference(AssertionError):
    """The server did what the model cannot do."""


class Observer:
    """The model's worlds, kept equal to the server's."""

    def __init__(self, world: RunOracle, read_history: ReadHistory) -> None:
        self.worlds = [world]
        self.counts: Counter[str] = Counter()
        self.explainer = Explainer(read_history)
        self.journal: deque[str] = deque(maxlen=2000)
        self._told: dict[str, int] = {}

    @property
    def world(self) -> RunOracle:
        """The likeliest one."""
        return self.worlds[0]

    async def saw(self, act: Operation, seconds: float = ANSWERED_SECONDS) -> RunReply:
        """An act was answered: move to the worlds that explain it, and return the model's answer."""
        deadline = time.monotonic() + seconds
        self.journal.append(f"{act.sent_at} {act.run_id(self.world)} {act.name[:300]}")
        for depth in itertools.count():
            self.explainer.look_again()
            found = await self.explainer.explain(self.worlds, act, depth)
            if found:
                self._move([decided.world for decided in found])
                if len(self.worlds) > 1:
                    self.journal.append(f"{act.run_id(self.world)} {len(self.worlds)} worlds")
                await self._deliver()
                return found[0].reply
            if time.monotonic() > deadline and depth > DEEPEST:
                break
            await self._follow(depth)
            await asyncio.sleep(0.05)
        raise Difference(await self._report(act))

    def keep(self, right: Callable[[RunOracle], bool]) -> bool:
        """Something else was seen: drop the worlds in which it is wrong. False: it is wrong in all, and none is dropped."""
        kept = [world for world in self.worlds if right(world)]
        self.worlds = kept or self.worlds
        return bool(kept)

    async def look(self, run_id: str, seconds: float = 0.0) -> None:
        """Follow what happened to a run by itself; wait up to `seconds` for something new."""
        deadline = time.monotonic() + seconds
        while True:
            before = len(self._run(run_id).history)
            self.explainer.look_again()
            if len(await self.explainer.events(self.world, run_id)) > before:
                await self.saw(_looking(run_id))
                return
            if time.monotonic() >= deadline:
                return
            await asyncio.sleep(0.05)

    async def _follow(self, depth: int) -> None:
        """Runs whose deadlines passed by themselves: what they sent to others may explain what happened there."""
        for run in list(self.world.runs.values()):
            if run.deadline is not None and run.deadline <= micros():
                self.explainer.look_again()
                worlds: list[RunOracle] = []
                for world in self.worlds:
                    found = await self.explainer.explain([world], _looking(run.run_id), depth)
                    worlds += [decided.world for decided in found] or [world]
                self._move(worlds)

    def _move(self, worlds: list[RunOracle]) -> None:
        self.worlds, now = [], micros()
        for world in worlds:
            if len(self.worlds) < _MOST_WORLDS and not any(world.alike(other, now) for other in self.worlds):
                self.worlds.append(world)
        if len(self.worlds) > 1:
            self.counts["several worlds"] += 1
        for key, run in self.world.runs.items():
            told = self._told.get(key, 0)
            if len(run.history) > told:
                self._told[key] = len(run.history)
                self.counts.update("event:" + plain(line)[0] for line in run.history[told:])

    async def _deliver(self) -> None:
        """Wait until every message under way has been applied; they cause further ones."""
        while message := next((message for world in self.worlds for message in world.messages), None):
            act = _delivery(message)
            deadline = time.monotonic() + MESSAGE_SECONDS
            for depth in itertools.count():
                self.explainer.look_again()
                without = [world for world in self.worlds if not _holds(world, message)]
                holding = [world for world in self.worlds if _holds(world, message)]
                found = await self.explainer.explain(holding, act, depth)
                if found or not holding:
                    self._move([*(decided.world for decided in found), *without])
                    break
                if time.monotonic() > deadline and depth > DEEPEST:
                    if not without:
                        raise Difference(await self._report(act))
                    self._move(without)
                    break
                await self._follow(depth)
                await asyncio.sleep(0.02)
            self.counts[act.name] += 1

    def _run(self, run_id: str) -> ModelRun:
        return self.world.runs[ids.key_in(run_id)]

    # -- checks --------------------------------------------------------------------------------------------------------

    async def all_equal(self) -> None:
        """Every history is the same now, after what happens by itself was followed."""
        for run_id in [run.run_id for run in self.world.runs.values()]:
            there: list[Event] = []
            for _ in range(20):  # a deadline may pass between a look and the comparison
                await self.look(run_id)
                self.explainer.look_again()
                there = await self.explainer.events(self.world, run_id)
                if len(there) == len(self._run(run_id).history):
                    break
            ours = [plain(line) for line in self._run(run_id).history]
            assert [shown(event) for event in there] == ours, (run_id, _types(there), [one[0] for one in ours])
            assert [event["sequence"] for event in there] == list(range(1, len(there) + 1))

    async def _report(self, act: Operation) -> str:
        """What differs comes first: long reports are cut."""
        lines = [f"nothing explains {act.name[:100]}", *(f"tried {text}" for text in self.explainer.tried[:12])]
        concerned = ""
        lines.append(f"{len(self.worlds)} worlds")
        lines += [f"another has {self.world.differing(world)}"[:1000] for world in self.worlds[1:]]
        for world in self.worlds[:2]:
            run_id, run = act.run_id(world), act.run_in(world)
            there = [] if run_id is None else await self.explainer.events(world, run_id)
            lines.append(f"run {run_id}, server: {_types(there)}")
            if run is not None:
                concerned = ids.key_in(run.run_id)
                lines += [f"model: {[plain(line)[0] for line in run.history]}", f"next: {there[len(run.history) :][:3]}"]
                lines += [f"rows: {list(run.rows)}", f"deadline: {run.deadline}, now {micros()}", f"state: {run.state}"]
        own = [line for line in self.journal if concerned and concerned in line]
        return "\n".join([*lines, f"whole: {act.name[:2000]}", "the run:", *own, "before:", *list(self.journal)[-20:]])


def _holds(world: RunOracle, message: RunMessage) -> bool:
    return any(other.message_id == message.message_id for other in world.messages)


def _types(events: list[Event]) -> list[str]:
    return [event["event_type"] for event in events]


def _delivery(message: RunMessage) -> Operation:
    """A message reached its run."""

    def receiver(world: RunOracle) -> str | None:
        return world.receiver(message)

    def deliver(world: RunOracle, now: int) -> Decided:
        return world.deliver(message, now)

    return Operation(f"message {type(message.command).__name__}", receiver, deliver, _too_early, micros())


def _too_early(reply: RunReply) -> list[str]:
    return [TOO_EARLY] if reply == Refused(TOO_EARLY) else []


def _looking(run_id: str) -> Operation:
    """Nothing was done, but something happened to a run: the world in which its history is what the server shows."""
    nothing: Any = None

    def decide(world: RunOracle, now: int) -> Decided:
        return Decided(world, nothing, {}, False)

    return Operation(f"look at {run_id}", lambda world: run_id, decide, lambda reply: [], micros(), settled=True)
