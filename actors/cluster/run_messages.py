"""Messages between runs, applied exactly once: a row each, announced at once, found again by a scan.

The sender's commit inserts the row, the commit that applies it deletes it (architecture, rule 4). Announcing one twice, or
to the wrong node, is harmless: a message whose row is gone is not applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable

import msgspec

from actors.cluster.run_receivers import Receivers
from actors.cluster.schedule_messages import ScheduleMessages
from actors.errors import Unavailable
from actors.hosting.run_actor import InstanceTaken
from actors.run import ids
from actors.run.commands.messages import MessageCommand, ParentClosed, ScheduleNews, StartChildRun
from actors.run.replies import TOO_EARLY, Refused
from actors.run.transition import RunMessage
from actors.schedule.messages import Message, ScheduleMessage, StartOccurrence, StopRun
from base.observability.actions import said
from store import instances, run_messages
from store.commit.writes import MessageRow
from store.connections.pool import Database
from store.errors import StoreError

_log = logging.getLogger("dw.actors")

_SCAN_LIMIT = 1000

_decoder: msgspec.msgpack.Decoder[MessageCommand | Message] = msgspec.msgpack.Decoder(MessageCommand | Message)


class MessageDelivery:
    """Delivers messages to the runs of this node."""

    def __init__(self, db: Database, receivers: Receivers, schedules: ScheduleMessages | None = None) -> None:
        """`schedules`: who applies messages to and from schedules; None: nobody here."""
        self._db = db
        self._receivers = receivers
        self._schedules = schedules
        self._under_way: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, messages: Iterable[RunMessage | ScheduleMessage]) -> None:
        """Have these messages applied by the runs and schedules hosted here; what fails is found again by the scan."""
        for message in messages:
            if message.message_id in self._under_way:
                continue
            self._under_way.add(message.message_id)
            task = asyncio.get_running_loop().create_task(self._deliver(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def scan(self, shards: Collection[int]) -> None:
        """Deliver the stored messages for runs of these shards."""
        rows = await run_messages.pending(self._db, list(shards), _SCAN_LIMIT)
        self.deliver(message for message in map(_message, rows) if message is not None)

    async def _deliver(self, message: RunMessage | ScheduleMessage) -> None:
        try:
            if isinstance(message, ScheduleMessage):
                if self._schedules is not None:
                    await self._schedules.apply(message)
            elif isinstance(message.command, ScheduleNews):
                if self._schedules is not None:
                    await self._schedules.news(message, message.command)
            elif isinstance(message.command, ParentClosed):
                await self._close_child(message, message.command)
            else:
                await self._apply(message)
        except (Unavailable, StoreError):
            pass
        except Exception:
            extra = said("run_message.failed", message_id=message.message_id)
            _log.exception("message %s could not be delivered", message.message_id, extra=extra)
        finally:
            self._under_way.discard(message.message_id)

    async def _apply(self, message: RunMessage) -> None:
        begins = isinstance(message.command, StartChildRun)
        try:
            reply = await self._receivers.ask_run(ids.key_in(message.run_id), message.command, None, message.message_id)
        except InstanceTaken:  # an earlier delivery began the child
            await run_messages.discard(self._db, [message.message_id])
            return
        # A receiver that is gone. A child that is not there has yet to begin: its message stays, as one that came too early.
        if isinstance(reply, Refused) and not begins and reply.reason != TOO_EARLY:
            await run_messages.discard(self._db, [message.message_id])

    async def _close_child(self, message: RunMessage, command: ParentClosed) -> None:
        """Tell the child's last run: it may have gone on, now or earlier, as another one of which its parent had not heard."""
        told = ""
        while True:
            instance = await instances.get(self._db, message.workflow_id)
            if instance is None:
                return  # the message that begins it lies in the mailbox as well: the scan brings both again
            if instance.current_run_id == told:
                await run_messages.discard(self._db, [message.message_id])  # closed for good
                return
            told = instance.current_run_id
            reply = await self._receivers.ask_run(ids.key_in(told), command, None, message.message_id)
            if not isinstance(reply, Refused):
                return


def _message(row: MessageRow) -> RunMessage | ScheduleMessage | None:
    """A stored message; None for one of a later version, which waits for a program that knows it."""
    try:
        command = _decoder.decode(row.body)
    except msgspec.ValidationError:
        return None
    if isinstance(command, StartOccurrence | StopRun):
        return ScheduleMessage(row.message_id, run_messages.apart(row.shard), row.namespace, row.workflow_id, command)
    return RunMessage(row.message_id, row.namespace, row.workflow_id, ids.RunId(row.run_id or ""), command)
