"""Starts, commands and questions to a workflow id: found, routed, waited for (control-plane 5.1, 5.7 to 5.12).

What is asked here ends in a reply or in `Unavailable`.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from actors.cluster import protocol
from actors.cluster.protocol import AskCommand, AskFinishQuery, AskQuery, AskStart, AskUpdate, AwaitUpdate
from actors.cluster.router import Router
from actors.errors import Unavailable, one_family
from actors.hosting import stored_runs
from actors.hosting.host import Host
from actors.hosting.mailbox import REQUEST_TAKEN
from actors.hosting.repeats import new_key
from actors.hosting.run_actor import InstanceTaken
from actors.queue.query_broker import QueryBroker
from actors.queue.query_types import Query, QueryAnswer, QueryOutcome
from actors.run import ids
from actors.run.commands.base import Command
from actors.run.commands.control import ControlCommand, NoteDuplicateStart, SignalOnce, StartRun, StartStandalone, UpdateRun
from actors.run.lifecycle.starting import started
from actors.run.replies import CommandAnswered, Done, Refused, RunReply, Started, UpdateStatus
from actors.run.state import decode
from actors.run.words import STANDALONE_TYPE
from actors.update_waiters import UpdateWaiters
from actors.workers.registry import WorkerRegistry
from bus.ask import Ask
from bus.errors import OutcomeUnknown, Unreachable
from store import instances, update_requests
from store.connections.pool import Database
from store.runs import StoredRun

_MARGIN_SECONDS = 5.0
_TRIES = 5
_START_TRIES = 5

REPEATED = "deduped_existing_command"  # the outcome of a signal that was accepted before (operations 10.1)

_R = TypeVar("_R")
UpdateOutcome = UpdateStatus | CommandAnswered | Refused


class WorkflowCommands:
    """Finds the run a command is for and has it decided where that run is hosted."""

    def __init__(
        self, db: Database, host: Host, queries: QueryBroker, router: Router, ask: Ask, workers: WorkerRegistry
    ) -> None:
        self._db = db
        self._workers = workers
        self._host = host
        self._queries = queries
        self._router = router
        self._ask = ask
        self._waits = UpdateWaiters(db, host, router)

    def drain(self) -> None:
        """Shutting down: nobody waits for the end of an update any longer."""
        self._waits.drain()

    # -- starting ------------------------------------------------------------------------------------------------------

    async def start(self, command: StartRun | StartStandalone) -> Started | Refused:
        """Start a workflow or a standalone activity: `Started`, or `Refused` (`workflow_type_mismatch`,
        `workflow_id_reserved_in_namespace`).

        An empty `run_id` is filled in. Raises `Unavailable` when the outcome is unknown (control-plane 5.1).
        """
        if not command.run_id:
            run_id = self._router.new_run_id(command.namespace, command.workflow_id)
            command = msgspec.structs.replace(command, run_id=run_id)

        async def once() -> Started | Refused:
            owner = self._router.elsewhere(ids.shard_of_id(command.run_id))
            if owner is not None:
                reply: Started | Refused | None = await self._router.ask_node(owner, AskStart(command))
                if reply is not None:
                    return reply
            return await self.start_here(command)

        return await self._router.certainly(once)

    async def start_here(self, command: StartRun | StartStandalone) -> Started | Refused:
        """Start one whose shard is hosted here, once: a start is known again by the id of its run."""
        await self._workers.rollouts.confirm()
        for _ in range(_START_TRIES):
            try:
                return await self._host.start_run(command)
            except InstanceTaken:
                instance = await instances.get(self._db, command.workflow_id)
            if instance is None:
                continue
            begun = await stored_runs.load(self._db, command.run_id)
            if begun is not None:
                return started(decode(begun.row.state), "started_new")
            if instance.namespace != command.namespace:
                return Refused("workflow_id_reserved_in_namespace")
            reply = await self._router.ask_run(instance.current_run_id, NoteDuplicateStart(command), key=command.run_id)
            if not isinstance(reply, Refused) or reply.reason != "run_continued":
                return reply
        raise Unavailable("the workflow id comes and goes")

    # -- finding the run -----------------------------------------------------------------------------------------------

    async def _current(self, namespace: str, workflow_id: str, *, sure: bool) -> str | Refused:
        """The current run id of a workflow id; `sure` asks the store and not the memory of this node."""
        known = None if sure else self._host.current_run(workflow_id)
        if known is not None:
            return known
        instance = await instances.get(self._db, workflow_id)
        if instance is None or instance.namespace != namespace:
            return Refused("instance_not_found")
        return instance.current_run_id

    async def _load_current(self, namespace: str, workflow_id: str) -> StoredRun | Refused:
        """The current run of a workflow id as it is stored."""
        for sure in (False, True):
            current = await self._current(namespace, workflow_id, sure=sure)
            if isinstance(current, Refused):
                return current
            stored = await stored_runs.load(self._db, current)
            if stored is not None and (stored.row.closed_at is None or sure):
                return stored if stored.identity.namespace == namespace else Refused("instance_not_found")
        return Refused("instance_not_found")

    async def _tell_current(
        self, namespace: str, workflow_id: str, key: str, command: Command[_R], run_id: str | None
    ) -> _R | Refused:
        sure = run_id is not None
        for _ in range(_TRIES):
            current = await self._current(namespace, workflow_id, sure=sure)
            if isinstance(current, Refused):
                return current
            if run_id is not None and current != run_id:
                return Refused("historical_run_command_rejected")
            reply = await self._host.ask_run(ids.key_in(current), command, namespace, key=key)
            if isinstance(reply, Refused) and reply.reason == "run_continued":
                sure = True
                continue
            if isinstance(reply, Refused):
                return Refused("instance_not_found") if reply.reason == "task_not_found" else reply
            closed = isinstance(reply, CommandAnswered) and reply.rejection == "run_not_active"
            if not closed or run_id is not None:
                return reply
            # It closed; perhaps another run goes on in its place.
            newest = await self._current(namespace, workflow_id, sure=True)
            if newest == current or isinstance(newest, Refused):
                return reply
            sure = True
        raise Unavailable("the workflow goes from run to run")

    # -- commands ------------------------------------------------------------------------------------------------------

    async def command(
        self, namespace: str, workflow_id: str, command: ControlCommand, run_id: str | None = None
    ) -> CommandAnswered | Refused:
        """Signal, cancel, terminate, repair, archive: `CommandAnswered`, or `Refused` (`instance_not_found`,
        `historical_run_command_rejected`). A `SignalOnce` that was accepted before has the outcome `REPEATED`.
        """
        shard = self._router.shard_of_workflow(namespace, workflow_id)
        key = new_key(shard, self._router.now())

        async def once() -> CommandAnswered | Refused:
            owner = self._router.elsewhere(shard)
            if owner is not None:
                reply: CommandAnswered | Refused | None = await self._router.ask_node(
                    owner, AskCommand(namespace, workflow_id, key, command, run_id)
                )
                if reply is not None:
                    return reply
            return await self._command_here(namespace, workflow_id, key, command, run_id)

        return await self._router.certainly(once)

    async def _command_here(
        self, namespace: str, workflow_id: str, key: str, command: ControlCommand, run_id: str | None
    ) -> CommandAnswered | Refused:
        if not isinstance(command, SignalOnce):
            return await self._tell_current(namespace, workflow_id, key, command, run_id)
        for _ in range(_TRIES):
            earlier = await update_requests.find(self._db, workflow_id, command.once)
            if earlier is not None:
                reply: CommandAnswered | Refused = await self._repeated(namespace, workflow_id, key, earlier[0])
            else:
                reply = await self._tell_current(namespace, workflow_id, key, command, run_id)
            if not isinstance(reply, Refused) or reply.reason != REQUEST_TAKEN:
                return reply
        raise Unavailable("the signal was accepted, and is not to be found")

    async def _repeated(self, namespace: str, workflow_id: str, key: str, run_id: str) -> CommandAnswered | Refused:
        """The answer to a signal that `run_id` accepted before: in this same request, or in another one."""
        known = await self._current(namespace, workflow_id, sure=True)
        if isinstance(known, Refused):
            return known
        answer = (await self._host.answers_to([key])).get(key)
        if isinstance(answer, CommandAnswered):
            return answer
        return CommandAnswered(workflow_id, run_id, "", "", 0, REPEATED)

    async def update(
        self, namespace: str, workflow_id: str, command: UpdateRun, run_id: str | None = None, wait_seconds: float | None = None
    ) -> UpdateOutcome:
        """Accept an update and, with `wait_seconds`, wait for its end: `UpdateStatus`, `CommandAnswered` for a rejection, or
        `Refused` as for other commands.
        """
        status = await self._accept(namespace, workflow_id, command, run_id)
        if not isinstance(status, UpdateStatus) or status.status != "accepted" or not wait_seconds:
            return status
        return await self._waits.until_end(namespace, status, wait_seconds)

    async def update_end(self, namespace: str, accepted: UpdateStatus, seconds: float) -> UpdateStatus:
        """An `accepted` update once it has ended, or as it was when `seconds` are over."""
        return await self._waits.until_end(namespace, accepted, seconds)

    async def _accept(self, namespace: str, workflow_id: str, command: UpdateRun, run_id: str | None) -> UpdateOutcome:
        shard = self._router.shard_of_workflow(namespace, workflow_id)
        key = new_key(shard, self._router.now())

        async def once() -> UpdateOutcome:
            owner = self._router.elsewhere(shard)
            if owner is not None:
                reply: UpdateOutcome | None = await self._router.ask_node(
                    owner, AskUpdate(namespace, workflow_id, key, command, run_id)
                )
                if reply is not None:
                    return reply
            return await self._accept_here(namespace, workflow_id, key, command, run_id)

        return await self._router.certainly(once)

    async def _accept_here(
        self, namespace: str, workflow_id: str, key: str, command: UpdateRun, run_id: str | None
    ) -> UpdateOutcome:
        for _ in range(_TRIES):
            if command.request_id is not None:
                # The update an earlier request with this id made, as it stands.
                earlier = await update_requests.find(self._db, workflow_id, command.request_id)
                status = None if earlier is None else await self._waits.find(namespace, workflow_id, *earlier)
                if status is not None:
                    ours = (await self._host.answers_to([key])).get(key)  # this same request, told again
                    return msgspec.structs.replace(status, repeated=ours is None)
            reply = await self._tell_current(namespace, workflow_id, key, command, run_id)
            if not isinstance(reply, Refused) or reply.reason != REQUEST_TAKEN:
                return reply
        raise Unavailable("the update of this request id comes and goes")

    async def here(self, question: AskCommand | AskUpdate | AwaitUpdate) -> RunReply:
        """What another node asks for a workflow id whose shard is hosted here."""
        if isinstance(question, AwaitUpdate):
            return await self._waits.watch(question.namespace, question.accepted, question.seconds)
        if isinstance(question, AskUpdate):
            return await self._accept_here(
                question.namespace, question.workflow_id, question.key, question.command, question.run_id
            )
        return await self._command_here(
            question.namespace, question.workflow_id, question.key, question.command, question.run_id
        )

    # -- queries -------------------------------------------------------------------------------------------------------

    async def query(self, namespace: str, workflow_id: str, query: Query, run_id: str | None) -> QueryAnswer | Refused:
        """Have a worker answer a question about a run, open or closed (engine-semantics 7.4)."""
        with one_family():
            return await self._query(namespace, workflow_id, query, run_id)

    async def _query(self, namespace: str, workflow_id: str, query: Query, run_id: str | None) -> QueryAnswer | Refused:
        stored = await self._load_current(namespace, workflow_id)
        if isinstance(stored, Refused):
            return stored
        current, identity = stored.run_id, stored.identity
        if run_id is not None and run_id != current:
            return Refused("historical_run_command_rejected")
        if identity.workflow_type == STANDALONE_TYPE:
            return Refused("rejected_unknown_query", {"run_id": current})  # nobody there to answer it
        if stored.version == stored_runs.PRUNED:
            return Refused("run_history_pruned", {"run_id": current})
        queue = identity.task_queue or "default"
        reason = await self._workers.missing_for_query(namespace, queue, identity.workflow_type, identity.compatibility)
        if reason is not None:
            return Refused(reason, {"run_id": current})
        shard = self._host.queue_shard(namespace, queue)
        owner = self._router.elsewhere(shard)
        question = AskQuery(namespace, queue, current, identity.workflow_type, identity.compatibility, query)
        if owner is None:
            answer = await self.query_here(question)
        else:
            try:
                patience = self._queries.rules.timeout + _MARGIN_SECONDS
                data = await self._ask.ask(owner, protocol.encode(question), patience)
            except (Unreachable, OutcomeUnknown):
                return Refused("query_task_queue_unavailable", {"run_id": current})
            response = protocol.decode_response(data)
            if not isinstance(response, protocol.QueryAnswered):
                return Refused("query_task_queue_unavailable", {"run_id": current})
            answer = (
                response.answer if response.answer is not None else Refused(response.reason or "query_task_queue_unavailable")
            )
        if isinstance(answer, Refused):
            return Refused(answer.reason, {**answer.detail, "run_id": current})
        return msgspec.structs.replace(answer, workflow_id=workflow_id, run_id=current)

    async def query_here(self, question: AskQuery) -> QueryAnswer | Refused:
        """Ask the workers of a queue hosted here."""
        shard = self._host.queue_shard(question.namespace, question.queue)
        return await self._queries.ask(
            (question.namespace, question.queue),
            shard,
            question.run_id,
            question.workflow_type,
            question.compatibility,
            question.query,
        )

    async def finish_query(self, namespace: str, outcome: QueryOutcome) -> RunReply:
        """A worker's answer to a query task: `Done` or `Refused`."""
        shard = self._router.shard_of_id(outcome.query_task_id)
        if shard is None:
            return Refused("query_task_not_found")
        owner = self._router.elsewhere(shard)
        if owner is not None:
            reply: Done | Refused | None = await self._router.ask_node(owner, AskFinishQuery(namespace, outcome))
            if reply is not None:
                return reply
        return self._queries.finish(namespace, outcome)
