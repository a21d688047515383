"""Every task goes to one worker: many pollers, races, repeated polls, clients that leave, routing by type."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import pytest

from tests.wire.caller import COMPLETE, Caller, reason_of, schedule

TASKS = 200
POLLERS = 50


# -- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["pollers", "tasks"])
@pytest.mark.parametrize("kind", ["workflow", "activity"])
async def test_each_task_is_delivered_once(caller: Caller, first: str, kind: str) -> None:
    delivered: list[dict[str, Any]] = []
    enough = asyncio.Event()

    async def poller() -> None:
        worker = await caller.register()
        while not enough.is_set():
            task = await caller.poll_once(worker, kind)
            if task is not None:
                delivered.append(task)
                if len(delivered) == TASKS:
                    enough.set()

    async def create() -> list[dict[str, Any]]:
        if kind == "workflow":
            return await asyncio.gather(*(caller.start() for _ in range(TASKS)))
        run = await caller.start(workflow_type="host")
        worker = await caller.register(supported_workflow_types=["host"])
        task = await caller.poll(worker)
        assert (await caller.complete(task, *[schedule()] * TASKS)).status_code == 200
        return [run]

    runs = await create() if first == "tasks" else []
    pollers = [asyncio.create_task(poller()) for _ in range(POLLERS)]
    if first == "pollers":
        runs = await create()
    async with asyncio.timeout(60):
        await asyncio.gather(*pollers)
    # The last polls were held to their end after the last delivery: nothing came twice.
    assert len(delivered) == TASKS
    assert set(Counter(task["task_id"] for task in delivered).values()) == {1}
    if kind == "workflow":
        assert {task["run_id"] for task in delivered} == {run["run_id"] for run in runs}
        assert {task["workflow_task_attempt"] for task in delivered} == {1}
    else:
        assert len({task["activity_execution_id"] for task in delivered}) == TASKS
        assert (await caller.types(runs[0])).count("ActivityStarted") == TASKS


# -- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "loser", "event"),
    [(COMPLETE, "run_closed", "WorkflowCompleted"), (schedule(), "task_not_leased", "ActivityScheduled")],
)
async def test_of_racing_completions_one_wins(caller: Caller, command: dict[str, Any], loser: str, event: str) -> None:
    worker = await caller.register()
    for _ in range(10):
        run = await caller.start()
        task = await caller.poll(worker)
        answers = [reason_of(answer) for answer in await asyncio.gather(*(caller.complete(task, command) for _ in range(3)))]
        assert sorted(answers, key=str) == [(200, None), (409, loser), (409, loser)]
        assert await caller.types(run) == [event]


async def test_of_racing_activity_outcomes_one_wins(caller: Caller) -> None:
    worker = await caller.register()
    for _ in range(10):
        run = await caller.start()
        await caller.complete(await caller.poll(worker), schedule())
        task = await caller.poll(worker, "activity")
        answers = await asyncio.gather(
            caller.activity_call("complete", task, result=1),
            caller.activity_call("fail", task, failure={"message": "no"}),
            caller.activity_call("complete", task, result=2),
        )
        assert sorted((reason_of(answer) for answer in answers), key=str) == [(200, None), *[(409, "stale_attempt")] * 2]
        names = await caller.types(run)
        assert names[:2] == ["ActivityScheduled", "ActivityStarted"]
        assert len(names) == 3
        again = await caller.poll(worker)
        assert (await caller.complete(again)).status_code == 200


@pytest.mark.parametrize("policy", ["fail", "use-existing"])
async def test_parallel_starts_of_one_id_make_one_run(caller: Caller, policy: str) -> None:
    workflow_id = f"only-{caller.queue}"
    body = {
        "workflow_id": workflow_id,
        "workflow_type": "job",
        "task_queue": caller.queue,
        "duplicate_policy": policy,
    }
    answers = await asyncio.gather(*(caller.client.post("/api/workflows", json=body) for _ in range(20)))
    bodies = [answer.json() for answer in answers]
    lost = (409, "rejected_duplicate") if policy == "fail" else (200, "returned_existing_active")
    seen = Counter((answer.status_code, answer.json()["outcome"]) for answer in answers)
    assert seen == {(201, "started_new"): 1, lost: 19}
    assert len({found["run_id"] for found in bodies}) == 1
    if policy == "fail":
        assert {found.get("reason") for found in bodies} == {None, "duplicate_not_allowed"}
    names = await caller.types(bodies[0])
    assert names == (["StartRejected"] if policy == "fail" else ["StartAccepted"]) * 19
    listed = (await caller.client.get(f"/api/workflows/{workflow_id}/runs")).json()
    assert listed["run_count"] == 1
    worker = await caller.register()
    await caller.poll(worker)
    assert await caller.poll_once(worker) is None


# -- repeated polls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["workflow", "activity"])
async def test_a_poll_repeated_while_held_gets_the_same_lease(caller: Caller, kind: str) -> None:
    worker, starter = await caller.register(), await caller.register(supported_workflow_types=["job"])
    polls = [asyncio.create_task(caller.poll_once(worker, kind, poll_request_id="same")) for _ in range(3)]
    await caller.start()
    if kind == "activity":
        await caller.complete(await caller.poll(starter), schedule())
    tasks = await asyncio.gather(*polls)
    assert tasks[0] is not None
    assert [_lease(task, kind) for task in tasks] == [_lease(tasks[0], kind)] * 3


def _lease(task: dict[str, Any] | None, kind: str) -> tuple[Any, ...] | None:
    if task is None:
        return None
    if kind == "activity":
        return task["task_id"], task["activity_attempt_id"], task["attempt_number"]
    return task["task_id"], task["workflow_task_attempt"], task["history_events"]


@pytest.mark.parametrize("kind", ["workflow", "activity"])
async def test_a_poll_repeated_after_its_grant_gets_the_same_lease(caller: Caller, kind: str) -> None:
    worker = await caller.register()
    run = await caller.start()
    if kind == "activity":
        await caller.complete(await caller.poll(worker), schedule())
    first = await caller.poll_once(worker, kind, poll_request_id="again")
    assert first is not None
    assert _lease(await caller.poll_once(worker, kind, poll_request_id="again"), kind) == _lease(first, kind)
    other = await caller.register()
    assert await caller.poll_once(other, kind, poll_request_id="again") is None
    assert await caller.poll_once(worker, kind, poll_request_id="another") is None
    ended = caller.complete(first) if kind == "workflow" else caller.activity_call("complete", first, result=1)
    assert (await ended).status_code == 200
    # The key is dead with its lease: the next poll under it starts afresh.
    if kind == "workflow":
        second = await caller.start()
        task = await caller.poll_once(worker, kind, poll_request_id="again")
        assert task is not None
        assert task["run_id"] == second["run_id"]
    else:
        assert (await caller.types(run)).count("ActivityStarted") == 1
        assert await caller.poll_once(worker, kind, poll_request_id="again") is None


async def test_a_repeated_poll_that_leaves_takes_no_lease_with_it(caller: Caller) -> None:
    worker = await caller.register()
    for _ in range(2):
        first = asyncio.create_task(caller.poll_once(worker, poll_request_id="both"))
        await caller.client.get("/api/health")
        again = await caller.open_poll(worker, poll_request_id="both")
        await caller.client.get("/api/health")
        run = await caller.start()
        task = await first
        assert task is not None
        again.leave(abort=False)
        await caller.client.get("/api/health")
        assert await caller.poll_once(await caller.register(build_id="b"), poll_request_id="other") is None
        assert (await caller.complete(task)).status_code == 200
        assert await caller.types(run) == ["WorkflowCompleted"]


async def test_a_poll_repeated_after_an_empty_answer_stays_empty(caller: Caller) -> None:
    worker = await caller.register()
    assert await caller.poll_once(worker, poll_request_id="empty") is None
    run = await caller.start()
    assert await caller.poll_once(worker, poll_request_id="empty") is None
    task = await caller.poll_once(worker, poll_request_id="fresh")
    assert task is not None
    assert task["run_id"] == run["run_id"]


# -- clients that leave -----------------------------------------------------------------------------------------------

AT_ONCE_SECONDS = 20.0  # leases last five minutes


async def _delivered(caller: Caller, worker: str, run: dict[str, Any], since: float) -> float:
    """The seconds until a run's task comes to this worker; its run is completed."""
    task = await caller.poll(worker)
    took = time.monotonic() - since
    assert task["run_id"] == run["run_id"]
    assert (await caller.complete(task)).status_code == 200
    return took


