"""Finds out what the server did: which of the model's possible next worlds shows the histories and answers it gave.

A server is free in when it enforces a deadline, when it delivers a letter between runs, and in whether a call whose answer was
lost had been applied. The model is asked what could have happened, with the times the server recorded; the histories it gave
decide. What nothing explains is a difference. Events are compared whole, ids and times included: the core mints ids from the
run id and the time, so equal decisions at equal times give equal ids.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from actors.run.commands import ANY_ATTEMPT, ClaimTask, ReleaseClaim, WakeUp, WorkerIdentity
from actors.run.replies import Refused, RunReply
from actors.run.transition import Letter
from tests.differential.model import Decided, ModelRun, World

ANSWERED_SECONDS = 20.0  # an answered call is committed: its events are there
LETTER_SECONDS = 45.0  # a letter may have to wait until a dead node's shards are taken over
UNHEARD_MICROS = 60_000_000
_DEPTH = 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Event = dict[str, Any]
ReadHistory = Callable[[str, str], Awaitable[list[Event] | None]]


class Difference(AssertionError):
    """The server did what the model cannot do."""


@dataclass(frozen=True)
class Act:
    """Something that was done: how a world decides it at a time, how a reply differs from the one given, times to try.

    `run_id` names the run it concerns in a world (None: none), `workflow_id` is needed for a run the world does not know yet.
    `lost`: an earlier copy of it may have counted. `settled`: the server did nothing else with the run since.
    """

    name: str
    run_id: Callable[[World], str | None]
    decide: Callable[[World, int], Decided]
    differs: Callable[[RunReply], list[str]]
    sent_at: int
    times: Callable[[], tuple[int, ...]] = tuple  # asked again at each try: an answer may come later
    lost: bool = False
    workflow_id: str | None = None
    settled: bool = False


@dataclass(frozen=True)
class Unheard:
    """A poll whose outcome never came, or came empty from a node that was leaving."""

    worker: WorkerIdentity
    queue: str
    kind: str
    at: int


def micros() -> int:
    """The present."""
    return time.time_ns() // 1000


def micros_of(text: str) -> int:
    """A recorded time."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def plain(line: bytes) -> tuple[str, str, Any]:
    """A stored event of the model as the control plane shows it."""
    event = orjson.loads(line)
    return event["event_type"], event["recorded_at"], event["payload"]


