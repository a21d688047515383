"""Commands that wait for a run, and which of them are answered already by what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from actors.run.commands.base import Command
from actors.run.commands.control import SignalOnce, UpdateRun
from actors.run.commands.worker import ClaimTask
from actors.run.replies import Done, Refused, RunReply, permit_taken
from actors.run.values import Permit
from actors.run.words import Reason

REQUEST_TAKEN: Reason = "update_request_taken"  # another update or signal was accepted under the request id meanwhile


class Asked:
    """A command in a mailbox, and who waits for the answer.

    `namespace` None: asked by the system itself. `message_id`: the message it came in, deleted by the commit that applies it.
    `key`: of a command that must be applied once (`actors.hosting.repeats`).
    """

    __slots__ = ("command", "future", "key", "message_id", "namespace")

    def __init__(
        self,
        command: Command[Any],
        namespace: str | None,
        future: asyncio.Future[Any],
        message_id: str | None = None,
        key: str | None = None,
    ) -> None:
        self.command = command
        self.namespace = namespace
        self.future = future
        self.message_id = message_id
        self.key = key

    def answer(self, reply: RunReply) -> None:
        """Tell who waits, if anybody still does."""
        if not self.future.done():
            self.future.set_result(reply)

    @property
    def permits(self) -> tuple[Permit, ...]:
        """The places under caps that it is to take."""
        command = self.command
        return command.permits if isinstance(command, ClaimTask) else ()

    @property
    def request_id(self) -> str | None:
        """The caller's request id of an update."""
        command = self.command
        once = command.once if isinstance(command, SignalOnce) else None
        return command.request_id if isinstance(command, UpdateRun) else once


class Records(Protocol):
    """What the store tells of commands."""

    async def messages_there(self, message_ids: list[str]) -> set[str]: ...

    async def answers_to(self, keys: list[str]) -> dict[str, RunReply]: ...

    async def requests_taken(self, workflow_id: str, request_ids: list[str]) -> set[str]: ...

    async def places_taken(self, permits: list[Permit]) -> set[Permit]: ...


def may_conflict_for_ever(batch: Sequence[Asked]) -> bool:
    """Whether a conflict may be due to what one of the commands brings, and not to the run's version."""
    return any(asked.message_id is not None or asked.key is not None or asked.permits for asked in batch)


async def sort(records: Records, batch: Sequence[Asked], workflow_id: str) -> list[Asked]:
    """Answer what somebody applied already, a conflict for ever, as it was answered; returns what is left to decide."""
    messages = [asked.message_id for asked in batch if asked.message_id is not None]
    keys = [asked.key for asked in batch if asked.key is not None]
    requests = [asked.request_id for asked in batch if asked.request_id is not None]
    permits = [permit for asked in batch for permit in asked.permits]
    there = await records.messages_there(messages) if messages else set()
    answers = await records.answers_to(keys) if keys else {}
    taken = await records.requests_taken(workflow_id, requests) if requests else set()
    places = await records.places_taken(permits) if permits else set()
    left: list[Asked] = []
    for asked in batch:
        if asked.message_id is not None and asked.message_id not in there:
            asked.answer(Done())
        elif asked.key is not None and asked.key in answers:
            asked.answer(answers[asked.key])
        elif asked.request_id in taken:
            asked.answer(Refused(REQUEST_TAKEN))
        elif not places.isdisjoint(asked.permits):
            asked.answer(permit_taken(permit for permit in asked.permits if permit in places))
        else:
            left.append(asked)
    return left
