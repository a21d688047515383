"""Which operation comes next: random ones, those that never succeeded yet before the others, and faults of the nodes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from actors.run import ids
from tests.differential.batches import QUEUES
from tests.differential.driver import Driver, Lease
from tests.differential.explaining import micros
from tests.differential.model import ModelRun
from tests.support.server import ServerProcess

OPEN_RUNS = 10  # about as many are open at a time
FAULT_EVERY = 80  # operations

_COMMANDS = (
    "schedule_activity",
    "start_timer",
    "start_child_workflow",
    "open_condition_wait",
    "record_side_effect",
    "record_version_marker",
    "upsert_search_attributes",
    "complete_update",
    "fail_update",
    "complete_workflow",
    "fail_workflow",
    "continue_as_new",
)
_EVENTS = (
    "ActivityCompleted",
    "ActivityFailed",
    "ActivityRetryScheduled",
    "ActivityTimedOut",
    "ActivityCancelled",
    "TimerFired",
    "TimerCancelled",
    "ConditionWaitSatisfied",
    "ConditionWaitTimedOut",
    "RepairRequested",
    "WorkflowTimedOut",
    "ChildRunCompleted",
    "ChildRunFailed",
    "ParentClosePolicyApplied",
)

# Brought about by closing a run that has unfinished activities, timers, children.
_BY_CLOSING = ("event:ActivityCancelled", "event:TimerCancelled", "event:ParentClosePolicyApplied")

# What must have succeeded at least once.
REQUIRED = frozenset(
    {
        "start",
        "start alone",
        "alone again: started_new",
        "alone again: rejected_duplicate",
        "alone again: workflow_type_mismatch",
        "rejected: unknown_signal",
        "duplicate start: returned_existing_active",
        "duplicate start: rejected_duplicate",
        "duplicate start: workflow_type_mismatch",
        "claim workflow 0.4",
        "claim workflow plain",
        "claim activity 0.4",
        "claim activity plain",
        "empty workflow poll",
        "complete workflow task",
        "fail workflow task",
        "heartbeat workflow task",
        "history workflow task",
        "repeated batch",
        "complete activity",
        "fail activity",
        "heartbeat activity",
        "signal",
        "signal to a run",
        "update",
        "waited update completed",
        "waited update failed",
        "query",
        "cancel",
        "terminate",
        "repair",
        "archive",
        "rejected: run_not_active",
        "rejected: run_not_closed",
        "refused: historical_run_command_rejected",
        "refused: task_not_leased",
        "refused: run_closed",
        "refused: invalid_commands",
        "message StartChildRun",
        "message ChildClosed",
        "message ChildRestarted",
        "message ParentClosed",
        "kill -9",
        "SIGTERM",
    }
    | {f"command {name}" for name in _COMMANDS}
    | {f"event:{name}" for name in _EVENTS}
)


class Session:
    """Random operations until enough of them, and every kind, succeeded; then everything is compared."""

    def __init__(self, driver: Driver, nodes: Sequence[ServerProcess]) -> None:
        self.driver = driver
        self.nodes = nodes
        self.operations = 0
        self._random = driver.random
        self._starting: set[asyncio.Task[ServerProcess]] = set()
        self._stopping: set[asyncio.Task[int]] = set()
        driver.leaving = lambda: not self._all_up

    @property
    def counts(self) -> Counter[str]:
        """How often what succeeded."""
        return self.driver.observer.counts

    @property
    def missing(self) -> set[str]:
        """What never succeeded yet."""
        return {name for name in REQUIRED if not self.counts[name]}

    async def run(self, operations: int, seconds: float) -> None:
        """At least so many operations, more until nothing is missing, for at most so long."""
        end = time.monotonic() + seconds
        await self.driver.register()
        while self.operations < operations or self.missing:
            if time.monotonic() > end:
                return
            self.operations += 1
            if self.operations % FAULT_EVERY == 0:
                await self._fault()
            await self._next()
            await self.driver.waits_end()
        await self._nodes_up()
        await self._drain()
        await self.driver.observer.all_equal()
        await self._instances_equal()

    async def stop(self) -> None:
        """End what is still under way."""
        for _, asked in self.driver.waited.values():
            asked.cancel()
        await asyncio.gather(*self._starting, *self._stopping, return_exceptions=True)

    # -- choosing ------------------------------------------------------------------------------------------------------

    async def _next(self) -> None:
        choices = self._choices()
        names = [name for name, weight, _ in choices]
        weights = [weight for _, weight, _ in choices]
        at = self._random.choices(range(len(names)), weights)[0]
        await choices[at][2]()

    def _choices(self) -> list[tuple[str, float, Callable[[], Awaitable[object]]]]:
        driver, random, world = self.driver, self._random, self.driver.world
        runs = list(world.runs.values())
        current = [run for run in (world.current(workflow_id) for workflow_id in world.instances) if run is not None]
        opened = [run for run in current if run.state.is_open]
        closed = [run for run in current if not run.state.is_open]
        leases = driver.leases[-12:]
        tasks = [lease for lease in leases if lease.kind == "workflow"]
        attempts = [lease for lease in leases if lease.kind == "activity"]
        live = [lease for lease in tasks if self._is_live(lease)]
        choices: list[tuple[str, float, Callable[[], Awaitable[object]]]] = []

        def offer(name: str, weight: float, operation: Callable[[], Awaitable[object]], wanted: Sequence[str] = ()) -> None:
            """`wanted`: what it may bring that nothing brought yet makes it more likely."""
            choices.append((name, weight * (4 if any(not self.counts[what] for what in wanted) else 1), operation))

        if len(opened) < OPEN_RUNS:
            timeout: dict[str, Any] = (
                {"run_timeout_seconds": 1} if random.random() < (0.08 if self.counts["event:WorkflowTimedOut"] else 0.4) else {}
            )
            offer("start", 12, lambda: driver.start(**timeout), ["event:WorkflowTimedOut"])
            offer("alone", 5, driver.start_alone, ["start alone"])
        if current:
            hosts = [run for run in current if run.state.standalone is not None]
            known = random.choice(hosts if hosts and random.random() < 0.7 else current).workflow_id
            wanted = [what for what in REQUIRED if what.startswith("alone")]
            offer("alone again", 2, lambda: driver.start_alone(known), wanted)
            again = self.counts["duplicate start: returned_existing_active"]
            run = random.choice(current if again or not opened else opened)
            policy = random.choice(["fail", "use-existing"]) if again else "use-existing"
            same = random.random() < 0.8 and run.state.standalone is None
            name = run.state.workflow_type if same else "another"
            offer(
                "duplicate",
                1.5,
                lambda: driver.start(run.workflow_id, name, duplicate_policy=policy),
                [what for what in REQUIRED if what.startswith("duplicate")],
            )
        for kind in ("workflow", "activity"):
            queues = [queue for queue in QUEUES if world.ready(kind, queue, micros())]
            idle = [queue for queue in QUEUES if queue not in queues]
            dialect = random.choice(["0.4", "0.4", ""])
            if queues:
                offer(f"poll {kind}", 25, partial(driver.poll, kind, random.choice(queues), dialect))
            if idle:
                offer(
                    f"empty poll {kind}", 0.3, partial(driver.poll, kind, random.choice(idle), dialect), [f"empty {kind} poll"]
                )
        if live:
            offer("complete", 30, lambda: self._complete(random.choice(live)))
            offer("heartbeat task", 1, lambda: driver.heartbeat_task(random.choice(live)))
            offer("page", 2, lambda: driver.page(random.choice(live)), ["history workflow task"])
            offer("invalid batch", 0.5, lambda: self._invalid(random.choice(live)), ["refused: invalid_commands"])
            offer("fail task", 1, lambda: driver.fail_task(random.choice(live)))
        if tasks:
            offer("late task call", 1, lambda: self._late(random.choice(tasks)), ["refused: run_closed"])
        if attempts:
            newest = attempts[-1] if random.random() < 0.7 else random.choice(attempts)
            offer("end activity", 12, lambda: driver.end_activity(newest))
            offer("heartbeat activity", 2, lambda: driver.heartbeat_activity(newest))
        if opened:
            run_id = random.choice(opened).workflow_id
            offer("signal", 7, lambda: driver.command("signal", run_id))
            offer("signal run", 1, lambda: driver.command("signal", *self._named(opened)), ["signal to a run"])
            offer("update", 3, lambda: driver.update(run_id))
            if heard := [run for run in opened if run.state.standalone is None]:
                asking = random.choice(heard).workflow_id
                offer("waited update", 2, lambda: driver.update_and_wait(asking), ["waited update failed"])
            offer("cancel", 0.6, lambda: driver.command("cancel", self._rich(opened, run_id)), ["cancel", *_BY_CLOSING])
            offer(
                "terminate", 0.6, lambda: driver.command("terminate", self._rich(opened, run_id)), ["terminate", *_BY_CLOSING]
            )
            offer("archive an open run", 0.2, lambda: driver.command("archive", run_id), ["rejected: run_not_closed"])
            offer("repair", 1.5, lambda: driver.command("repair", run_id), ["repair"])
        if closed:
            over = random.choice(closed).workflow_id
            offer("archive", 0.6, lambda: driver.command("archive", over), ["archive"])
            for kind in ("signal", "terminate", "repair"):
                offer(f"{kind} too late", 0.3, lambda kind=kind: driver.command(kind, over), ["rejected: run_not_active"])  # type: ignore[misc]
            offer("update too late", 0.3, lambda: driver.update(over))
        old = [run for run in runs if world.instances[run.workflow_id][-1] != run.run_id]
        if old:
            gone = random.choice(old)
            wanted = ["refused: historical_run_command_rejected"]
            offer("old run", 1, lambda: driver.command("signal", gone.workflow_id, gone.run_id), wanted)
        answering = [run for run in current if run.state.standalone is None]
        if answering and self._all_up:
            asked = random.choice(answering).workflow_id
            offer("query", 2, lambda: driver.query(asked, random.choice(["0.4", ""])), ["query"])
        due = [run for run in runs if run.deadline is not None and run.deadline < micros() + 2_000_000]
        if due:
            offer("time", 4, lambda: self._wait(random.choice(due)))
        return choices

    @property
    def _all_up(self) -> bool:
        return not self._starting and not self._stopping

    def _is_live(self, lease: Lease) -> bool:
        run = self.driver.world.run_of(lease.task_id)
        task = None if run is None else run.state.open_task
        return (
            task is not None
            and task.task_id == lease.task_id
            and task.status == "leased"
            and task.attempt == lease.task["workflow_task_attempt"]
        )

    def _rich(self, runs: Sequence[ModelRun], otherwise: str) -> str:
        """A workflow whose end brings what never happened yet: steps cancelled, close policies applied."""
        for run in runs:
            state = run.state
            bound = any(child.policy != "abandon" for child in state.children.values())
            for there, event in zip((state.activities, state.timers, bound), _BY_CLOSING, strict=True):
                if there and not self.counts[event]:
                    return run.workflow_id
        return otherwise

    def _named(self, runs: Sequence[ModelRun]) -> tuple[str, str]:
        run = self._random.choice(runs)
        return run.workflow_id, run.run_id

    async def _complete(self, lease: Lease) -> None:
        """A new batch, or the last one again as workers of the 0.4 line do."""
        driver = self.driver
        run = driver.world.run_of(lease.task_id)
        assert run is not None
        state = run.state
        last = driver.last_batch.get(run.run_id)
        update_id = lease.task["workflow_update_id"]
        open_task = state.open_task
        again = open_task is not None and open_task.repeatable and lease.dialect == "0.4" and update_id is None
        if again and last is not None and (not self.counts["repeated batch"] or self._random.random() < 0.5):
            await driver.complete(lease, last)
            return
        if not self.counts["repeated batch"] and update_id is None and self._random.random() < 0.3:
            await driver.complete(lease, driver.batches.group())
            return
        await driver.complete(lease, driver.batches.batch(list(state.updates), update_id))

    async def _late(self, lease: Lease) -> None:
        """A call with a lease that may be gone."""
        driver = self.driver
        kind = self._random.choice(["complete", "heartbeat", "fail"])
        if kind == "complete":
            await driver.complete(lease, [driver.batches.side_effect()])
        elif kind == "heartbeat":
            await driver.heartbeat_task(lease)
        else:
            await driver.fail_task(lease)

    async def _invalid(self, lease: Lease) -> None:
        """Two ends in one batch: nothing of it counts."""
        batches = self.driver.batches
        await self.driver.complete(lease, [batches.side_effect(), batches.terminal(), batches.terminal()])

    async def _wait(self, run: ModelRun) -> None:
        """Let the time come at which something happens to a run by itself."""
        await self.driver.observer.look(run.run_id, 4.0)
        self.driver.did("time passed")

    # -- faults --------------------------------------------------------------------------------------------------------

    async def _fault(self) -> None:
        """Kill or stop a node and start it again; operations go on meanwhile."""
        await self._nodes_up()
        node = self._random.choice(self.nodes)
        if not self.counts["kill -9"] or (self.counts["SIGTERM"] and self._random.random() < 0.5):
            await asyncio.to_thread(node.kill)
            self._tell(f"kill -9 {node.node_id}")
            self.driver.did("kill -9")
            self._start(node)
        else:
            self._tell(f"SIGTERM {node.node_id}")
            stopping = asyncio.create_task(asyncio.to_thread(node.stop))
            self._stopping.add(stopping)

            def stopped(task: asyncio.Task[int]) -> None:
                self._stopping.discard(task)
                if not task.cancelled() and task.exception() is None:
                    self.driver.did("SIGTERM")
                    self._start(node)

            stopping.add_done_callback(stopped)

    def _tell(self, what: str) -> None:
        self.driver.observer.journal.append(f"{micros()} {what}")

    def _start(self, node: ServerProcess) -> None:
        self._tell(f"start {node.node_id}")
        node.start(wait=False)
        starting = asyncio.create_task(node.ready())
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _nodes_up(self) -> None:
        async with asyncio.timeout(60):
            while not self._all_up:
                await asyncio.sleep(0.02)
        assert all(node.running for node in self.nodes), "a node ended by itself"

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Every ready task is found by a poll, and nothing else is."""
        for kind in ("workflow", "activity"):
            for queue in QUEUES:
                while await self.driver.poll(kind, queue, "0.4") is not None:
                    pass

    async def _instances_equal(self) -> None:
        """The server has the model's workflows with their runs, and no others; each looks as it does in the model."""
        client, world = self.driver.client, self.driver.world
        for workflow_id, chain in world.instances.items():
            listed = await client.get(f"/api/workflows/{workflow_id}/runs")
            assert [item["run_id"] for item in listed.body["runs"]] == list(chain), (workflow_id, listed)
            for item, run in zip(listed.body["runs"], (world.runs[ids.key_in(run_id)] for run_id in chain), strict=True):
                state = run.state
                found = (item["status"], item["closed_reason"], item["workflow_type"], item["task_queue"])
                assert found == (state.status, state.closed_reason, state.workflow_type, state.task_queue), item
        count = 0
        token: str | None = ""
        while token is not None:
            page = await client.get(f"/api/workflows?page_size=200&next_page_token={token}")
            count, token = count + len(page.body["workflows"]), page.body["next_page_token"]
        assert count == len(world.runs), "runs the model does not know"
