"""Query tasks of this node's queues: a question waits for a worker, a worker's answer for its caller (worker-protocol 8).

Nothing here is durable: a query that is lost ends at its caller's time-out, and the caller asks again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from actors.queue.parked_poll import ParkedPoll
from actors.queue.poll_line import PollLine, SendOn, WaitingPoll
from actors.queue.query_types import Query, QueryAnswer, QueryOutcome, QueryTaskGrant
from actors.queue.repeated_polls import RepeatedPolls
from actors.run import ids
from actors.run.commands import RunCommand
from actors.run.commands.control import ReadForQuery
from actors.run.replies import Done, QueryView, Refused, RunReply
from actors.run.times import SECOND, Micros, iso

QUERY_TASK = "f"
_LINES = 64

RunAsker = Callable[[str, RunCommand], "asyncio.Future[RunReply]"]
QueueKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class QueryRules:
    """Times in seconds; `max_pending`: queries that may wait per queue."""

    timeout: float
    lease: int
    max_pending: int


class _Task:
    """One query on its way."""

    __slots__ = (
        "answer",
        "attempt",
        "compatibility",
        "lease_expires_at",
        "owner",
        "query",
        "queue",
        "run_id",
        "status",
        "task_id",
        "type",
    )

    def __init__(
        self, task_id: str, queue: QueueKey, run_id: str, type_name: str, compatibility: str | None, query: Query
    ) -> None:
        self.task_id = task_id
        self.queue = queue
        self.run_id = run_id
        self.type = type_name
        self.compatibility = compatibility
        self.query = query
        self.status = "pending"
        self.attempt = 1
        self.owner = ""
        self.lease_expires_at = 0
        self.answer: asyncio.Future[QueryAnswer | Refused] = asyncio.get_running_loop().create_future()


class QueryBroker:
    """All query tasks hosted here, by queue, first in, first out."""

    def __init__(self, rules: QueryRules, ask_run: RunAsker, now: Callable[[], Micros]) -> None:
        """`now` in microseconds."""
        self.rules = rules
        self._now = now
        self._ask_run = ask_run
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._pending: dict[QueueKey, deque[_Task]] = {}
        self._lines: dict[QueueKey, PollLine[QueryTaskGrant]] = {}
        self._many_lines = _LINES  # as soon as there are so many, those where nobody waits go
        self._tickets = itertools.count(1)
        self._repeated: RepeatedPolls[QueryTaskGrant] = RepeatedPolls(self._recall, self.park)
        self._draining = False

    # -- callers -------------------------------------------------------------------------------------------------------

    async def ask(
        self, queue: QueueKey, shard: int, run_id: str, type_name: str, compatibility: str | None, query: Query
    ) -> QueryAnswer | Refused:
        """Put a query to the workers of a queue and wait for the answer, at most for the time the rules give."""
        if self._draining:
            return Refused("query_task_queue_unavailable")
        line = self._pending.setdefault(queue, deque())
        if len(line) >= self.rules.max_pending:
            return Refused("query_task_queue_full")
        task_id = ids.mint(self._now() // 1000, ids.new_run_key(shard), QUERY_TASK)
        task = _Task(task_id, queue, run_id, type_name, compatibility, query)
        self._tasks[task_id] = task
        waiting = self._take_poll(task)
        if waiting is None:
            line.append(task)
        else:
            self._grant(task, waiting)
        try:
            async with asyncio.timeout(self.rules.timeout):
                return await task.answer
        except TimeoutError:
            return Refused("query_worker_timeout")
        finally:
            self._forget(task)

    def pending(self, queue: QueueKey) -> int:
        """How many queries wait for a worker in a queue hosted here."""
        return len(self._pending.get(queue, ()))

    def _forget(self, task: _Task) -> None:
        task.status = "closed"
        self._tasks.pop(task.task_id, None)
        line = self._pending.get(task.queue)
        if line is not None:
            if task in line:
                line.remove(task)
            if not line:
                del self._pending[task.queue]

    # -- workers -------------------------------------------------------------------------------------------------------

    def park(self, parked: ParkedPoll, seconds: float) -> None:
        """Hold a worker's poll until a query for it comes."""
        if self._draining:
            parked.resolve(None)
            return
        poll = parked.poll
        queue = (poll.namespace, poll.queue)
        now = asyncio.get_running_loop().time()
        if self._repeated.answer(parked, now + seconds):
            return
        task = self._take_task(queue, parked)
        if task is not None:
            self._grant(task, self._line(queue).enter(parked, now, seconds, reserved=True))
        elif seconds <= 0:
            parked.resolve(None)
        else:
            self._line(queue).enter(parked, now, seconds)

    def _line(self, queue: QueueKey) -> PollLine[QueryTaskGrant]:
        line = self._lines.get(queue)
        if line is None:
            if len(self._lines) >= self._many_lines:
                self._lines = {queue: line for queue, line in self._lines.items() if line}
                self._many_lines = 2 * len(self._lines) + _LINES
            line = self._lines[queue] = PollLine(self._repeated, self._resolve_empty, tickets=self._tickets)
        return line

    def _take_task(self, queue: QueueKey, parked: ParkedPoll) -> _Task | None:
        """The query that waits longest for such a worker, out of the line."""
        for task in self._pending.get(queue, ()):
            if parked.profile.serves(task.type, task.compatibility):
                self._pending[queue].remove(task)
                return task
        return None

    def _take_poll(self, task: _Task) -> WaitingPoll | None:
        """The poll that gets this query, reserved."""
        line = self._lines.get(task.queue)
        return None if line is None else line.take(task.type, task.compatibility)

    def _resolve_empty(self, waiting: WaitingPoll) -> None:
        poll = waiting.parked.poll
        self._line((poll.namespace, poll.queue)).resolve(waiting, None)

    def _recall(self, parked: ParkedPoll, grant: QueryTaskGrant, _deadline: float) -> bool:
        """Answer a repeated poll, if what the first one was granted is still leased."""
        task = self._tasks.get(grant.query_task_id)
        leased = task is not None and task.status == "leased" and task.attempt == grant.query_task_attempt
        if leased:
            parked.resolve(grant)
        return leased

    def _grant(self, task: _Task, waiting: WaitingPoll) -> None:
        """Read the run as this worker must see it, then lease the query to it."""
        task.status = "claiming"
        read = self._ask_run(task.run_id, ReadForQuery(waiting.profile.dialect))
        read.add_done_callback(lambda done: self._read(task, waiting, done))

    def _read(self, task: _Task, waiting: WaitingPoll, done: asyncio.Future[RunReply]) -> None:
        if task.status == "closed" or waiting.parked.ended:
            if task.status != "closed":
                self._put_back(task)
            else:
                self._wait_on(waiting)
            return
        view = None if done.exception() is not None else done.result()
        if not isinstance(view, QueryView):
            if not task.answer.done():
                task.answer.set_result(Refused("query_task_queue_unavailable"))
            self._wait_on(waiting)
            return
        task.status = "leased"
        task.owner = waiting.profile.worker_id
        task.lease_expires_at = self._now() + self.rules.lease * SECOND
        asyncio.get_running_loop().call_later(self.rules.lease, self._lease_ran_out, task, task.attempt)
        grant = QueryTaskGrant(task.task_id, task.attempt, view, task.query, task.owner, task.lease_expires_at)
        self._line(task.queue).resolve(waiting, grant, grant)

    def _wait_on(self, waiting: WaitingPoll) -> None:
        """What a poll was reserved for came to nothing: it waits on for what is left of its time."""
        if waiting.parked.ended:
            return
        poll = waiting.parked.poll
        queue = (poll.namespace, poll.queue)
        task = self._take_task(queue, waiting.parked)
        if task is not None:
            self._grant(task, waiting)
        elif waiting.expired or self._draining:
            self._line(queue).resolve(waiting, None)
        else:
            self._line(queue).put_back(waiting)

    def _put_back(self, task: _Task) -> None:
        """Nobody got it: it is the next one again."""
        task.status = "pending"
        task.owner = ""
        waiting = self._take_poll(task)
        if waiting is None:
            self._pending.setdefault(task.queue, deque()).appendleft(task)
        else:
            self._grant(task, waiting)

    def _lease_ran_out(self, task: _Task, attempt: int) -> None:
        """Its worker is lost: another one may answer while the caller waits."""
        if task.status == "leased" and task.attempt == attempt:
            late, until = task.owner, task.lease_expires_at
            task.attempt += 1
            self._put_back(task)
            if task.status == "pending":
                task.owner, task.lease_expires_at = late, until

    def take_back(self, grant: QueryTaskGrant) -> None:
        """A leased query reached no worker."""
        task = self._tasks.get(grant.query_task_id)
        same = task is not None and task.owner == grant.lease_owner and task.attempt == grant.query_task_attempt
        if task is not None and same and task.status == "leased":
            self._put_back(task)

    def finish(self, namespace: str, outcome: QueryOutcome) -> RunReply:
        """A worker's answer: `Done`, or `Refused` as worker-protocol 8.3 names it."""
        task = self._tasks.get(outcome.query_task_id)
        if task is None:
            # The caller is gone or answered: ids of ours were leased once.
            known = ids.kind_of(outcome.query_task_id) == QUERY_TASK and ids.run_key_of(outcome.query_task_id) is not None
            return Refused("query_task_not_leased" if known else "query_task_not_found")
        if task.queue[0] != namespace:
            return Refused("query_task_not_found")
        if task.status != "leased":
            late = bool(task.owner) and task.owner == outcome.lease_owner and outcome.attempt == task.attempt - 1
            ran_out = {"lease_expires_at": iso(task.lease_expires_at)}
            return Refused("lease_expired", ran_out) if late else Refused("query_task_not_leased")
        if task.owner != outcome.lease_owner:
            return Refused("lease_owner_mismatch", {"lease_owner": task.owner})
        if outcome.attempt != task.attempt:
            return Refused("query_task_attempt_mismatch", {"current_attempt": task.attempt})
        if task.lease_expires_at <= self._now():
            return Refused("lease_expired", {"lease_expires_at": iso(task.lease_expires_at)})
        task.status = "answered"
        answer = QueryAnswer(
            workflow_id="",
            run_id=task.run_id,
            result=outcome.result,
            result_envelope=outcome.result_envelope,
            reason=(outcome.reason or "query_rejected") if outcome.failed else None,
            message=outcome.message,
        )
        if not task.answer.done():
            task.answer.set_result(answer)
        return Done()

    def drain(self) -> None:
        """Shutting down: no poll is held any more, and callers are told to ask again elsewhere."""
        self._draining = True
        for task in list(self._tasks.values()):
            if not task.answer.done():
                task.answer.set_result(Refused("query_task_queue_unavailable"))

    def hand_off(self, belongs: Callable[[QueueKey], bool], to: SendOn) -> None:
        """These queues are hosted elsewhere from now on: polls go on waiting there, callers are told to ask again."""
        for queue in [queue for queue in self._lines if belongs(queue)]:
            self._lines.pop(queue).hand_off(to)
        for task in [task for task in self._tasks.values() if belongs(task.queue)]:
            if not task.answer.done():
                task.answer.set_result(Refused("query_task_queue_unavailable"))
