"""Queries through the SDK: running and closed runs, unknown names, bad arguments, no worker, timeouts; nothing is recorded.

Contract: engine-semantics 7.4 and 2.6 (V6), control-plane 5.8, worker-protocol 8.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from durable_workflow import QueryFailed, ServerError, WorkflowHandle, WorkflowNotFound, activity, workflow
from durable_workflow.errors import WorkflowCancelled, WorkflowFailed
from durable_workflow.workflow import ContinueAsNew

from tests.sdk.features import TaskWatcher, decoded, handle_of_run, post, run_handles, work
from tests.sdk.harness import SdkHarness, events_of, recorded, result_of, scene_on
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.sdk


@workflow.defn(name="asked")
class Asked:
    """Answers questions about the values it has seen."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.stage = "new"

    @workflow.signal("put")
    def put(self, value: Any) -> None:
        self.seen.append(value)

    @workflow.query("seen")
    def get_seen(self) -> list[Any]:
        return self.seen

    @workflow.query("status")
    def status(self) -> dict[str, Any]:
        return {"stage": self.stage, "count": len(self.seen)}

    @workflow.query("nth")
    def nth(self, index: int, default: Any = None) -> Any:
        return self.seen[index] if index < len(self.seen) else default

    @workflow.query("fails")
    def fails(self) -> None:
        raise LookupError("cannot say")

    @workflow.query("nothing")
    def nothing(self) -> None:
        return None

    @workflow.query("opaque")
    def opaque(self) -> Any:
        return object()

    def run(self, ctx: Any, ending: str) -> Any:
        self.stage = "waiting"
        yield ctx.wait_condition(lambda: "go" in self.seen, key="go")
        if ending == "fail":
            raise ValueError("as told")
        if ending == "again":
            return ContinueAsNew(arguments=["complete"])
        self.stage = "working"
        yield ctx.schedule_activity("held", [])
        self.stage = "over"
        return self.seen


class Gate:
    """The activity `held`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    def activity(self) -> Any:
        @activity.defn(name="held")
        async def held() -> None:
            await self.open.wait()

        return held


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Opened at the end."""
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
async def ready(scene: SdkHarness, gate: Gate) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work([Asked], [gate.activity()])
    return scene


async def waiting(scene: SdkHarness, ending: str = "complete") -> WorkflowHandle:
    handle = await scene.start("asked", ending)
    await recorded(handle, "ConditionWaitOpened")
    return handle


async def refusal(handle: WorkflowHandle, name: str, arguments: list[Any] | None = None) -> tuple[int | None, str | None, str]:
    """How the query is refused: status, reason, message."""
    with pytest.raises(QueryFailed) as refused:
        await handle.query(name, arguments)
    return refused.value.status, refused.value.reason, str(refused.value)


async def test_a_running_workflow(ready: SdkHarness, gate: Gate) -> None:
    handle = await waiting(ready)
    answer = await handle.query("status")
    assert answer["result"] == {"stage": "waiting", "count": 0}
    assert decoded({"arguments": answer["result_envelope"]}) == {"stage": "waiting", "count": 0}
    assert (answer["workflow_id"], answer["run_id"], answer["query_name"]) == (handle.workflow_id, handle.run_id, "status")
    assert (answer["target_scope"], answer["reason"]) == ("instance", None)
    await handle.signal("put", ["go"])
    await recorded(handle, "ActivityStarted")
    assert (await handle.query("status"))["result"] == {"stage": "working", "count": 1}
    gate.open.set()
    assert await result_of(handle) == ["go"]
    assert (await handle.query("status"))["result"] == {"stage": "over", "count": 1}


