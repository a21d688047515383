"""Activities through the SDK: retries with backoff, the four timeouts, failures without retry, heartbeats, parallel lists.

The expected orders are those of engine-semantics 2.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from durable_workflow import ActivityRetryPolicy, activity, workflow
from durable_workflow.errors import ActivityFailed, NonRetryableError

from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, replays_to, result_of, types

pytestmark = pytest.mark.sdk

ONE_ATTEMPT = ["ActivityStarted"]
RETRIED = ["ActivityStarted", "ActivityRetryScheduled"]


@workflow.defn(name="one-activity")
class OneActivity:
    """Calls one activity with these options; a failure is the result, as the SDK shows it to the workflow."""

    def run(self, ctx: Any, name: str, options: dict[str, Any]) -> Any:
        options = dict(options)
        policy = options.pop("retry", None)
        if policy is not None:
            options["retry_policy"] = ActivityRetryPolicy(**policy)
        try:
            result = yield ctx.schedule_activity(name, ["argument"], **options)
        except ActivityFailed as error:
            return {
                "message": str(error),
                "type": error.exception_type,
                "class": error.exception_class,
                "category": error.failure_category,
                "non_retryable": error.non_retryable,
                "activity": error.activity_type,
            }
        return result


class Bench:
    """Activities a test can steer: how often they fail, and gates that hold them."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.failures = 0
        self.gate = asyncio.Event()
        self.returned = asyncio.Event()

    def activities(self) -> list[Any]:
        @activity.defn(name="flaky")
        async def flaky(argument: str) -> str:
            attempt = activity.context().info.attempt_number
            self.attempts.append(attempt)
            if attempt <= self.failures:
                raise ValueError(f"failure {attempt}")
            return f"{argument} after {attempt}"

        @activity.defn(name="fatal")
        async def fatal(argument: str) -> str:
            self.attempts.append(activity.context().info.attempt_number)
            raise NonRetryableError("no way")

        @activity.defn(name="held")
        async def held(argument: str) -> str:
            self.attempts.append(activity.context().info.attempt_number)
            await self.gate.wait()
            self.returned.set()
            return "late"

        @activity.defn(name="held-once")
        async def held_once(argument: str) -> str:
            attempt = activity.context().info.attempt_number
            self.attempts.append(attempt)
            if attempt == 1:
                await self.gate.wait()
            return f"attempt {attempt}"

        @activity.defn(name="beating")
        async def beating(argument: str) -> str:
            for step in range(8):
                await asyncio.sleep(0.3)
                await activity.context().heartbeat({"step": step})
            return "kept alive"

        return [flaky, fatal, held, held_once, beating]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Steered activities; whatever is still held is let go at the end."""
    made = Bench()
    yield made
    made.gate.set()


@pytest.fixture
async def ready(scene: SdkHarness, bench: Bench) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work([OneActivity, Parallel, Mixed, FailingMember, Sequence], [*bench.activities(), echo])
    return scene


@activity.defn(name="echo")
async def echo(value: Any) -> Any:
    return value


def seconds_between(first: dict[str, Any], second: dict[str, Any]) -> float:
    return (datetime.fromisoformat(second["timestamp"]) - datetime.fromisoformat(first["timestamp"])).total_seconds()


# -- failures and retries ----------------------------------------------------------------------------------------------


async def test_a_failing_activity_is_retried_with_backoff(ready: SdkHarness, bench: Bench) -> None:
    bench.failures = 2
    retry = {"max_attempts": 3, "initial_interval_seconds": 1.0, "backoff_coefficient": 1.0}
    result, events = await ready.run("one-activity", "flaky", {"retry": retry})
    assert result == "argument after 3"
    assert bench.attempts == [1, 2, 3]
    assert types(events) == [
        "ActivityScheduled",
        *RETRIED,
        *RETRIED,
        "ActivityStarted",
        "ActivityCompleted",
        "WorkflowCompleted",
    ]
    for retried, started in ((4, 5), (6, 7)):
        assert events[retried]["event_type"] == "ActivityRetryScheduled"
        assert seconds_between(events[retried], events[started]) >= 1.0
    first, second = of_type(events, "ActivityRetryScheduled")
    assert (first["retry_after_attempt"], second["retry_after_attempt"]) == (1, 2)
    assert (first["retry_backoff_seconds"], first["max_attempts"]) == (1, 3)
    assert (first["exception_type"], first["message"]) == ("ValueError", "failure 1")
    assert [started["attempt_number"] for started in of_type(events, "ActivityStarted")] == [1, 2, 3]
    assert len({started["activity_attempt_id"] for started in of_type(events, "ActivityStarted")}) == 3
    assert len({event["payload"]["activity_execution_id"] for event in events[2:-1]}) == 1
    replays_to(OneActivity, events, result)


async def test_attempts_run_out(ready: SdkHarness, bench: Bench) -> None:
    bench.failures = 9
    result, events = await ready.run("one-activity", "flaky", {"retry": {"max_attempts": 2, "initial_interval_seconds": 0}})
    assert result == {
        "message": "failure 2",
        "type": "ValueError",
        "class": "ValueError",
        "category": "activity",
        "non_retryable": False,
        "activity": "flaky",
    }
    assert types(events) == ["ActivityScheduled", *RETRIED, "ActivityStarted", "ActivityFailed", "WorkflowCompleted"]
    (failed,) = of_type(events, "ActivityFailed")
    assert (failed["attempt_number"], failed["failure_category"], failed["code"]) == (2, "activity", 0)
    replays_to(OneActivity, events, result)


async def test_without_a_policy_one_failure_is_final(ready: SdkHarness, bench: Bench) -> None:
    bench.failures = 1
    result, events = await ready.run("one-activity", "flaky", {})
    assert result["message"] == "failure 1"
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityFailed", "WorkflowCompleted"]


async def test_a_listed_error_type_is_not_retried(ready: SdkHarness, bench: Bench) -> None:
    bench.failures = 1
    retry = {"max_attempts": 5, "non_retryable_error_types": ["KeyError", "ValueError"]}
    result, events = await ready.run("one-activity", "flaky", {"retry": retry})
    assert (result["type"], bench.attempts) == ("ValueError", [1])
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityFailed", "WorkflowCompleted"]
    replays_to(OneActivity, events, result)


async def test_a_failure_that_says_so_is_not_retried(ready: SdkHarness, bench: Bench) -> None:
    result, events = await ready.run("one-activity", "fatal", {"retry": {"max_attempts": 5}})
    assert (result["type"], result["non_retryable"], bench.attempts) == ("NonRetryableError", True, [1])
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityFailed", "WorkflowCompleted"]
    assert of_type(events, "ActivityFailed")[0]["non_retryable"] is True
    replays_to(OneActivity, events, result)


# -- the four timeouts -------------------------------------------------------------------------------------------------


def timed_out(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (payload,) = of_type(events, "ActivityTimedOut")
    assert (payload["timeout_kind"], payload["failure_category"]) == (kind, "timeout")
    return payload


async def test_schedule_to_start(ready: SdkHarness) -> None:
    options = {"schedule_to_start_timeout": 1, "queue": f"{ready.queue}-nobody"}
    result, events = await ready.run("one-activity", "flaky", options)
    assert types(events) == ["ActivityScheduled", "ActivityTimedOut", "WorkflowCompleted"]
    payload = timed_out(events, "schedule_to_start")
    assert result["category"] == "timeout"
    assert result["message"].startswith("Activity flaky schedule-to-start deadline expired at ")
    assert payload["schedule_deadline_at"]
    assert seconds_between(events[2], events[3]) >= 1.0
    replays_to(OneActivity, events, result)


async def test_schedule_to_start_is_retried(ready: SdkHarness) -> None:
    retry = {"max_attempts": 2, "initial_interval_seconds": 0}
    options = {"schedule_to_start_timeout": 1, "queue": f"{ready.queue}-nobody", "retry": retry}
    result, events = await ready.run("one-activity", "flaky", options)
    assert types(events) == ["ActivityScheduled", "ActivityRetryScheduled", "ActivityTimedOut", "WorkflowCompleted"]
    assert of_type(events, "ActivityRetryScheduled")[0]["timeout_kind"] == "schedule_to_start"
    timed_out(events, "schedule_to_start")
    replays_to(OneActivity, events, result)


async def test_start_to_close_and_the_result_that_comes_too_late(ready: SdkHarness, bench: Bench) -> None:
    result, events = await ready.run("one-activity", "held", {"start_to_close_timeout": 1})
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityTimedOut", "WorkflowCompleted"]
    payload = timed_out(events, "start_to_close")
    assert payload["attempt_number"] == 1
    assert result["message"].startswith("Activity held start-to-close deadline expired at ")
    assert seconds_between(events[3], events[4]) >= 1.0
    replays_to(OneActivity, events, result)
    bench.gate.set()
    await bench.returned.wait()
    await ready.drain()
    assert await events_of(ready.client.get_workflow_handle(**ids_of(events))) == events


def ids_of(events: list[dict[str, Any]]) -> dict[str, str]:
    started = of_type(events, "WorkflowStarted")[0]
    return {"workflow_id": started["workflow_instance_id"], "run_id": started["workflow_run_id"]}


async def test_start_to_close_is_retried(ready: SdkHarness, bench: Bench) -> None:
    options = {"start_to_close_timeout": 1, "retry": {"max_attempts": 2, "initial_interval_seconds": 0}}
    result, events = await ready.run("one-activity", "held-once", options)
    assert (result, bench.attempts) == ("attempt 2", [1, 2])
    assert types(events) == [
        "ActivityScheduled",
        *RETRIED,
        "ActivityStarted",
        "ActivityCompleted",
        "WorkflowCompleted",
    ]
    assert of_type(events, "ActivityRetryScheduled")[0]["timeout_kind"] == "start_to_close"
    replays_to(OneActivity, events, result)


async def test_schedule_to_close_ends_all_attempts(ready: SdkHarness, bench: Bench) -> None:
    bench.failures = 99
    options = {"schedule_to_close_timeout": 2, "retry": {"max_attempts": 50, "backoff_seconds": [1]}}
    result, events = await ready.run("one-activity", "flaky", options)
    timed_out(events, "schedule_to_close")
    assert result["message"].startswith("Activity flaky schedule-to-close deadline expired at ")
    tried = len(bench.attempts)
    assert 1 <= tried <= 3
    assert types(events) == ["ActivityScheduled", *RETRIED * tried, "ActivityTimedOut", "WorkflowCompleted"]
    assert seconds_between(events[2], events[-2]) >= 2.0
    replays_to(OneActivity, events, result)


async def test_heartbeat_timeout(ready: SdkHarness) -> None:
    result, events = await ready.run("one-activity", "held", {"heartbeat_timeout": 1, "start_to_close_timeout": 60})
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityTimedOut", "WorkflowCompleted"]
    timed_out(events, "heartbeat")
    assert result["message"].endswith("(last heartbeat: never).")
    replays_to(OneActivity, events, result)


async def test_heartbeats_keep_an_activity_alive(ready: SdkHarness) -> None:
    result, events = await ready.run("one-activity", "beating", {"heartbeat_timeout": 1})
    assert result == "kept alive"
    beats = ["ActivityHeartbeatRecorded"] * 8
    assert types(events) == ["ActivityScheduled", "ActivityStarted", *beats, "ActivityCompleted", "WorkflowCompleted"]
    assert [beat["progress"]["details"] for beat in of_type(events, "ActivityHeartbeatRecorded")] == [
        {"step": step} for step in range(8)
    ]
    replays_to(OneActivity, events, result)


# -- lists -------------------------------------------------------------------------------------------------------------


@workflow.defn(name="parallel")
class Parallel:
    def run(self, ctx: Any, count: int) -> Any:
        results = yield [ctx.schedule_activity("ordered", [number]) for number in range(count)]
        return results


@workflow.defn(name="mixed")
class Mixed:
    def run(self, ctx: Any) -> Any:
        first = yield [
            ctx.schedule_activity("echo", ["a"]),
            ctx.start_timer(1),
            ctx.schedule_activity("echo", ["b"]),
            ctx.start_timer(0),
        ]
        last = yield ctx.schedule_activity("echo", ["c"])
        return [*first, last]


@workflow.defn(name="failing-member")
class FailingMember:
    def run(self, ctx: Any) -> Any:
        try:
            yield [ctx.schedule_activity("echo", [1]), ctx.schedule_activity("fatal", [2]), ctx.start_timer(1)]
        except ActivityFailed as error:
            return str(error)
        return "nothing failed"


@workflow.defn(name="sequence")
class Sequence:
    def run(self, ctx: Any, count: int) -> Any:
        total = 0
        for number in range(count):
            total += yield ctx.schedule_activity("echo", [number])
        return total


class Reverse:
    """An activity `ordered` whose calls end in reverse order: each waits for the next one's completion to be recorded."""

    def __init__(self, count: int) -> None:
        self.gates = [asyncio.Event() for _ in range(count)]

    def activity(self) -> Any:
        @activity.defn(name="ordered")
        async def ordered(number: int) -> int:
            await self.gates[number].wait()
            return number * 10

        return ordered


