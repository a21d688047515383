"""A live task queue with more in the store than it holds: nothing hidden, everything in order, nothing read in vain."""

from __future__ import annotations

import asyncio
import time

from actors.errors import Unavailable
from actors.queue.candidates import Found
from actors.queue.matching import QueuedTask
from actors.queue.parked_poll import ParkedPoll
from actors.queue.poll import Poll, QueueName, WorkerProfile
from actors.queue.queue_actor import QueueActor
from actors.run.commands import RunCommand
from actors.run.commands.worker import ClaimTask
from actors.run.replies import ActivityTaskGrant, Refused, RunReply
from actors.run.times import Micros
from tests.support.candidates import read

NAME = QueueName("default", "queue", "activity")
PATIENCE_SECONDS = 30.0


class QueueOfRows:
    """A queue on rows that runs answer for: a claim takes the row away, or is refused when there is none."""

    def __init__(self) -> None:
        self.rows: dict[str, QueuedTask] = {}
        self.claims: list[str] = []
        self.loads = 0
        self.held_up: asyncio.Event | None = None
        self.away = False
        self.queue = QueueActor(NAME, self._ask_run, self._load, now)

    def put(self, *tasks: QueuedTask) -> None:
        self.rows.update((task.task_id, task) for task in tasks)

    def _ask_run(self, _any_id: str, command: RunCommand) -> asyncio.Future[RunReply]:
        assert isinstance(command, ClaimTask)
        future: asyncio.Future[RunReply] = asyncio.get_running_loop().create_future()
        self.claims.append(command.task_id)
        row = self.rows.pop(command.task_id, None)
        future.set_result(Refused("task_not_leased") if row is None else granted(row))
        return future

    async def _load(self, _name: object, worker: WorkerProfile, limit: int, _after: object) -> Found:
        self.loads += 1
        if self.away:
            raise Unavailable("away")
        found = read(list(self.rows.values()), worker, now(), limit)
        await asyncio.sleep(0.001)
        if self.held_up is not None:
            await self.held_up.wait()
        return found

    def park(self, seconds: float = PATIENCE_SECONDS, types: set[str] | None = None, build: str | None = None) -> ParkedPoll:
        worker = WorkerProfile("worker", build, None if types is None else frozenset(types))
        parked = ParkedPoll(Poll(*NAME, worker, seconds), lambda *_: None)
        self.queue.park(parked, seconds)
        return parked

    async def poll(self, types: set[str] | None = None, build: str | None = None, seconds: float = 0.0) -> str | None:
        """The task a poll gets."""
        grant = await asyncio.wait_for(self.park(seconds, types, build).future, PATIENCE_SECONDS)
        return None if grant is None else grant.task_id  # type: ignore[union-attr]


def now() -> Micros:
    return Micros(time.time_ns() // 1000)


def granted(task: QueuedTask) -> ActivityTaskGrant:
    return ActivityTaskGrant(
        task.task_id, "w", "run", "execution", "attempt", 1, task.type_name, "avro", b"", None, "queue", None, "worker", 0
    )


def some(
    count: int, type_name: str = "echo", *, build: str | None = None, priority: int = 5, delay: int = -1000
) -> list[QueuedTask]:
    at = now() + delay
    return [QueuedTask(f"{type_name}-{build}-{priority}-{n:06}", type_name, build, priority, at) for n in range(count)]


async def test_a_backlog_beyond_memory_goes_out_whole_and_in_order() -> None:
    scene = QueueOfRows()
    assert await scene.poll() is None
    expected = []
    for task in [*some(2500, priority=7), *some(2500, priority=2)]:  # announced to a queue nobody polls at the moment
        scene.put(task)
        scene.queue.offer(task)
        expected.append(task)
    got = [await scene.poll() for _ in expected]
    assert got == [task.task_id for task in sorted(expected, key=lambda task: task.order)]
    assert await scene.poll() is None
    assert scene.loads < 40, "the store is read for hundreds of polls at once"


async def test_what_polls_cannot_take_is_not_held_and_keeps_no_poll_from_a_hand_over() -> None:
    scene = QueueOfRows()
    parked = scene.park(types={"echo"}, build="here")
    scene.put(*some(3000, "other"), *some(3000, build="elsewhere"))
    for task in list(scene.rows.values()):
        scene.queue.offer(task)
    await asyncio.sleep(0.05)
    assert scene.queue.held == 0
    reserved = scene.queue.reserve("echo", "here")
    assert reserved is not None
    (mine,) = some(1, build="here")
    reserved.resolve(granted(mine))
    assert (await parked.future) == granted(mine)


async def test_candidates_that_are_all_gone_are_read_again() -> None:
    scene = QueueOfRows()
    scene.put(*some(400))
    first = await scene.poll()
    assert first is not None
    scene.rows.clear()  # another node had them all
    (left,) = some(1, "left", priority=9)
    scene.put(left)
    assert await scene.poll() == left.task_id
    assert len(scene.claims) < 10


async def test_an_announcement_during_a_look_into_the_store_is_not_lost() -> None:
    scene = QueueOfRows()
    scene.held_up = asyncio.Event()
    parked = scene.park()
    await asyncio.sleep(0.02)
    (task,) = some(1)
    scene.put(task)
    scene.queue.offer(task)
    await asyncio.sleep(0.02)
    assert not parked.future.done(), "the store may hold one that comes first"
    assert scene.queue.reserve("echo", None) is None
    scene.held_up.set()
    assert await asyncio.wait_for(parked.future, PATIENCE_SECONDS) == granted(task)


async def test_a_lost_announcement_is_made_up_for_by_the_sweep_whoever_waits() -> None:
    scene = QueueOfRows()
    waiting = scene.park(types={"echo"})
    assert await scene.poll({"other"}) is None
    scene.put(*some(1), *some(1, "other"))
    scene.queue.reload()
    assert (await asyncio.wait_for(waiting.future, PATIENCE_SECONDS)) is not None
    assert await scene.poll({"other"}) is not None


async def test_tasks_not_due_are_claimed_at_their_time_and_not_before_however_many_there_are() -> None:
    scene = QueueOfRows()
    scene.put(*some(2500, priority=0, delay=1_500_000), *some(1, "now"))
    assert await scene.poll() == some(1, "now")[0].task_id
    assert await scene.poll() is None
    began = time.monotonic()
    got = await asyncio.gather(*(scene.poll(seconds=PATIENCE_SECONDS) for _ in range(2500)))
    assert time.monotonic() - began > 0.3
    assert len(set(got)) == 2500 and None not in got and len(scene.claims) == 2501


async def test_polls_end_in_time_while_the_store_is_away_and_wait_for_it_to_return() -> None:
    scene = QueueOfRows()
    scene.away = True
    waiting = scene.park()
    assert await scene.poll(seconds=0.05) is None
    scene.put(*some(1))
    scene.away = False
    assert await asyncio.wait_for(waiting.future, PATIENCE_SECONDS) is not None