async def test_polls_whose_clients_left_swallow_no_task(caller: Caller) -> None:
    gone, alive = await caller.register(), await caller.register()
    for how in ("close", "abort"):
        polls = [await caller.open_poll(gone) for _ in range(30)]
        # One answered request later, all of those before it have been read by the server too.
        assert (await caller.client.get("/api/health")).status_code == 200
        for poll in polls:
            poll.leave(abort=how == "abort")
        for _ in range(10):
            since = time.monotonic()
            run = await caller.start()
            assert await _delivered(caller, alive, run, since) < AT_ONCE_SECONDS


@pytest.mark.parametrize("kind", ["workflow", "activity"])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_leaving_while_the_task_arrives_strands_none(caller: Caller, kind: str, how: str) -> None:
    """The client leaves around the moment of delivery; whoever polls next gets the task at once, not when a lease ends."""
    generator = random.Random(7)
    gone, alive, host = (
        await caller.register(),
        await caller.register(),
        await caller.register(supported_workflow_types=["job"]),
    )
    worst = 0.0
    for _ in range(60):
        poll = await caller.open_poll(gone, kind)
        if kind == "activity":
            run = await caller.start()
            task = await caller.poll(host)
            arriving = asyncio.ensure_future(caller.complete(task, schedule()))
        else:
            arriving = asyncio.ensure_future(caller.start())
        await asyncio.sleep(generator.random() * 0.008)
        poll.leave(abort=how == "abort")
        since = time.monotonic()
        answer = await arriving
        if kind == "workflow":
            worst = max(worst, await _delivered(caller, alive, answer, since))
            continue
        activity = await caller.poll(alive, "activity")
        worst = max(worst, time.monotonic() - since)
        assert activity["run_id"] == run["run_id"]
        assert (await caller.activity_call("complete", activity, result=1)).status_code == 200
        assert (await caller.complete(await caller.poll(host))).status_code == 200
    assert worst < AT_ONCE_SECONDS


