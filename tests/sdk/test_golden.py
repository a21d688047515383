"""Histories recorded by other releases: this SDK replays them, and the same code run here takes the same steps to the same end.

`tests/data/histories` holds the golden histories and replay regressions that the published clients share. Those whose
payloads have the form of later releases are compared step by step only: SDK 0.4 does not read that form.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import NonRetryableError, Replayer, WorkflowHandle, activity, workflow
from durable_workflow.errors import ActivityFailed, ChildWorkflowFailed

from api.payloads.codec import is_avro_blob
from tests.sdk.features import decoded
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of

pytestmark = pytest.mark.sdk

DATA = Path(__file__).parent.parent / "data" / "histories"
OWN_IDS = {"sequence", "workflow_sequence", "condition_wait_id", "timer_id", "update_id", "timeout_seconds", "delay_seconds"}
PAYLOADS = {"result", "arguments"}


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def cases(pattern: str) -> list[Any]:
    """The golden cases of these files."""
    names = sorted(path.stem for path in DATA.glob(pattern))
    assert names
    return [pytest.param(case, id=f"{name}:{case['name']}") for name in names for case in loaded(name)["cases"]]


# -- the code that made the histories ----------------------------------------------------------------------------------


@workflow.defn(name="golden.single-activity")
class SingleActivity:
    def run(self, ctx: Any, name: str) -> Any:
        return (yield ctx.schedule_activity("golden.hello", [name]))


@workflow.defn(name="golden.signal-wait")
class SignalWait:
    def __init__(self) -> None:
        self.approved_by: str | None = None

    @workflow.signal("approve")
    def approve(self, by: str) -> None:
        self.approved_by = by

    def run(self, ctx: Any) -> Any:
        yield ctx.wait_condition(lambda: self.approved_by is not None, key="approval", timeout=30)
        result = yield ctx.schedule_activity("golden.notify", [self.approved_by])
        return {"approved_by": self.approved_by, "activity_result": result}


@workflow.defn(name="golden.timeout-wait")
class TimeoutWait:
    def run(self, ctx: Any) -> Any:
        approved = yield ctx.wait_condition(lambda: False, key="approval", timeout=1)
        return "approved" if approved else "timed-out"


@workflow.defn(name="golden.version-marker")
class VersionMarker:
    def run(self, ctx: Any) -> Any:
        version = yield ctx.get_version("golden-version", 1, 2)
        return (yield ctx.schedule_activity("golden.version-new-path" if version == 2 else "golden.version-old-path", []))


@workflow.defn(name="golden.saga-compensation")
class SagaCompensation:
    def run(self, ctx: Any, order: str) -> Any:
        reservation = yield ctx.schedule_activity("golden.reserve-inventory", [order])
        try:
            yield ctx.start_child_workflow("golden.payment", [order])
        except ChildWorkflowFailed as error:
            yield ctx.schedule_activity("golden.release-inventory", [order, reservation, str(error)])


@workflow.defn(name="golden.payment")
class Payment:
    def run(self, ctx: Any, order: str) -> Any:
        yield from ()
        raise RuntimeError("payment declined")


class PlannedFailure(NonRetryableError):
    """The type a regression names."""


@workflow.defn(name="tests.replay.update-signal-condition-timer")
class Conditions:
    def __init__(self) -> None:
        self.message: str | None = None
        self.marker: str | None = None
        self.result: Any = None

    @workflow.update("set_message")
    def set_message(self, message: str) -> dict[str, str]:
        self.message = message
        return {"message": message}

    @workflow.signal("condition_ready")
    def condition_ready(self, marker: str) -> None:
        self.marker = marker

    @workflow.signal("finish")
    def finish(self, result: Any) -> None:
        self.result = result

    def run(self, ctx: Any) -> Any:
        failure_type = None
        yield ctx.start_timer(0)
        successful = yield ctx.schedule_activity("successful", [])
        try:
            yield ctx.schedule_activity("non-retryable-failure", [])
        except ActivityFailed as error:
            failure_type = error.exception_type
        completed = yield ctx.wait_condition(lambda: False, key="update-and-signal", timeout=1)
        after = yield ctx.schedule_activity("after-condition", [])
        yield ctx.wait_condition(lambda: self.result is not None, key="finish", timeout=30)
        return {
            "status": "completed",
            "successful": successful,
            "failure_type": failure_type,
            "message": self.message,
            "signal_marker": self.marker,
            "condition_completed": completed,
            "after_condition": after,
            "result": self.result,
        }


@workflow.defn(name="tests.replay.parallel-result-binding")
class ParallelResults:
    def run(self, ctx: Any) -> Any:
        results = yield [ctx.schedule_activity("position-first", []), ctx.schedule_activity("position-second", [])]
        return {"results": results}


WORKFLOWS = [SingleActivity, SignalWait, TimeoutWait, VersionMarker, SagaCompensation, Payment, Conditions, ParallelResults]


class Activities:
    """All activities of the histories; `position-first` ends when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.first = asyncio.Event()

    def all(self) -> list[Any]:
        answers = {
            "golden.hello": lambda name: f"hello {name}",
            "golden.notify": lambda by: "notified",
            "golden.version-new-path": lambda: None,
            "golden.reserve-inventory": lambda order: "reservation-456",
            "golden.release-inventory": lambda *arguments: None,
            "successful": lambda: {"activity": "successful"},
            "after-condition": lambda: {"activity": "after-condition"},
            "position-second": lambda: "second-position",
        }

        def answering(name: str, answer: Any) -> Any:
            @activity.defn(name=name)
            async def answered(*arguments: Any) -> Any:
                self.calls.append((name, list(arguments)))
                return answer(*arguments)

            return answered

        @activity.defn(name="non-retryable-failure")
        async def fails() -> None:
            raise PlannedFailure("planned typed failure")

        @activity.defn(name="position-first")
        async def first() -> str:
            await self.first.wait()
            return "first-position"

        return [fails, first, *(answering(name, answer) for name, answer in answers.items())]


