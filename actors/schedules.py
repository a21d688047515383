"""Schedules as the API sees them: commands to a schedule id, wherever its actor is (operations 1, control-plane 11).

A command is decided where the schedule is hosted, and committed before it is answered. A fire is answered when it is known what
became of its start, which may be a moment later: the run says so by a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
import orjson
from msgspec import Struct

from actors.cluster.protocol import AskSchedule, AwaitStarts, ScheduleAnswered, StartsSettled
from actors.cluster.router import Router
from actors.errors import Unavailable, one_family
from actors.hosting.repeats import new_key
from actors.hosting.schedule_host import ScheduleHost
from actors.run import ids
from actors.run.opaque import embed
from actors.schedule.commands import (
    BackfillSchedule,
    ClientCommand,
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    TriggerSchedule,
    UpdateSchedule,
)
from actors.schedule.keys import schedule_key
from actors.schedule.messages import Settled
from actors.schedule.replies import Acted, Backfilled, Fired, Refused, ScheduleReply
from actors.schedule.state import decode
from store import runs, schedules
from store.connections.pool import Database

TRIGGERED, FAILED, SKIPPED = "triggered", "failed", "skipped"

_SETTLE_SECONDS = 20.0  # starts come within milliseconds; longer than a node takes to replace a dead one
_LOOK_SECONDS = 1.0
_ASK_SECONDS = 5.0
_MARGIN_SECONDS = 2.0
_PART_BYTES = 2_000_000  # of the starts of a backfill that are one commit
_START_BYTES = 2_000  # of a start besides its input


class FireOutcome(Struct, frozen=True):
    """What became of one fire, for a client (operations 1.5 to 1.7).

    `outcome`: `triggered` (then `workflow_id` and `run_id` are the run's), `failed`, `skipped`, `buffer_full` (these with
    `reason`), or `buffered` (with `buffer_depth`). `occurrence`: of a backfill, the instant it was for, in microseconds.
    """

    outcome: str
    workflow_id: str | None = None
    run_id: str | None = None
    reason: str | None = None
    buffer_depth: int | None = None
    occurrence: int | None = None


class Schedules:
    """Commands to schedules. All of them raise `Unavailable` when the outcome is unknown (503: repeat).

    `Refused` changed nothing; its reasons are those of `actors.schedule.replies`: `schedule_not_found`,
    `schedule_already_exists` (detail `schedule_id`), `validation_failed` (detail `errors`: list of texts by field),
    `invalid_time_range` (detail `limit` when there were too many occurrences).

    `key`: of a command that is told again, so that it is applied once; made here when there is none (`actors.hosting.repeats`).
    """

    def __init__(self, db: Database, router: Router, host: ScheduleHost) -> None:
        self._db = db
        self._router = router
        self._host = host

    def key(self, namespace: str, schedule_id: str) -> str:
        """What a schedule's rows go by (`actors.schedule.keys`)."""
        return schedule_key(namespace, schedule_id, self._router.shards)

    # -- commands ------------------------------------------------------------------------------------------------------

    def new_record_id(self, namespace: str, schedule_id: str) -> str:
        """A new id of a record, for `CreateSchedule.record_id`."""
        shard = self._router.shard_of_workflow(namespace, schedule_id)
        return ids.mint(self._router.now() // 1000, ids.new_run_key(shard), ids.SCHEDULE)

    async def create(
        self, namespace: str, schedule_id: str, command: CreateSchedule, key: str | None = None
    ) -> Acted | Refused:
        """Create a schedule: `Acted("created")`, or `Refused` (`schedule_already_exists`, `validation_failed`)."""
        return cast("Acted | Refused", await self._command(namespace, schedule_id, command, key))

    async def update(
        self, namespace: str, schedule_id: str, command: UpdateSchedule, key: str | None = None
    ) -> Acted | Refused:
        """Change what is set: `Acted("updated")`, or `Refused` (`schedule_not_found`, `validation_failed`)."""
        return cast("Acted | Refused", await self._command(namespace, schedule_id, command, key))

    async def pause(self, namespace: str, schedule_id: str, command: PauseSchedule, key: str | None = None) -> Acted | Refused:
        """Stop firing: `Acted("paused")`, or `Refused` (`schedule_not_found`)."""
        return cast("Acted | Refused", await self._command(namespace, schedule_id, command, key))

    async def resume(
        self, namespace: str, schedule_id: str, command: ResumeSchedule, key: str | None = None
    ) -> Acted | Refused:
        """Fire again from now on: `Acted("resumed")`, or `Refused` (`schedule_not_found`)."""
        return cast("Acted | Refused", await self._command(namespace, schedule_id, command, key))

    async def delete(
        self, namespace: str, schedule_id: str, command: DeleteSchedule, key: str | None = None
    ) -> Acted | Refused:
        """Delete softly: `Acted("deleted")`, or `Refused` (`schedule_not_found`)."""
        return cast("Acted | Refused", await self._command(namespace, schedule_id, command, key))

    async def trigger(
        self, namespace: str, schedule_id: str, command: TriggerSchedule, key: str | None = None
    ) -> FireOutcome | Refused:
        """Fire once by hand and wait until it is known what became of it; `Refused` (`schedule_not_found`)."""
        reply = await self._command(namespace, schedule_id, command, key)
        if isinstance(reply, Refused):
            return reply
        (outcome,) = await self._outcomes(namespace, schedule_id, [cast(Fired, reply)])
        return outcome

    async def backfill(
        self, namespace: str, schedule_id: str, command: BackfillSchedule, key: str | None = None
    ) -> list[FireOutcome] | Refused:
        """Fire for every occurrence of a range, oldest first, and wait until it is known what became of all of them.

        `Refused`: `schedule_not_found`, `invalid_time_range`. Starts with large inputs are told in parts: a refusal of a later
        part (the schedule was deleted meanwhile) ends the list. `key`: of the first part.
        """
        command = msgspec.structs.replace(command, at_most=await self._part(namespace, schedule_id, command.at_most))
        fired: list[Fired] = []
        while True:
            reply = await self._command(namespace, schedule_id, command, key)
            if isinstance(reply, Refused):
                if command.first:
                    return reply
                break
            part = cast(Backfilled, reply)
            fired += part.results
            if part.go_on_at is None:
                break
            command, key = msgspec.structs.replace(command, start=part.go_on_at, first=False), None
        return await self._outcomes(namespace, schedule_id, fired)

    async def _part(self, namespace: str, schedule_id: str, at_most: int) -> int:
        """How many starts of this schedule are one commit."""
        with one_family():
            stored = await schedules.get(self._db, self.key(namespace, schedule_id))
        if stored is None:
            return at_most
        definition = decode(stored.state, stored.definition).definition
        size = _START_BYTES + sum(
            len(orjson.dumps(part, embed))
            for part in (definition.action.get("input"), definition.memo, definition.search_attributes)
        )
        return max(1, min(at_most, _PART_BYTES // size))

    async def _command(self, namespace: str, schedule_id: str, command: ClientCommand, key: str | None) -> ScheduleReply:
        shard = self._router.shard_of_workflow(namespace, schedule_id)
        key = key or new_key(shard, self._router.now())

        async def once() -> ScheduleReply:
            owner = self._router.elsewhere(shard)
            if owner is not None:
                question = AskSchedule(namespace, schedule_id, key, command)
                answer = await self._router.ask_node_whole(owner, question, _ASK_SECONDS)
                if isinstance(answer, ScheduleAnswered):
                    return answer.reply
            return await self.here(namespace, schedule_id, key, command)

        return await self._router.certainly(once)

    async def here(self, namespace: str, schedule_id: str, key: str, command: ClientCommand) -> ScheduleReply:
        """Have a schedule that is hosted here decide a client's command."""
        return await self._host.ask(self.key(namespace, schedule_id), command, (namespace, schedule_id), key=key)

    # -- what becomes of starts ------------------------------------------------------------------------------------------

    async def _outcomes(self, namespace: str, schedule_id: str, fired: Sequence[Fired]) -> list[FireOutcome]:
        waiting = [each.run_id for each in fired if each.outcome == "sent" and each.run_id is not None]
        settled = await self._settled(namespace, schedule_id, waiting) if waiting else {}
        return [_outcome(each, settled) for each in fired]

    async def _settled(self, namespace: str, schedule_id: str, run_ids: list[str]) -> dict[str, Settled]:
        """What became of these starts; asked of the host again and again, whoever that is by then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _SETTLE_SECONDS
        found: dict[str, Settled] = {}
        shard = self._router.shard_of_workflow(namespace, schedule_id)
        while left := [run_id for run_id in run_ids if run_id not in found]:
            seconds = until - loop.time()
            if seconds <= 0:
                raise Unavailable("it is not known yet whether the runs were started")
            owner = self._router.elsewhere(shard)
            patience = min(seconds, _ASK_SECONDS)
            question = AwaitStarts(namespace, schedule_id, left, patience)
            try:
                answer = None
                if owner is not None:
                    answer = await self._router.ask_node_whole(owner, question, patience + _MARGIN_SECONDS)
                if not isinstance(answer, StartsSettled):
                    answer = await self.await_starts(question)
            except Unavailable:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            found |= {each.run_id: each for each in answer.settled}
        return found

    async def await_starts(self, question: AwaitStarts) -> StartsSettled:
        """Wait here for the outcome of starts: for news of the actor, and now and then by a look at what is stored."""
        loop = asyncio.get_running_loop()
        until = loop.time() + question.seconds
        found: dict[str, Settled] = {}
        left = set(question.run_ids)
        while True:
            found |= await self._host.settled(left, min(_LOOK_SECONDS, max(until - loop.time(), 0.0)))
            left -= found.keys()
            if not left:
                break
            with one_family():
                found |= await self._stored(question.namespace, question.schedule_id, left)
            left -= found.keys()
            if not left or loop.time() >= until:
                break
        return StartsSettled(list(found.values()))

    async def _stored(self, namespace: str, schedule_id: str, run_ids: set[str]) -> dict[str, Settled]:
        """Those that are not among the unconfirmed any more: what became of them while another node had the schedule."""
        stored = await schedules.get(self._db, self.key(namespace, schedule_id))
        if stored is None:
            return {}
        state = decode(stored.state, stored.definition)
        unconfirmed = {sent.run_id for sent in state.sent.values()}
        found: dict[str, Settled] = {}
        for run_id in run_ids - unconfirmed:
            run = await runs.load(self._db, run_id)
            if run is not None:
                found[run_id] = Settled(0, run.identity.workflow_id, run_id)
            else:
                found[run_id] = Settled(0, "", run_id, "The run could not be started.")
        return found


def _outcome(fired: Fired, settled: dict[str, Settled]) -> FireOutcome:
    end = settled.get(fired.run_id or "")
    if end is None:
        return FireOutcome(fired.outcome, reason=fired.reason, buffer_depth=fired.buffer_depth, occurrence=fired.occurrence)
    if end.reason is None:
        return FireOutcome(TRIGGERED, fired.workflow_id, fired.run_id, occurrence=fired.occurrence)
    return FireOutcome(SKIPPED if end.skipped else FAILED, reason=end.reason, occurrence=fired.occurrence)
