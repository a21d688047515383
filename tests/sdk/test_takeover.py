"""A run that goes from a worker of another kind to an SDK worker: its view begins with the history so far."""

from __future__ import annotations

from typing import Any

import pytest
from durable_workflow import activity, serializer, workflow

from tests.sdk.features import TaskWatcher, decoded, work
from tests.sdk.harness import RESULT_SECONDS, SdkHarness, events_of, recorded, result_of, types
from tests.support.server import ServerProcess
from tests.wire.caller import Caller, caller_on

pytestmark = pytest.mark.sdk


@workflow.defn(name="inherited")
class Inherited:
    """Two activities at once, then a wait, then another activity."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    @workflow.signal("put")
    def put(self, value: Any) -> None:
        self.values.append(value)

    def run(self, ctx: Any) -> Any:
        pair = yield [ctx.schedule_activity("double", [1]), ctx.schedule_activity("double", [2])]
        yield ctx.wait_condition(lambda: len(self.values) >= 2, key="two")
        last = yield ctx.schedule_activity("double", [len(self.values)])
        return [pair, self.values, last]


@activity.defn(name="double")
async def double(value: int) -> int:
    return value * 2


def doubling(caller: Caller, value: int) -> dict[str, Any]:
    """The command the SDK would send."""
    arguments = serializer.envelope([value], codec="avro")
    return {"type": "schedule_activity", "activity_type": "double", "queue": caller.queue, "arguments": arguments}


@pytest.mark.parametrize("ended", [0, 1, 2])
async def test_an_sdk_worker_takes_over_a_list(scene: SdkHarness, server: ServerProcess, ended: int) -> None:
    """The list was scheduled by another kind of worker, and so many of its members ended there, the last first."""
    async with caller_on(server) as caller:
        caller.queue = scene.queue
        other = await caller.register()
        handle = await scene.start("inherited")
        task = await caller.poll(other)
        completed = await caller.complete(task, doubling(caller, 1), doubling(caller, 2))
        assert completed.status_code == 200
        attempts = [await caller.poll(other, "activity") for _ in range(2)]
        attempts.sort(key=lambda attempt: decoded(attempt)[0], reverse=True)
        for attempt in attempts[:ended]:
            result = serializer.envelope(decoded(attempt)[0] * 2, codec="avro")
            assert (await caller.activity_call("complete", attempt, result=result)).status_code == 200

        watch = TaskWatcher()
        await work(scene, [Inherited], [double], interceptors=[watch])
        for attempt in attempts[ended:]:
            result = serializer.envelope(decoded(attempt)[0] * 2, codec="avro")
            assert (await caller.activity_call("complete", attempt, result=result)).status_code == 200
        for number, value in enumerate("ab"):
            await recorded(handle, "ConditionWaitOpened", number + 1)
            await handle.signal("put", [value])
        assert await result_of(handle, RESULT_SECONDS) == [[2, 4], ["a", "b"], 4]
    names = types(await events_of(handle))
    assert (names.count("ActivityScheduled"), names.count("ActivityCompleted")) == (3, 3)
    assert handle.run_id is not None
    watch.of_run(handle.run_id)
