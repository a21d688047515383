"""A run host over a real store, without the rest of a node."""

from __future__ import annotations

import asyncio
import time
from typing import Self, TypeVar

from actors.clock import Clock
from actors.cluster.run_messages import MessageDelivery
from actors.hosting.host import Host
from actors.publishing.publisher import Publisher
from actors.queue.parked_poll import Grant
from actors.run import ids
from actors.run.commands.base import Command
from actors.run.commands.control import StartRun
from actors.run.commands.messages import ParentClosed, StartChildRun
from actors.run.commands.steps import CompleteWorkflow, StartChild, WorkflowCommand
from actors.run.commands.worker import ClaimTask, CompleteWorkflowTask
from actors.run.dialect import PlainHistory
from actors.run.replies import Refused, Started, WorkflowTaskCompleted, WorkflowTaskGrant
from actors.run.transition import ReadyTask, RunMessage
from actors.run.values import Payload, RetryPolicy, WorkerIdentity
from bus.subjects import Subjects
from store import instances, ready_tasks, runs
from store.commit.group import GroupCommit
from store.connections.pool import Database
from tests.support.defaults import RULES

R = TypeVar("R")

SHARDS = set(range(RULES.shards))

ARGUMENTS = Payload("avro", "AARbXQI=")


class LoneHost:
    """A host that is alone in the world, inside `async with`. `announced`: the messages it would send."""

    def __init__(self, dsn: str) -> None:
        self.db = Database(dsn)
        self.announced: list[RunMessage] = []
        self._committer = GroupCommit(dsn)
        self.host = self.new_host()
        self.delivery = MessageDelivery(self.db, self.host)

    async def __aenter__(self) -> Self:
        await self.db.start()
        await self._committer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.host.stop()
        await self._committer.stop()
        await self.db.stop()

    async def lose_database(self) -> None:
        """From here on nothing is read or written."""
        await self._committer.stop()
        await self.db.stop()

    def new_host(self) -> Host:
        """A host that knows nothing yet, as that of another node."""
        publisher = Publisher(self.db, Subjects("messages"), lambda _: True)
        shards = RULES.shards
        host = Host(self.db, self._committer, publisher, RULES, PlainHistory(), shards, 1_000_000, Clock())
        host.link = self
        return host

    # -- what the host needs of the cluster ----------------------------------------------------------------------------

    def owns(self, _shard: int) -> bool:
        return True

    def selected(self, _namespace: str, _task_queue: str) -> str | None:
        return None

    def ask_run(self, any_id: str, command: Command[R]) -> asyncio.Future[R | Refused]:
        return self.host.ask_run(ids.key_in(any_id), command)

    def dispatch(self, _namespace: str, _task: ReadyTask) -> None:
        """The rows are enough here."""

    def announce(self, messages: list[RunMessage]) -> None:
        self.announced += messages

    def take_back(self, grant: Grant) -> None:
        raise AssertionError(f"nobody polls here: {grant}")

    def reserve_lent(self, *_: object) -> None:
        """No poll of this node waits elsewhere."""

    # -- acting --------------------------------------------------------------------------------------------------------

    async def start(self) -> str:
        """A new workflow; its run id."""
        run_key = ids.new_run_key(ids.shard_of("default", "parent", RULES.shards))
        run_id = ids.new_run_id(time.time_ns() // 1_000_000, run_key)
        command = StartRun("default", "parent", run_id, "type", "queue", ARGUMENTS)
        assert isinstance(await self.host.start_run(command), Started)
        return run_id

    async def claim(self, run_id: str) -> WorkflowTaskGrant:
        """Lease the ready workflow task of a run."""
        ready = await ready_tasks.ready(self.db, "default", "queue", "workflow", 100)
        (task_id,) = [row.task_id for row in ready if ids.key_in(row.task_id) == ids.key_in(run_id)]
        grant = await self.ask_run(task_id, ClaimTask(task_id, WorkerIdentity("worker")))
        assert isinstance(grant, WorkflowTaskGrant), grant
        return grant

    def complete(self, grant: WorkflowTaskGrant, *steps: WorkflowCommand) -> asyncio.Future[WorkflowTaskCompleted | Refused]:
        """Complete a leased workflow task."""
        completion = CompleteWorkflowTask(grant.task_id, grant.lease_owner, grant.workflow_task_attempt, list(steps))
        return self.ask_run(grant.task_id, completion)

    async def family(self, retry: RetryPolicy | None = None) -> tuple[RunMessage, RunMessage]:
        """A parent that ends in the transition that calls its child: the message that begins that, and the one that ends it."""
        called = StartChild("type", parent_close_policy="terminate", retry_policy=retry)
        await self.complete(await self.claim(await self.start()), called, CompleteWorkflow())
        begin, end = self.announced
        assert isinstance(begin.command, StartChildRun) and isinstance(end.command, ParentClosed)
        return begin, end

    # -- looking -------------------------------------------------------------------------------------------------------

    async def messages(self) -> list[str]:
        """The messages nobody has applied."""
        return [row[0] for row in await self.db.fetch("SELECT mail_id FROM mailbox ORDER BY mail_id")]

    async def status(self, workflow_id: str) -> str | None:
        """The status of the last run of a workflow id."""
        instance = await instances.get(self.db, workflow_id)
        stored = None if instance is None else await runs.load(self.db, instance.current_run_id)
        return None if stored is None else stored.row.status

    async def delivered(self) -> None:
        """Scan the stored messages, as the maintenance of a node does, until it is empty."""
        async with asyncio.timeout(20):
            while await self.messages():
                await self.delivery.scan(SHARDS)
                await asyncio.sleep(0.02)