async def test_arguments(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    await handle.signal("put", [{"n": 1}])
    assert (await handle.query("nth", [0]))["result"] == {"n": 1}
    assert (await handle.query("nth", [5, "nope"]))["result"] == "nope"
    assert (await handle.query("nth", [5]))["result"] is None
    assert (await handle.query("nothing"))["result"] is None


async def test_answers_hold_integers_of_any_size(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    await handle.signal("put", [10**20])
    await handle.signal("put", [{"deep": [-(10**400)]}])
    assert (await handle.query("seen"))["result"] == [10**20, {"deep": [-(10**400)]}]


async def test_nothing_is_recorded(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    before = await events_of(handle)
    for _ in range(5):
        await handle.query("seen")
    await refusal(handle, "fails")
    assert await events_of(handle) == before
    assert (await handle.describe()).status == "waiting"


async def test_every_accepted_signal_is_reflected(scene: SdkHarness, gate: Gate) -> None:
    watch = TaskWatcher()
    await work(scene, [Asked], [gate.activity()], interceptors=[watch])
    handle = await waiting(scene)
    watch.hold()
    for value in "abc":
        await handle.signal("put", [value])
    await watch.held()  # the task of the first signal is leased; the others have had none
    assert (await handle.query("seen"))["result"] == ["a", "b", "c"]
    watch.release()


async def test_before_the_first_task_is_done(scene: SdkHarness, gate: Gate) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, [Asked], [gate.activity()], interceptors=[watch])
    handle = await scene.start("asked", "complete")
    await watch.held()
    assert (await handle.query("status"))["result"] == {"stage": "waiting", "count": 0}
    watch.release()


async def test_an_applied_update_is_reflected(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    await handle.signal("put", [1])
    await recorded(handle, "ConditionWaitOpened", 2)
    assert (await handle.query("seen"))["result"] == [1]


async def test_many_at_once(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    for value in range(3):
        await handle.signal("put", [value])
    answers = await asyncio.gather(*(handle.query("nth", [number % 3]) for number in range(30)))
    assert [answer["result"] for answer in answers] == [number % 3 for number in range(30)]


async def test_an_unknown_query(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    status, reason, _ = await refusal(handle, "no-such-query")
    assert (status, reason) == (404, "rejected_unknown_query")


async def test_a_handler_that_raises(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    status, reason, message = await refusal(handle, "fails")
    assert (status, reason) == (409, "query_rejected")
    assert "cannot say" in message


async def test_invalid_arguments(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    status, reason, message = await refusal(handle, "nth", [])
    assert (status, reason) == (409, "query_rejected")
    assert "argument" in message


async def test_a_result_nobody_can_encode(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    # The worker's own reason is passed on (control-plane 5.8); this SDK has no name of its own for it.
    with pytest.raises(ServerError) as refused:
        await handle.query("opaque")
    assert (refused.value.status, refused.value.reason()) == (409, "query_result_encode_failed")


async def test_a_closed_run(ready: SdkHarness, gate: Gate) -> None:
    handle = await waiting(ready)
    await handle.signal("put", ["go"])
    gate.open.set()
    assert await result_of(handle) == ["go"]
    assert (await handle.query("seen"))["result"] == ["go"]
    assert (await refusal(handle, "no-such-query"))[:2] == (404, "rejected_unknown_query")


async def test_a_cancelled_run(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    await handle.signal("put", ["x"])
    await recorded(handle, "ConditionWaitOpened", 2)
    await handle.cancel()
    with pytest.raises(WorkflowCancelled):
        await result_of(handle)
    assert (await handle.query("status"))["result"] == {"stage": "waiting", "count": 1}


async def test_a_failed_run_has_no_state(ready: SdkHarness) -> None:
    handle = await waiting(ready, "fail")
    await handle.signal("put", ["go"])
    with pytest.raises(WorkflowFailed):
        await result_of(handle)
    status, reason, message = await refusal(handle, "seen")
    assert (status, reason) == (409, "query_workflow_state_unavailable")
    assert "as told" in message


async def test_a_continued_run(ready: SdkHarness, server: ServerProcess) -> None:
    handle = await waiting(ready, "again")
    await handle.signal("put", ["go"])
    newest = handle_of_run(ready, handle.workflow_id)

    old, new = None, None
    async with asyncio.timeout(30):
        while new is None:
            old, *rest = await run_handles(ready, handle.workflow_id)
            new = rest[0] if rest else None
    assert old is not None
    await recorded(new, "ConditionWaitOpened")
    answer = await newest.query("status")
    assert (answer["run_id"], answer["result"]) == (new.run_id, {"stage": "waiting", "count": 0})
    async with server.client() as client:
        status, body = await post(client, f"/workflows/{handle.workflow_id}/runs/{new.run_id}/query/status")
        assert (status, body["result"]) == (200, {"stage": "waiting", "count": 0})
        status, body = await post(client, f"/workflows/{handle.workflow_id}/runs/{old.run_id}/query/status")
        assert (status, body["reason"]) == (409, "historical_run_command_rejected")


async def test_no_worker(scene: SdkHarness) -> None:
    handle = await scene.start("asked", "complete")
    status, reason, _ = await refusal(handle, "status")
    assert (status, reason) == (409, "query_worker_unavailable")


async def test_no_worker_of_this_type(scene: SdkHarness) -> None:
    @workflow.defn(name="other")
    class Other:
        def run(self, ctx: Any) -> Any:
            return None

    await scene.work([Other])
    other = await scene.start("other")
    assert await result_of(other) is None
    handle = await scene.start("asked", "complete")
    status, reason, _ = await refusal(handle, "status")
    assert (status, reason) == (409, "query_worker_unavailable")


async def test_a_query_to_nobody(scene: SdkHarness) -> None:
    with pytest.raises(WorkflowNotFound):
        await scene.client.query_workflow("there-is-no-such-id", "status")


# -- workers that do not answer ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that waits one second for an answer, and lets one query wait per queue."""
    env = {"DW_QUERY_TASK_TIMEOUT": "1", "DW_QUERY_TASK_MAX_PENDING_PER_QUEUE": "2"}
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("hasty"), env=env)
    try:
        yield process.start()
    finally:
        process.stop()


async def silent_worker(scene: SdkHarness) -> str:
    """A worker that is registered and does nothing."""
    worker_id = f"silent-{secrets.token_hex(4)}"
    await scene.client.register_worker(
        worker_id=worker_id,
        task_queue=scene.queue,
        supported_workflow_types=["asked"],
        supported_activity_types=[],
        capabilities=["query_tasks"],
    )
    return worker_id


async def test_a_worker_that_does_not_answer(hasty_server: ServerProcess) -> None:
    async with scene_on(hasty_server) as scene:
        await silent_worker(scene)
        handle = await scene.start("asked", "complete")
        status, reason, _ = await refusal(handle, "status")
        assert (status, reason) == (504, "query_worker_timeout")


async def test_a_worker_that_answers_too_late(hasty_server: ServerProcess) -> None:
    async with scene_on(hasty_server) as scene, hasty_server.client() as client:
        worker_id = await silent_worker(scene)
        handle = await scene.start("asked", "complete")
        asking = asyncio.create_task(post(client, f"/workflows/{handle.workflow_id}/query/status"))
        task = await scene.client.poll_query_task(worker_id=worker_id, task_queue=scene.queue)
        assert task is not None
        assert (task["query_name"], task["query_task_attempt"]) == ("status", 1)
        assert (task["workflow_id"], task["run_id"], task["lease_owner"]) == (handle.workflow_id, handle.run_id, worker_id)
        assert [event["event_type"] for event in task["history_events"]] == ["StartAccepted", "WorkflowStarted"]
        status, body = await asking
        assert (status, body["reason"]) == (504, "query_worker_timeout")
        with pytest.raises(ServerError) as refused:
            await scene.client.complete_query_task(
                query_task_id=task["query_task_id"], lease_owner=worker_id, query_task_attempt=1, result="late"
            )
        assert (refused.value.status, refused.value.reason()) in {
            (409, "query_task_not_leased"),
            (404, "query_task_not_found"),
        }


async def test_too_many_queries_wait(hasty_server: ServerProcess) -> None:
    async with scene_on(hasty_server) as scene, hasty_server.client() as client:
        await silent_worker(scene)
        handle = await scene.start("asked", "complete")
        path = f"/workflows/{handle.workflow_id}/query/status"
        answers = await asyncio.gather(*(post(client, path) for _ in range(6)))
        assert sorted((status, body["reason"]) for status, body in answers) == [
            *[(429, "query_task_queue_full")] * 4,
            *[(504, "query_worker_timeout")] * 2,
        ]