# -- routing ----------------------------------------------------------------------------------------------------------


async def test_tasks_go_to_workers_of_their_type(caller: Caller) -> None:
    one = await caller.register(supported_workflow_types=["one"], supported_activity_types=["step-one"])
    two = await caller.register(supported_workflow_types=["two", " "], supported_activity_types=["step-two"])
    held = asyncio.create_task(caller.poll_once(one))
    run = await caller.start(workflow_type="two")
    task = await caller.poll(two)
    assert task["run_id"] == run["run_id"]
    assert await held is None
    await caller.complete(task, schedule("step-one"), schedule("step-two"))
    for worker, served in ((one, "step-one"), (two, "step-two")):
        activity = await caller.poll(worker, "activity")
        assert activity["activity_type"] == served
        assert await caller.poll_once(worker, "activity") is None


@pytest.mark.parametrize(
    ("lists", "workflow", "activity"),
    [
        ({}, True, True),
        ({"supported_workflow_types": None, "supported_activity_types": None}, True, True),
        ({"supported_workflow_types": [], "supported_activity_types": []}, True, True),
        ({"supported_workflow_types": []}, True, True),
        ({"supported_workflow_types": ["job"]}, True, True),
        ({"supported_workflow_types": ["job"], "supported_activity_types": []}, True, False),
        ({"supported_workflow_types": [], "supported_activity_types": ["step"]}, False, True),
        ({"supported_activity_types": ["step"]}, True, True),
        ({"supported_workflow_types": ["other"], "supported_activity_types": ["step"]}, False, True),
    ],
)
async def test_absent_and_empty_type_lists(caller: Caller, lists: dict[str, Any], workflow: bool, activity: bool) -> None:
    host, worker = await caller.register(), await caller.register(**lists)
    await caller.start()
    await caller.complete(await caller.poll(host), schedule())
    await caller.start()
    tasks = await asyncio.gather(caller.poll_once(worker), caller.poll_once(worker, "activity"))
    assert [task is not None for task in tasks] == [workflow, activity]


async def test_polls_are_refused_for_workers_and_queues_that_do_not_fit(caller: Caller) -> None:
    worker = await caller.register(build_id="b1")
    body = {"worker_id": worker, "task_queue": caller.queue}
    for kind in ("workflow", "activity"):
        answer = await caller.call(f"{kind}-tasks/poll", {**body, "worker_id": "unknown"})
        assert reason_of(answer) == (412, "worker_not_registered")
        answer = await caller.call(f"{kind}-tasks/poll", {**body, "task_queue": "other"})
        assert reason_of(answer) == (409, "task_queue_mismatch")
        assert answer.json()["registered_task_queue"] == caller.queue
        answer = await caller.call(f"{kind}-tasks/poll", {**body, "build_id": "b2"})
        assert reason_of(answer) == (409, "build_id_mismatch")


async def test_a_held_poll_is_woken_by_new_work(caller: Caller) -> None:
    worker = await caller.register()
    took = []
    for _ in range(20):
        held = asyncio.create_task(caller.poll_once(worker))
        await caller.client.get("/api/health")
        since = time.monotonic()
        run = await caller.start()
        task = await held
        if task is None:  # the poll had ended just before
            task = await caller.poll(worker)
        took.append(time.monotonic() - since)
        assert task["run_id"] == run["run_id"]
        await caller.complete(task)
    assert sorted(took)[10] < 0.5
