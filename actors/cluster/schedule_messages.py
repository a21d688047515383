"""Messages to and from schedules, applied exactly once: each is a row, as messages between runs are (`run_messages`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.cluster.run_receivers import Receivers
from actors.hosting.run_actor import InstanceTaken
from actors.hosting.schedule_host import ScheduleHost
from actors.run import ids
from actors.run.commands.control import CancelRun, StartRun, TerminateRun
from actors.run.commands.messages import ScheduleNews, StartScheduledRun
from actors.run.replies import CommandAnswered, Refused
from actors.run.state import ScheduledBy
from actors.run.transition import RunMessage
from actors.schedule import replies
from actors.schedule.commands import RunClosed, ScheduleCommand, StartConfirmed, StartRefused
from actors.schedule.keys import schedule_key
from actors.schedule.messages import ScheduleMessage, StartOccurrence, StopRun
from store import run_messages, runs
from store.connections.pool import Database

ALREADY_STARTED = "instance_already_started"

Starter = Callable[[StartOccurrence], Awaitable[StartRun | str]]
"""Makes the start of a run of what a schedule wants, by the rules for starts; a text when it must not be."""


class Stops(Protocol):
    """Who stops the current run of a workflow id, wherever that is."""

    async def command(
        self, namespace: str, workflow_id: str, command: CancelRun | TerminateRun
    ) -> CommandAnswered | Refused: ...


class ScheduleMessages:
    """Applies what schedules tell runs, and runs schedules, on the node that hosts the receiver."""

    def __init__(
        self, db: Database, receivers: Receivers, schedules: ScheduleHost, stops: Stops, starter: Starter, shards: int
    ) -> None:
        self._db = db
        self._runs = receivers
        self._schedules = schedules
        self._stops = stops
        self._starter = starter
        self._shards = shards

    async def apply(self, message: ScheduleMessage) -> None:
        """Have a schedule's message applied by the run it is for; raises when it has to be tried again."""
        command = message.command
        if isinstance(command, StopRun):
            await self._stop(message, command)
        else:
            await self._start(message, command)

    async def news(self, message: RunMessage, news: ScheduleNews) -> None:
        """Have a run's news applied by its schedule."""
        made = StartConfirmed if news.what == "started" else RunClosed
        await self._tell(message.run_id, made(news.record_id, news.number), message.message_id)

    async def _tell(self, key: str, command: ScheduleCommand, message_id: str) -> None:
        reply = await self._schedules.ask(key, command, None, message_id)
        if isinstance(reply, replies.Refused):  # there is no such schedule
            await run_messages.discard(self._db, [message_id])

    async def _start(self, message: ScheduleMessage, command: StartOccurrence) -> None:
        origin = command.origin
        key = schedule_key(command.namespace, origin.schedule_id, self._shards)
        start = await self._starter(command)
        if isinstance(start, StartRun):
            begin = StartScheduledRun(start, ScheduledBy(key, origin.record_id, origin.number), command.triggered)
            try:
                await self._runs.ask_run(ids.key_in(command.run_id), begin, None, message.message_id)
                return
            except InstanceTaken:
                pass
            if (
                await runs.load(self._db, command.run_id) is not None
            ):  # an earlier delivery began it, and its commit took the row
                await run_messages.discard(self._db, [message.message_id])
                return
            start = ALREADY_STARTED
        # The row goes with the commit of the schedule that hears of it: of a start and this, who comes second finds none.
        await self._tell(key, StartRefused(origin.record_id, origin.number, start), message.message_id)

    async def _stop(self, message: ScheduleMessage, command: StopRun) -> None:
        made = CancelRun if command.how == "cancel" else TerminateRun
        # Done twice it changes nothing: no other run ever has this workflow id.
        await self._stops.command(command.namespace, command.workflow_id, made(reason=command.reason))
        await run_messages.discard(self._db, [message.message_id])
