"""One schedule, live: its state in memory, a mailbox, and one commit in flight at a time, as with runs (`run_actor`).

Everything that waits in the mailbox when the actor becomes free is decided in order and committed as one transition; answers
and messages follow the commit (architecture, rules 1 to 4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from actors.errors import Unavailable
from actors.hosting.repeats import too_old
from actors.hosting.schedule_rows import schedule_write
from actors.run.times import Micros
from actors.schedule.commands import ScheduleCommand
from actors.schedule.decide import decide, unborn
from actors.schedule.replies import NOT_FOUND, Done, Refused, ScheduleReply
from actors.schedule.state import ScheduleState, decode
from actors.schedule.transition import Transition
from base.observability.actions import said
from bus.errors import fail
from store.commit.schedule_writes import ScheduleWrite
from store.errors import StoreUnavailable
from store.schedules import StoredSchedule

_log = logging.getLogger("dw.actors")

_MAX_RETRIES = 20
_MOST_AT_ONCE = 100  # commands in one transition

Names = tuple[str, str]  # namespace, schedule id


class Told:
    """A command in a mailbox, and who waits for the answer.

    `message_id`: the message it came in, deleted by the commit that applies it. `key`: of a command that must be applied once.
    """

    __slots__ = ("command", "future", "key", "message_id")

    def __init__(
        self, command: ScheduleCommand, future: asyncio.Future[ScheduleReply], message_id: str | None, key: str | None
    ) -> None:
        self.command = command
        self.future = future
        self.message_id = message_id
        self.key = key


class Hosting(Protocol):
    """What a schedule's actor needs of the one who hosts it."""

    @property
    def shards(self) -> int: ...

    def now(self) -> Micros: ...

    def commit(self, write: ScheduleWrite) -> asyncio.Future[bool]: ...

    def load(self, schedule_key: str) -> asyncio.Future[StoredSchedule | None]: ...

    def published(self, schedule_key: str) -> int: ...

    def committed(self, actor: ScheduleActor, tx: Transition, write: ScheduleWrite) -> None: ...

    def unchanged(self, actor: ScheduleActor, wake_at: int | None) -> None: ...

    def rest(self, actor: ScheduleActor) -> None: ...

    async def messages_there(self, message_ids: list[str]) -> set[str]: ...

    async def discard(self, message_ids: list[str]) -> None: ...

    async def answers_to(self, keys: list[str]) -> dict[str, ScheduleReply]: ...


