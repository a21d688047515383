"""The reference model: several runs of the pure core in one world, the messages between them still under way.

A world is never changed: deciding a command gives a new one. So a search can try an explanation of what the server did and drop
it again. Nothing here reads a clock; every decision is given its time in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from actors.dialects.sdk04 import Sdk04
from actors.run import ids
from actors.run.commands import RunCommand
from actors.run.commands.control import NoteDuplicateStart, StartRun
from actors.run.commands.messages import ParentClosed, ScheduleNews, StartChildRun
from actors.run.decide import decide
from actors.run.lifecycle import starting
from actors.run.replies import TOO_EARLY, Refused, RunReply
from actors.run.rules import Rules
from actors.run.state import RunState, decode, encode
from actors.run.times import Micros
from actors.run.transition import ReadyTask, RunMessage, Transition, earliest_deadline

SHOWN = Sdk04()


@dataclass(frozen=True)
class ModelRun:
    """A run in its stored form, with its ready rows."""

    run_id: str
    workflow_id: str
    data: bytes
    history: tuple[bytes, ...]
    rows: dict[str, ReadyTask]
    deadline: int | None

    @property
    def state(self) -> RunState:
        """A copy of the state."""
        return decode(self.data)


@dataclass(frozen=True)
class Decided:
    """What one command came to: the world after it, the answer, the events by run (the run told, and its successor)."""

    world: RunOracle
    reply: RunReply
    events: dict[str, tuple[bytes, ...]]
    changed: bool


@dataclass(frozen=True)
class RunOracle:
    """All runs by run key, workflow ids with their runs in order, messages not yet delivered, request ids of updates."""

    rules: Rules
    runs: dict[str, ModelRun] = field(default_factory=dict)
    instances: dict[str, tuple[str, ...]] = field(default_factory=dict)
    messages: tuple[RunMessage, ...] = ()
    requests: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    closed_updates: frozenset[str] = frozenset()

    def run_of(self, any_id: str) -> ModelRun | None:
        """The run that handed out an id."""
        return self.runs.get(ids.key_in(any_id))

    def current(self, workflow_id: str) -> ModelRun | None:
        """The newest run of a workflow id."""
        chain = self.instances.get(workflow_id)
        return None if chain is None else self.runs[ids.key_in(chain[-1])]

    def ready(self, kind: str, queue: str, now: int) -> list[ReadyTask]:
        """The tasks of a queue that may be claimed now."""
        rows = [row for run in self.runs.values() for row in run.rows.values()]
        return [row for row in rows if row.kind == kind and row.queue == queue and row.available_at <= now]

    def alike(self, other: RunOracle, now: int) -> bool:
        """Whether nothing that can still happen tells the two apart."""
        if self == other:
            return True
        plain = replace(self, runs=other.runs) == other and self.runs.keys() == other.runs.keys()
        return plain and all(_alike(run, other.runs[key], now) for key, run in self.runs.items())

    def differing(self, other: RunOracle) -> list[str]:
        """What is not the same in the two, by run, for reports."""
        found = []
        for key in sorted(self.runs.keys() | other.runs.keys()):
            one, two = self.runs.get(key), other.runs.get(key)
            if one is None or two is None:
                found.append(f"{key}: in one only")
            elif one != two:
                here, there = one.state, two.state
                pairs = [(name, getattr(here, name), getattr(there, name)) for name in RunState.__struct_fields__]
                found += [f"{key}: {name} {a} / {b}" for name, a, b in pairs if a != b] or [f"{key}: events or rows"]
        return found

    # -- deciding ------------------------------------------------------------------------------------------------------

    def start(self, command: StartRun, now: int) -> Decided:
        """Start a workflow, or note the duplicate on its current run."""
        current = self.current(command.workflow_id)
        if current is not None:
            return self.tell(current.run_id, NoteDuplicateStart(command), now)
        tx = starting.create(command, Micros(now), self.rules, SHOWN)
        return self._keep(tx, decide(tx, command), {})

    def tell(self, run_id: str, command: RunCommand, now: int) -> Decided:
        """Have a run decide a command; a run that is not there (yet) refuses."""
        run = self.run_of(run_id)
        if run is None:
            return Decided(self, Refused("task_not_found"), {}, False)
        tx = Transition(run.state, list(run.history), Micros(now), self.rules, SHOWN)
        return self._keep(tx, decide(tx, command), run.rows)

    def deliver(self, message: RunMessage, now: int) -> Decided:
        """Take a message out of the mailbox and have its receiver apply it."""
        rest = replace(self, messages=tuple(other for other in self.messages if other.message_id != message.message_id))
        run_id = rest.receiver(message)
        if rest.run_of(run_id) is not None:
            assert not isinstance(message.command, ScheduleNews)
            decided = rest.tell(run_id, message.command, now)
            return Decided(self, decided.reply, {}, False) if decided.reply == Refused(TOO_EARLY) else decided
        command = message.command
        if not isinstance(command, StartChildRun):
            return Decided(rest, Refused("task_not_found"), {}, False)
        tx = starting.create_child(command, Micros(now), self.rules, SHOWN)
        return rest._keep(tx, decide(tx, command), {})

    def receiver(self, message: RunMessage) -> str:
        """The id of the run a message goes to: a close policy follows a child to its newest run."""
        current = self.current(message.workflow_id)
        return current.run_id if isinstance(message.command, ParentClosed) and current is not None else message.run_id

    def _keep(self, tx: Transition, reply: RunReply, rows: dict[str, ReadyTask]) -> Decided:
        world = replace(self, runs=dict(self.runs), instances=dict(self.instances), requests=dict(self.requests))
        events: dict[str, tuple[bytes, ...]] = {}
        done: Transition | None = tx
        while done is not None:
            world = world._store(done, rows, events)
            done, rows = done.successor, {}
        changed = tx.changed or tx.state.run_id not in [run.run_id for run in self.runs.values()]
        return Decided(world, reply, events, changed)

    def _store(self, tx: Transition, rows: dict[str, ReadyTask], events: dict[str, tuple[bytes, ...]]) -> RunOracle:
        state = tx.state
        rows = {task_id: row for task_id, row in rows.items() if task_id not in tx.unready} | tx.ready
        run_id, workflow_id = state.run_id, state.workflow_id
        run = ModelRun(run_id, workflow_id, encode(state), tuple(tx.history), rows, earliest_deadline(state))
        self.runs[state.run_key] = run
        chain = self.instances.get(workflow_id, ())
        if run_id not in chain:
            self.instances[workflow_id] = (*chain, run_id)
        for request_id, update_id in tx.requests:
            self.requests[workflow_id, request_id] = (update_id, run_id)
        # A message crosses the wire in between.
        messages = tuple(msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=RunMessage) for message in tx.messages)
        events[run_id] = tuple(tx.events)
        return replace(self, messages=self.messages + messages, closed_updates=self.closed_updates.union(tx.closed_updates))


def _alike(one: ModelRun, other: ModelRun, now: int) -> bool:
    if one == other:
        return True
    rest = replace(one, data=b"", rows={}) == replace(other, data=b"", rows={}) and one.rows.keys() == other.rows.keys()
    return rest and _masked(one, now) == _masked(other, now)


def _masked(run: ModelRun, now: int) -> bytes:
    """A run without the times from which on its tasks may be claimed, as far as they passed or nobody asks."""
    state = run.state
    for activity in state.activities.values():
        if activity.status != "ready" or activity.available_at <= now:
            activity.available_at = 0
    if state.task is not None and state.task.available_at <= now:
        state.task.available_at = 0
    return encode(state)


def id_time(any_id: str) -> int:
    """The time an id was minted at, in microseconds, to the millisecond."""
    return ids.minted_at(any_id) * 1000
