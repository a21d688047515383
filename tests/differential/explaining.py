"""The search for what a server may have done: which of the model's next worlds show the histories and the answer it gave.

A server is free in when it enforces a deadline, when it delivers a message between runs, and in whether a call whose answer was
lost had been applied. The model is asked what could have happened, with the times the server recorded; the histories it gave
decide. Events are compared whole, ids and times included: the core mints ids from the run id and the time, so equal decisions
at equal times give equal ids.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from actors.run import ids
from actors.run.commands import WakeUp
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import Refused, RunReply
from actors.run.values import WorkerIdentity
from tests.differential.model import Decided, ModelRun, RunOracle

DEEPEST = 6  # things in between that no history shows
_AROUND = 2  # that many more are looked for where an explanation is found: there may be others
_UNHEARD_MICROS = 60_000_000
_ANYBODY = WorkerIdentity("anybody", "")
_GUESSES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Event = dict[str, Any]
ReadHistory = Callable[[str, str], Awaitable[list[Event] | None]]


@dataclass(frozen=True)
class Operation:
    """Something that was done: how a world decides it at a time, how a reply differs from the one given, times to try.

    `run_id` names the run it concerns in a world (None: none), `workflow_id` is needed for a run the world does not know yet.
    `answered_at`: it cannot have been decided later.
    `lost`: an earlier copy of it may have counted. `settled`: the server did nothing else with the run since.
    """

    name: str
    run_id: Callable[[RunOracle], str | None]
    decide: Callable[[RunOracle, int], Decided]
    differs: Callable[[RunReply], list[str]]
    sent_at: int
    times: Callable[[], tuple[int, ...]] = tuple  # asked again at each try: an answer may come later
    lost: bool = False
    workflow_id: str | None = None
    settled: bool = False
    answered_at: int | None = None

    def run_in(self, world: RunOracle) -> ModelRun | None:
        """The run it concerns, as far as this world knows it."""
        run_id = self.run_id(world)
        return None if run_id is None else world.run_of(run_id)


@dataclass(frozen=True)
class Unheard:
    """A poll whose outcome never came, or came empty from a node that was leaving."""

    worker: WorkerIdentity
    queue: str
    kind: str
    at: int


@dataclass(frozen=True)
class _Found:
    """An explanation. `misordered`: the act is put before an event with an earlier time."""

    decided: Decided
    depth: int
    misordered: bool


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


def shown(event: Event) -> tuple[str, str, Any]:
    """An event of the control plane, to compare with a `plain` one."""
    return event["event_type"], event["timestamp"], event["payload"]


class Explainer:
    """Asks the model what could have happened, and the histories whether it did."""

    def __init__(self, read_history: ReadHistory) -> None:
        self._read = read_history
        self._seen: dict[str, list[Event]] = {}
        self.tried: list[str] = []
        # Polls whose answer was lost, or empty while a node left: a lease may have been given that nobody heard of.
        self.unheard: deque[Unheard] = deque(maxlen=8)

    def look_again(self) -> None:
        """Histories read from now on are new."""
        self._seen.clear()

    async def explain(self, worlds: Sequence[RunOracle], act: Operation, depth: int) -> list[Decided]:
        """All that the act can have come to, the likeliest first; nothing: the server did what these worlds cannot do.

        What histories show to have happened first is free. `depth`: how many things besides that no history shows; what has
        not happened yet would be sought in vain in all that could have. What nobody heard of (a lost lease, a call applied
        twice) is assumed only if nothing else explains the act, times before the act was sent likewise.
        """
        self.tried.clear()
        for early in (False, True):
            most = min(depth + _AROUND, DEEPEST)
            found = [one for world in worlds async for one in self._all(world, act, most, early=early)]
            if found:
                return [one.decided for one in sorted(found, key=lambda one: (one.misordered, one.depth))]
            most = min(depth, DEEPEST)
            for world in worlds:
                async for one in self._all(world, act, most, early=early, guess=True):
                    found.append(one)
                    if len(found) >= _GUESSES:
                        break
            if found:
                return [one.decided for one in found]
        return []

    async def _all(
        self, world: RunOracle, act: Operation, most: int, *, early: bool, guess: bool = False
    ) -> AsyncIterator[_Found]:
        """Explanations, those with the fewest things that no history shows first."""
        queue: deque[tuple[RunOracle, int]] = deque([(world, 0)])
        seen = set()
        while queue:
            world, depth = queue.popleft()
            if (key := _key(world, act)) in seen:
                continue
            seen.add(key)
            for now in await self._times(world, act, early=early):
                decided = act.decide(world, now)
                if not await self._agrees(world, decided):
                    self.tried.append(f"{depth} before, at {now}: {str(decided.reply)[:200]} {_types(decided)}")
                elif act.settled and not await self._is_all(decided.world, act):
                    self.tried.append(f"{depth} before: the server did more")
                elif differences := act.differs(decided.reply):
                    self.tried.append(f"{depth} before, at {now}: {type(decided.reply).__name__}: {'; '.join(differences)}")
                else:
                    yield _Found(decided, depth, await self._misordered(world, act, decided, now))
            steps = [step async for step in self._followed(world, act)]
            if guess and depth < most:
                steps += [step async for step in self._guessed(world, act)]
            for step in steps:
                if _events_of(step, act) > _events_of(world, act):
                    queue.appendleft((step, depth))
                elif depth < most:
                    queue.append((step, depth + 1))

    async def _is_all(self, world: RunOracle, act: Operation) -> bool:
        run = act.run_in(world)
        return run is None or len(run.history) == len(await self.events(world, run.run_id))

    async def _misordered(self, world: RunOracle, act: Operation, decided: Decided, now: int) -> bool:
        run_id = act.run_id(world)
        if run_id is None or any(decided.events.values()):
            return False
        following = await self._next_event(world, run_id, world.run_of(run_id))
        return following is not None and micros_of(following["timestamp"]) < now

    async def _times(self, world: RunOracle, act: Operation, *, early: bool) -> list[int]:
        run_id = act.run_id(world)
        latest = act.answered_at or micros()
        told = [*act.times()]
        times = [act.sent_at]
        if run_id is not None:
            run = world.run_of(run_id)
            await self.events(world, run_id, act.workflow_id)
            next_event = await self._next_event(world, run_id, run)
            if next_event is not None and (at := micros_of(next_event["timestamp"])) <= latest:
                told.insert(0, at)
            if run is not None and run.deadline is not None:
                times += [time for time in (run.deadline - 1, run.deadline) if time <= latest]
        # Times taken from ids are whole milliseconds.
        return [now for now in dict.fromkeys([*told, *times]) if early or now > act.sent_at - 1000]

    async def _followed(self, world: RunOracle, act: Operation) -> AsyncIterator[RunOracle]:
        """What may have happened to the act's run first: a deadline passed (maybe seen by a poll of a task), a message came."""
        run = act.run_in(world)
        if run is None:
            return
        next_event = await self._next_event(world, run.run_id, run)
        if run.deadline is not None and run.deadline <= micros():
            now = run.deadline if next_event is None else max(run.deadline, micros_of(next_event["timestamp"]))
            decided = world.tell(run.run_id, WakeUp(), now)
            if decided.changed and await self._agrees(world, decided):
                yield decided.world
            if next_event is not None:
                decided = world.tell(run.run_id, WakeUp(), run.deadline)
                if decided.changed and not any(decided.events.values()):
                    yield decided.world
                for task_id in run.rows:
                    decided = world.tell(task_id, ClaimTask(task_id, _ANYBODY), now)
                    refused = isinstance(decided.reply, Refused) and any(decided.events.values())
                    if refused and await self._agrees(world, decided):
                        yield decided.world
        for message in world.messages:
            if world.receiver(message) == run.run_id and next_event is not None:
                decided = world.deliver(message, micros_of(next_event["timestamp"]))
                if any(decided.events.values()) and await self._agrees(world, decided):
                    yield decided.world

    async def _guessed(self, world: RunOracle, act: Operation) -> AsyncIterator[RunOracle]:
        """What may have happened first without anybody having heard of it."""
        run = act.run_in(world)
        if run is not None:
            for poll in self.unheard:
                for row in run.rows.values():
                    if (row.queue, row.kind) == (poll.queue, poll.kind) and micros() - poll.at < _UNHEARD_MICROS:
                        async for step in self._given_and_lost(world, run, row.task_id, poll.worker):
                            yield step
        if act.lost:
            for now in await self._times(world, act, early=True):
                decided = act.decide(world, now)
                if decided.changed and await self._agrees(world, decided):
                    yield decided.world

    async def _given_and_lost(
        self, world: RunOracle, run: ModelRun, task_id: str, worker: WorkerIdentity
    ) -> AsyncIterator[RunOracle]:
        """A poll got this task, but nobody heard of it: the lease was handed back, or is left to run out."""
        state = run.state
        activity = state.activities.get(task_id)
        next_event = await self._next_event(world, run.run_id, run)
        available = state.task.available_at if activity is None and state.task is not None else micros()
        now = available if activity is None or next_event is None else micros_of(next_event["timestamp"])
        claimed = world.tell(task_id, ClaimTask(task_id, worker), now)
        if isinstance(claimed.reply, Refused) or not await self._agrees(world, claimed):
            return
        released = claimed.world.tell(task_id, ReleaseClaim(task_id, worker.worker_id, ANY_ATTEMPT), now)
        yield released.world
        yield claimed.world

    # -- histories -----------------------------------------------------------------------------------------------------

    async def _agrees(self, before: RunOracle, decided: Decided) -> bool:
        """Whether the server's histories hold the events, each at its place."""
        for run_id, lines in decided.events.items():
            if not lines:
                continue
            known = before.run_of(run_id)
            at = 0 if known is None else len(known.history)
            workflow_id = decided.world.runs[ids.key_in(run_id)].workflow_id
            there = await self.events(before, run_id, workflow_id)
            if [shown(event) for event in there[at : at + len(lines)]] != [plain(line) for line in lines]:
                return False
        return True

    async def _next_event(self, world: RunOracle, run_id: str, run: ModelRun | None) -> Event | None:
        there = await self.events(world, run_id)
        at = 0 if run is None else len(run.history)
        return there[at] if len(there) > at else None

    async def events(self, world: RunOracle, run_id: str, workflow_id: str | None = None) -> list[Event]:
        """The server's history of a run of this world; nothing for one that is not there (yet)."""
        if run_id not in self._seen:
            run = world.run_of(run_id)
            workflow_id = workflow_id or (None if run is None else run.workflow_id) or _addressee(world, run_id)
            found = None if workflow_id is None else await self._read(workflow_id, run_id)
            if found is None:
                return []
            assert not found or micros_of(found[-1]["timestamp"]) <= micros(), f"recorded in the future: {found[-1]}"
            self._seen[run_id] = found
        return self._seen[run_id]


def _addressee(world: RunOracle, run_id: str) -> str | None:
    return next((message.workflow_id for message in world.messages if message.run_id == run_id), None)


def _events_of(world: RunOracle, act: Operation) -> int:
    run = act.run_in(world)
    return 0 if run is None else len(run.history)


def _key(world: RunOracle, act: Operation) -> tuple[object, ...]:
    """What tells apart the worlds that a search comes to."""
    run = act.run_in(world)
    known = run and (run.data, tuple(run.rows.items()))
    return act.run_id(world), known, tuple(message.message_id for message in world.messages)


def _types(decided: Decided) -> Sequence[str]:
    return [plain(line)[0] for lines in decided.events.values() for line in lines]