class ScheduleActor:
    """Owner of one schedule in this process."""

    __slots__ = (
        "_host", "_names", "_task", "busy", "definition_bytes", "key", "mailbox", "published", "retries", "state", "version"
    )  # fmt: skip

    def __init__(self, host: Hosting, key: str) -> None:
        self._host = host
        self._names: Names | None = None
        self._task: asyncio.Task[None] | None = None
        self.key = key
        self.mailbox: list[Told] = []
        self.busy = False
        self.state: ScheduleState | None = None
        self.version = 0  # 0: nothing is stored
        self.published = 0
        self.retries = 0
        self.definition_bytes = 0

    def enqueue(self, told: Told, names: Names | None) -> None:
        """Put a command into the mailbox. `names`: for the case that nothing is stored yet."""
        self._names = self._names or names
        self.mailbox.append(told)
        if not self.busy:
            self._step()

    def forget(self) -> None:
        """Drop what is cached: the next command starts from the store."""
        self.state = None
        self.version = 0

    # -- one round -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        if not self.mailbox:
            self.busy = False
            self._host.rest(self)
            return
        self.busy = True
        batch = self._next()
        if self.state is not None:
            self._decide(batch, certain=False)
            return
        self._host.load(self.key).add_done_callback(lambda done: self._loaded(batch, done))

    def _next(self) -> list[Told]:
        """What is decided together; a repetition of a command among them waits for the next time."""
        waiting, keys = self.mailbox, set[str | None]()
        batch: list[Told] = []
        self.mailbox = []
        for told in waiting:
            if len(batch) == _MOST_AT_ONCE or told.key in keys:
                self.mailbox.append(told)
                continue
            if told.key is not None:
                keys.add(told.key)
            batch.append(told)
        return batch

    def _loaded(self, batch: list[Told], done: asyncio.Future[StoredSchedule | None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self._failed(batch, error)
            return
        try:
            stored = done.result()
            if stored is not None:
                self.version = stored.version
                self.published = max(stored.published_sequence, self.published)
                self.state = decode(stored.state, stored.definition)
                self.definition_bytes = len(stored.definition)
            elif self._names is not None:
                self.version = 0
                self.state = unborn(*self._names)
            else:
                for told in batch:
                    _answer(told, Refused(NOT_FOUND))
                self._step()
                return
        except Exception as failure:
            self._failed(batch, failure)
            return
        self._decide(batch, certain=True)

    def _decide(self, batch: list[Told], *, certain: bool) -> None:
        """Decide all commands in order. `certain`: the state was read from the store in this round."""
        host = self._host
        assert self.state is not None
        now = host.now()
        if any(told.key is not None and too_old(told.key, now) for told in batch):
            self._leave_out_old(batch, now)
            return
        try:
            tx = Transition(self.state, now, host.shards)
            replies: list[ScheduleReply] = []
            applied: list[tuple[str, ScheduleReply | None]] = []
            for told in batch:
                before, tx.changed = tx.changed, False
                reply = decide(tx, told.command)
                replies.append(reply)
                if told.key is not None:  # one that changed nothing may be the repetition of one that did
                    applied.append((told.key, reply if tx.changed else None))
                tx.changed = tx.changed or before
            received = [told.message_id for told in batch if told.message_id is not None]
            if not tx.changed and (not received or not self.version):
                if not certain:  # another node may have had it meanwhile
                    self._once_more(batch)
                    return
                self._task = asyncio.get_running_loop().create_task(self._unchanged(batch, replies, received, tx.wake_at()))
                return
            published = max(self.published, host.published(self.key))
            write = schedule_write(self.key, tx, self.version, published, received, applied)
            future = host.commit(write)
        except Exception as error:
            self._failed(batch, error)
            return
        future.add_done_callback(lambda done: self._committed(batch, tx, write, replies, done))

    def _once_more(self, batch: list[Told]) -> None:
        self.forget()
        self.mailbox[:0] = batch
        self._step()

    async def _unchanged(
        self, batch: list[Told], replies: list[ScheduleReply], received: Sequence[str], wake_at: int | None
    ) -> None:
        """Answers that change nothing, from the state as it is stored; a repeated command is answered as it was."""
        keys = [told.key for told in batch if told.key is not None]
        try:
            answers = await self._host.answers_to(keys) if keys else {}
            if received:  # for a schedule that never was
                await self._host.discard(list(received))
        except Exception as error:
            self._failed(batch, error)
            return
        for told, reply in zip(batch, replies, strict=True):
            _answer(told, answers.get(told.key or "", reply))
        if self.version:
            self._host.unchanged(self, wake_at)
        else:
            self.forget()
        self._step()

    def _committed(
        self,
        batch: list[Told],
        tx: Transition,
        write: ScheduleWrite,
        replies: list[ScheduleReply],
        done: asyncio.Future[bool],
    ) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self._failed(batch, error)
            return
        if not done.result():
            self._again(batch)
            return
        self.state = tx.state
        self.version += 1
        self.retries = 0
        if write.row.definition is not None:
            self.definition_bytes = len(write.row.definition)
        for told, reply in zip(batch, replies, strict=True):
            _answer(told, reply)
        try:
            self._host.committed(self, tx, write)
        except Exception:  # scans and sweeps make up for effects that fail
            extra = said("schedule.effects_failed", schedule_key=self.key)
            _log.exception("schedule %s: the effects of a commit failed", self.key, extra=extra)
        self._step()

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _again(self, batch: list[Told]) -> None:
        """Another node changed the schedule, or applied something of these: reload and decide once more."""
        self.forget()
        self.retries += 1
        if self.retries > _MAX_RETRIES:
            self.retries = 0
            self._failed(batch, Unavailable("the schedule is changed from elsewhere all the time"))
        elif any(told.message_id is not None or told.key is not None for told in batch):
            self._task = asyncio.get_running_loop().create_task(self._sort(batch))
        else:
            self._once_more(batch)

    async def _sort(self, batch: list[Told]) -> None:
        """What somebody applied already is a conflict for ever: leave it out, and answer as it was answered."""
        messages = [told.message_id for told in batch if told.message_id is not None]
        keys = [told.key for told in batch if told.key is not None]
        try:
            there = await self._host.messages_there(messages) if messages else set()
            answers = await self._host.answers_to(keys) if keys else {}
        except Exception as error:
            self._failed(batch, error)
            return
        left: list[Told] = []
        for told in batch:
            if told.message_id is not None and told.message_id not in there:
                _answer(told, Done())
            elif told.key is not None and told.key in answers:
                _answer(told, answers[told.key])
            else:
                left.append(told)
        self.mailbox[:0] = left
        self._step()

    def _leave_out_old(self, batch: list[Told], now: Micros) -> None:
        """Commands that waited so long that a repetition could not be told are not decided; the others are."""
        left: list[Told] = []
        for told in batch:
            if told.key is None or not too_old(told.key, now):
                left.append(told)
            elif not told.future.done():
                fail(told.future, Unavailable("the command waited too long"))
        self.mailbox[:0] = left
        self._step()

    def _failed(self, batch: list[Told], error: BaseException) -> None:
        """Nothing is known about the outcome: forget the state, tell everybody who waits."""
        self.forget()
        if isinstance(error, StoreUnavailable):
            error = Unavailable(str(error))
        elif isinstance(error, asyncio.CancelledError):
            error = Unavailable("the node is leaving")
        elif not isinstance(error, Unavailable):
            extra = said("schedule.transition_failed", schedule_key=self.key)
            _log.error("schedule %s: a transition failed", self.key, exc_info=error, extra=extra)
            error = Unavailable("the transition failed")
        for told in batch:
            if not told.future.done():
                fail(told.future, error)
        self._step()


def _answer(told: Told, reply: ScheduleReply) -> None:
    if not told.future.done():
        told.future.set_result(reply)