# -- golden histories --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("python-sdk-0.3.1.json"))
def test_the_recorded_history_replays(case: dict[str, Any]) -> None:
    expected = case["expected"]
    replayer = Replayer(workflows=WORKFLOWS)
    found = replayer.replay({"events": case["history"]}, workflow_type=case["workflow_type"], start_input=case["start_input"])
    (command,) = found.commands
    assert type(command).__name__ == expected["command_type"]
    for name in expected.keys() - {"command_type"}:
        assert getattr(command, name) == expected[name]


def carries(ours: dict[str, Any], golden: dict[str, Any], *, json_form: bool) -> bool:
    """Whether our event says what the recorded one says; payloads compare by value where this SDK reads them."""
    for name, value in golden.items():
        if name in OWN_IDS:
            continue
        if name in PAYLOADS:
            if json_form and decoded(ours, name) != json.loads(value):
                return False
            if not json_form:
                assert is_avro_blob(value)  # a blob our server takes as it is
        elif ours.get(name) != value:
            return False
    return True


async def driven(handle: WorkflowHandle) -> None:
    """Send what a history names from outside."""
    if handle.workflow_type == "golden.signal-wait":
        await recorded(handle, "ConditionWaitOpened")
        await handle.signal("approve", ["alice"])


@pytest.mark.parametrize("case", [*cases("python-sdk-0.3.1.json"), *cases("python-sdk-2.0.0-*.json")])
async def test_the_same_code_takes_the_same_steps_here(scene: SdkHarness, case: dict[str, Any]) -> None:
    activities = Activities()
    await scene.work(WORKFLOWS, activities.all())
    handle = await scene.start(case["workflow_type"], *case["start_input"])
    await driven(handle)
    result = await result_of(handle)
    events = await events_of(handle)
    place = 0
    for golden in case["history"]:
        payload = golden["payload"]
        json_form = not any(is_avro_blob(payload[name]) for name in PAYLOADS & payload.keys())
        while not (
            events[place]["event_type"] == golden["event_type"]
            and carries(events[place]["payload"], payload, json_form=json_form)
        ):
            place += 1
            assert place < len(events), f"nothing like {golden}"
        place += 1
    expected = case["expected"]
    if expected["command_type"] == "CompleteWorkflow":
        assert result == expected["result"]
    else:
        assert activities.calls[-1] == (expected["activity_type"], expected["arguments"])
        later = [event["payload"].get("activity_type") for event in events[place:] if "Scheduled" in event["event_type"]]
        assert later == [expected["activity_type"]]


# -- replay regressions ------------------------------------------------------------------------------------------------


def test_a_condition_timeout_that_names_its_wait_replays() -> None:
    regression = loaded("update-signal-condition-timeout-explicit-identity")
    (command,) = Replayer(workflows=[Conditions]).replay({"events": regression["history"]}).commands
    assert type(command).__name__ == regression["expected"]["command_type"]
    assert getattr(command, "result") == regression["expected"]["result"]  # noqa: B009  # of one kind of command only


async def test_the_condition_timeouts_of_our_histories_name_their_waits(scene: SdkHarness) -> None:
    names = sorted(path.stem for path in DATA.glob("update-signal-condition-*.json"))
    expected = [loaded(name)["expected"]["result"] for name in names]
    assert len(names) == 4
    await scene.work(WORKFLOWS, Activities().all())
    handle = await scene.start("tests.replay.update-signal-condition-timer")
    await recorded(handle, "ConditionWaitOpened")
    assert (await handle.update("set_message", ["updated"], wait_for="completed"))["result"] == {"message": "updated"}
    await handle.signal("condition_ready", ["delivered"])
    await recorded(handle, "ConditionWaitTimedOut")

    async with asyncio.timeout(60):
        while "finish" not in [opened["condition_key"] for opened in of_type(await events_of(handle), "ConditionWaitOpened")]:
            await asyncio.sleep(0.02)
    await handle.signal("finish", [{"typed": "non-null"}])
    result = await result_of(handle)
    assert expected == [result] * 4
    events = await events_of(handle)
    waits = {opened["condition_wait_id"]: opened["condition_key"] for opened in of_type(events, "ConditionWaitOpened")}
    timers = of_type(events, "TimerScheduled")[1:]
    assert {timer["timer_kind"] for timer in timers} == {"condition_timeout"}
    assert all(waits[timer["condition_wait_id"]] == timer["condition_key"] for timer in timers)
    fired = of_type(events, "TimerFired")[1]
    assert (fired["timer_kind"], fired["condition_key"]) == ("condition_timeout", "update-and-signal")


async def test_results_bind_to_their_members_whatever_the_order_of_ending(scene: SdkHarness) -> None:
    regression = loaded("server-2.0.0-rc.39-parallel-completion-order")
    activities = Activities()
    await scene.work(WORKFLOWS, activities.all())
    handle = await scene.start("tests.replay.parallel-result-binding")
    await recorded(handle, "ActivityCompleted")
    activities.first.set()
    assert await result_of(handle) == regression["expected"]["result"]
    meant = [(event["event_type"], event["payload"].get("activity_type")) for event in regression["history"][1:]]
    ours = [(event["event_type"], event["payload"].get("activity_type")) for event in await events_of(handle)]
    assert [event for event in ours if event in meant] == meant  # history stays in the order of what happened