class Observer:
    """The model's world, kept equal to the server's."""

    def __init__(self, world: World, read_history: ReadHistory) -> None:
        self.world = world
        self.counts: Counter[str] = Counter()
        self._read = read_history
        self._seen: dict[str, list[Event]] = {}
        self._tried: list[str] = []
        self.journal: deque[str] = deque(maxlen=40)
        # Polls whose answer was lost, or empty while a node left: a lease may have been given that nobody heard of.
        self.unheard: deque[Unheard] = deque(maxlen=8)

    async def saw(self, act: Act, seconds: float = ANSWERED_SECONDS) -> RunReply:
        """An act was answered: move to the world that explains it, and return the model's answer."""
        deadline = time.monotonic() + seconds
        self.journal.append(f"{act.sent_at} {act.name[:160]}")
        for depth in itertools.count():
            self._seen.clear()
            self._tried.clear()
            found = await self._search(act, depth)
            if found is not None:
                before = self.world
                self.world = found.world
                self._note(before)
                await self._deliver()
                return found.reply
            if time.monotonic() > deadline and depth > _DEPTH:
                break
            await self._follow(depth)
            await asyncio.sleep(0.05)
        raise Difference(await self._report(act))

    async def _follow(self, depth: int) -> None:
        """Runs whose deadlines passed by themselves: what they sent to others may explain what happened there."""
        for run in list(self.world.runs.values()):
            if run.deadline is not None and run.deadline <= micros():
                self._seen.clear()
                found = await self._search(_looking(run.run_id), depth)
                if found is not None:
                    before, self.world = self.world, found.world
                    self._note(before)

    async def look(self, run_id: str, seconds: float = 0.0) -> None:
        """Follow what happened to a run by itself; wait up to `seconds` for something new."""
        deadline = time.monotonic() + seconds
        nothing = _looking(run_id)
        while True:
            before = len(self._run(run_id).history)
            self._seen.clear()
            if len(await self._events(run_id)) > before:
                await self.saw(nothing)
                return
            if time.monotonic() >= deadline:
                return
            await asyncio.sleep(0.05)

    def _run(self, run_id: str) -> ModelRun:
        return self.world.runs[run_id[10:25]]

    def _note(self, before: World) -> None:
        for key, run in self.world.runs.items():
            known = before.runs.get(key)
            for line in run.history[len(known.history) if known is not None else 0 :]:
                self.counts["event:" + plain(line)[0]] += 1

    # -- searching -----------------------------------------------------------------------------------------------------

    async def _search(self, act: Act, depth: int = _DEPTH) -> Decided | None:
        """Fewest things in between first; times before the act was sent only if no other explains it.

        `depth`: how many things in between. What has not happened yet would be sought in vain in all that could have.
        """
        most = min(depth, _DEPTH)
        return await self._search_at(act, most, early=False) or await self._search_at(act, most, early=True)

    async def _search_at(self, act: Act, most: int, *, early: bool) -> Decided | None:
        queue: deque[tuple[World, int]] = deque([(self.world, 0)])
        while queue:
            world, depth = queue.popleft()
            for now in await self._times(world, act, early=early):
                decided = act.decide(world, now)
                if not await self._agrees(world, decided):
                    self._tried.append(f"{depth} before, at {now}: {str(decided.reply)[:200]} {_types(decided)}")
                elif act.settled and not await self._is_all(decided.world, act):
                    self._tried.append(f"{depth} before: the server did more")
                elif differences := act.differs(decided.reply):
                    self._tried.append(f"{depth} before, at {now}: {type(decided.reply).__name__}: {'; '.join(differences)}")
                else:
                    return decided
            if depth < most:
                for step in [step async for step in self._in_between(world, act)]:
                    queue.append((step, depth + 1))
        return None

    async def _is_all(self, world: World, act: Act) -> bool:
        run_id = act.run_id(world)
        run = None if run_id is None else world.run_of(run_id)
        return run is None or len(run.history) == len(await self._events(run.run_id))

    async def _times(self, world: World, act: Act, *, early: bool) -> list[int]:
        run_id = act.run_id(world)
        times = [*act.times()]
        if run_id is None:
            times.append(act.sent_at)
        else:
            run = world.run_of(run_id)
            await self._events(run_id, act.workflow_id)
            next_event = await self._next_event(run_id, run)
            if next_event is not None:
                times.insert(0, micros_of(next_event["timestamp"]))
            deadline = None if run is None else run.deadline
            times.append(act.sent_at)
            if deadline is not None:
                times.append(deadline - 1)
                if deadline <= micros():
                    times.append(deadline)
        # Times taken from ids are whole milliseconds.
        return [now for now in dict.fromkeys(times) if early or now > act.sent_at - 1000]

    async def _in_between(self, world: World, act: Act) -> AsyncIterator[World]:
        run_id = act.run_id(world)
        run = None if run_id is None else world.run_of(run_id)
        if run is not None and run.deadline is not None and run.deadline <= micros():
            next_event = await self._next_event(run.run_id, run)
            for now in {run.deadline if next_event is None else max(run.deadline, micros_of(next_event["timestamp"]))}:
                decided = world.tell(run.run_id, WakeUp(), now)
                if decided.changed and await self._agrees(world, decided):
                    yield decided.world
            if next_event is not None:
                decided = world.tell(run.run_id, WakeUp(), run.deadline)
                if decided.changed and not any(decided.events.values()):
                    yield decided.world
        for letter in world.letters:
            if run is None or world.receiver(letter) != run.run_id:
                continue
            next_event = await self._next_event(run.run_id, run)
            if next_event is not None:
                decided = world.deliver(letter, micros_of(next_event["timestamp"]))
                if any(decided.events.values()) and await self._agrees(world, decided):
                    yield decided.world
        if run is not None:
            for poll in self.unheard:
                for row in run.rows.values():
                    if (row.queue, row.kind) == (poll.queue, poll.kind) and micros() - poll.at < UNHEARD_MICROS:
                        async for step in self._given_and_lost(world, run, row.task_id, poll.worker):
                            yield step
        if act.lost:
            for now in await self._times(world, act, early=True):
                decided = act.decide(world, now)
                if decided.changed and await self._agrees(world, decided):
                    yield decided.world

    async def _given_and_lost(self, world: World, run: ModelRun, task_id: str, worker: WorkerIdentity) -> AsyncIterator[World]:
        """A poll got this task, but nobody heard of it: the lease was handed back, or is left to run out."""
        state = run.state
        activity = state.activities.get(task_id)
        next_event = await self._next_event(run.run_id, run)
        available = state.task.available_at if activity is None and state.task is not None else micros()
        now = available if activity is None or next_event is None else micros_of(next_event["timestamp"])
        claimed = world.tell(task_id, ClaimTask(task_id, worker), now)
        if isinstance(claimed.reply, Refused) or not await self._agrees(world, claimed):
            return
        released = claimed.world.tell(task_id, ReleaseClaim(task_id, worker.worker_id, ANY_ATTEMPT), now)
        yield released.world
        yield claimed.world

    async def _agrees(self, before: World, decided: Decided) -> bool:
        """Whether the server's histories hold the events, each at its place."""
        for run_id, lines in decided.events.items():
            if not lines:
                continue
            known = before.run_of(run_id)
            at = 0 if known is None else len(known.history)
            workflow_id = decided.world.runs[run_id[10:25]].workflow_id
            there = await self._events(run_id, workflow_id)
            shown = [(event["event_type"], event["timestamp"], event["payload"]) for event in there[at : at + len(lines)]]
            if shown != [plain(line) for line in lines]:
                return False
        return True

    async def _next_event(self, run_id: str, run: ModelRun | None) -> Event | None:
        there = await self._events(run_id)
        at = 0 if run is None else len(run.history)
        return there[at] if len(there) > at else None

    async def _events(self, run_id: str, workflow_id: str | None = None) -> list[Event]:
        if run_id not in self._seen:
            run = self.world.run_of(run_id)
            workflow_id = workflow_id or (None if run is None else run.workflow_id) or self._addressee(run_id)
            found = None if workflow_id is None else await self._read(workflow_id, run_id)
            if found is None:
                return []
            self._seen[run_id] = found
        return self._seen[run_id]

    def _addressee(self, run_id: str) -> str | None:
        return next((letter.workflow_id for letter in self.world.letters if letter.run_id == run_id), None)

    # -- letters -------------------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Wait until every letter under way has been applied; they cause further ones."""
        while self.world.letters:
            letter = self.world.letters[0]
            before = self.world
            act = _delivery(letter)
            deadline = time.monotonic() + LETTER_SECONDS
            for depth in itertools.count():
                self._seen.clear()
                self._tried.clear()
                found = await self._search(act, depth)
                if found is not None:
                    break
                if time.monotonic() > deadline and depth > _DEPTH:
                    raise Difference(await self._report(act))
                await self._follow(depth)
                await asyncio.sleep(0.02)
            assert found is not None
            self.world = found.world
            self.counts[act.name] += 1
            self._note(before)

    # -- checks --------------------------------------------------------------------------------------------------------

    async def all_equal(self) -> None:
        """Every history is the same now, after what happens by itself was followed."""
        for run_id in [run.run_id for run in self.world.runs.values()]:
            there: list[Event] = []
            for _ in range(20):  # a deadline may pass between a look and the comparison
                await self.look(run_id)
                self._seen.clear()
                there = await self._events(run_id)
                if len(there) == len(self._run(run_id).history):
                    break
            shown = [(event["event_type"], event["timestamp"], event["payload"]) for event in there]
            ours = [plain(line) for line in self._run(run_id).history]
            assert shown == ours, (run_id, [one[0] for one in shown], [one[0] for one in ours])
            assert [event["sequence"] for event in there] == list(range(1, len(there) + 1))

    async def _report(self, act: Act) -> str:
        run_id = act.run_id(self.world)
        run = None if run_id is None else self.world.run_of(run_id)
        ours = [] if run is None else [plain(line)[0] for line in run.history]
        there = [] if run_id is None else await self._events(run_id)
        lines = ["before:", *self.journal, f"nothing explains {act.name[:400]} (run {run_id})", f"model: {ours}"]
        lines += [f"server: {[event['event_type'] for event in there]}", f"next: {there[len(ours) : len(ours) + 3]}"]
        if run is not None:
            lines += [f"state: {run.state}", f"rows: {list(run.rows)}", f"deadline: {run.deadline}, now {micros()}"]
        return "\n".join([*lines, *(f"tried {text}" for text in self._tried[:8])])


def _delivery(letter: Letter) -> Act:
    """A letter reached its run."""

    def receiver(world: World) -> str | None:
        return world.receiver(letter)

    def deliver(world: World, now: int) -> Decided:
        return world.deliver(letter, now)

    return Act(f"letter {type(letter.command).__name__}", receiver, deliver, lambda reply: [], micros())


def _looking(run_id: str) -> Act:
    """Nothing was done, but something happened to a run: the world in which its history is what the server shows."""
    nothing: Any = None

    def decide(world: World, now: int) -> Decided:
        return Decided(world, nothing, {}, False)

    return Act(f"look at {run_id}", lambda world: run_id, decide, lambda reply: [], micros(), settled=True)


def _types(decided: Decided) -> list[str]:
    return [plain(line)[0] for lines in decided.events.values() for line in lines]