async def test_a_list_that_ends_in_reverse_order_gives_its_results_in_list_order(scene: SdkHarness) -> None:
    count = 4
    reverse = Reverse(count)
    await scene.work([Parallel], [reverse.activity()])
    handle = await scene.start("parallel", count)
    await recorded(handle, "ActivityStarted", count)
    for number in reversed(range(count)):
        reverse.gates[number].set()
        await recorded(handle, "ActivityCompleted", count - number)
    assert await result_of(handle) == [0, 10, 20, 30]
    events = await events_of(handle)
    scheduled = [payload["sequence"] for payload in of_type(events, "ActivityScheduled")]
    assert scheduled == sorted(scheduled)
    assert len(scheduled) == count
    assert [payload["sequence"] for payload in of_type(events, "ActivityCompleted")] == scheduled[::-1]
    assert types(events)[:count] == ["ActivityScheduled"] * count


async def test_a_list_that_ends_in_order_replays(scene: SdkHarness) -> None:
    reverse = Reverse(3)
    await scene.work([Parallel], [reverse.activity()])
    handle = await scene.start("parallel", 3)
    for number in range(3):
        reverse.gates[number].set()
        await recorded(handle, "ActivityCompleted", number + 1)
    assert await result_of(handle) == [0, 10, 20]
    replays_to(Parallel, await events_of(handle), [0, 10, 20])


async def test_a_mixed_list_of_activities_and_timers(ready: SdkHarness) -> None:
    result, events = await ready.run("mixed")
    assert result == ["a", None, "b", None, "c"]
    assert types(events)[:4] == ["ActivityScheduled", "TimerScheduled", "ActivityScheduled", "TimerScheduled"]
    assert len(of_type(events, "TimerFired")) == 2
    assert len(of_type(events, "ActivityScheduled")) == 3


async def test_a_failing_member_of_a_list(ready: SdkHarness) -> None:
    result, events = await ready.run("failing-member")
    assert result == "no way"
    assert types(events)[:3] == ["ActivityScheduled", "ActivityScheduled", "TimerScheduled"]
    assert types(events)[-1] == "WorkflowCompleted"


async def test_steps_one_after_the_other(ready: SdkHarness) -> None:
    result, events = await ready.run("sequence", 25)
    assert result == sum(range(25))
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityCompleted"] * 25 + ["WorkflowCompleted"]
    replays_to(Sequence, events, result)
