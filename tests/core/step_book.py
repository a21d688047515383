"""What a run's history says about its steps, event by event (contract engine-semantics 14: 9 to 12, 14, 15, 22).

Knows the contract, not the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.core.harness import Event

ENDS_OF_ACTIVITIES = ("ActivityCompleted", "ActivityFailed", "ActivityTimedOut")
ENDS_OF_CHILDREN = ("ChildRunCompleted", "ChildRunFailed", "ChildRunCancelled", "ChildRunTerminated")
# What a worker is shown as the result of a step, and waits for in step order.
RESOLUTIONS = (*ENDS_OF_ACTIVITIES, "TimerFired", *ENDS_OF_CHILDREN)
GROUPED = ("ActivityScheduled", "TimerScheduled", "ChildWorkflowScheduled")
WAIT = "ConditionWaitOpened"
IMMEDIATE = ("SideEffectRecorded", "VersionMarkerRecorded", "SearchAttributesUpserted", "WorkflowContinuedAsNew")


def micros(text: str) -> int:
    """A time of an event or payload, in microseconds."""
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1_000_000)


def is_timeout(event: Event) -> bool:
    """Whether an event is about the timer of a condition wait."""
    return event["payload"].get("timer_kind") == "condition_timeout"


@dataclass
class StepRecord:
    """What history says about one step."""

    kind: str
    opened: int
    payload: dict[str, Any]
    task: str | None
    started: list[dict[str, Any]] = field(default_factory=list)
    retried: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    resolved: str | None = None
    resolution_id: str | None = None
    running: str | None = None
    not_before: int = 0
    timer: dict[str, Any] | None = None


class StepBook:
    """Follows the steps of one run."""

    def __init__(self) -> None:
        self.steps: dict[int, StepRecord] = {}
        self.batches: list[list[int]] = []
        self.wait: int | None = None
        self._fired: int | None = None

    def transition(self, events: list[Event]) -> None:
        """The blocking steps one transition opened are one batch."""
        batch = [event["payload"]["sequence"] for event in events if event["event_type"] in GROUPED and not is_timeout(event)]
        if batch:
            self.batches.append(batch)
        assert self._fired is None, "15: a timeout fired and ended no wait"

    def read(self, event: Event, at: int, time: int) -> None:
        """The event at a place of the history, recorded at `time`."""
        kind, payload = event["event_type"], event["payload"]
        number = payload.get("sequence")
        if number is None:
            return
        opens = kind in GROUPED and not is_timeout(event)
        closes_update = kind == "UpdateCompleted" and number == len(self.steps) and self.steps[number].kind == "UpdateApplied"
        if closes_update:
            assert self.steps[number].opened == at - 1
        elif opens or kind in (WAIT, *IMMEDIATE, "UpdateApplied", "UpdateCompleted"):
            assert number == len(self.steps) + 1, "9: steps are numbered in the order of the commands"
            self.steps[number] = StepRecord(kind, at, payload, event["workflow_task_id"])
            if kind == WAIT:
                self._open_wait(number)
        else:
            self._step(self.steps[number], event, time)

    def showable(self, number: int) -> bool:
        """V3: whether nothing of its batch holds the resolution of this step back."""
        batch = next((each for each in self.batches if number in each), [number])
        return all(self.steps[earlier].resolved for earlier in batch[: batch.index(number)])

    def unresolved(self, kind: str) -> set[int]:
        """Numbers of the steps of a kind that have no end."""
        return {number for number, step in self.steps.items() if step.kind == kind and step.resolved is None}

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _open_wait(self, number: int) -> None:
        if self.wait is not None:
            self.steps[self.wait].resolved = "superseded"
        self.wait = number

    def _step(self, step: StepRecord, event: Event, time: int) -> None:
        kind, payload = event["event_type"], event["payload"]
        if step.kind == WAIT:
            self._of_wait(step, event, time)
            return
        assert step.resolved is None, f"10, 11: {kind} after {step.resolved}"
        if step.kind == "TimerScheduled":
            assert kind in ("TimerFired", "TimerCancelled") and payload["timer_id"] == step.payload["timer_id"], "10"
            assert kind != "TimerFired" or time >= micros(step.payload["fire_at"]), "14"
        elif step.kind == "ChildWorkflowScheduled":
            self._of_child(step, event)
        else:
            assert step.kind == "ActivityScheduled", "10: no resolution without its opening"
            assert payload["activity_execution_id"] == step.payload["activity_execution_id"]
            self._of_activity(step, event, time)
        if kind in RESOLUTIONS or kind in ("ActivityCancelled", "TimerCancelled"):
            step.resolved = kind
            step.resolution_id = event["id"]

    def _of_activity(self, step: StepRecord, event: Event, time: int) -> None:
        kind, payload = event["event_type"], event["payload"]
        attempt = payload.get("activity_attempt_id")
        if kind == "ActivityStarted":
            number = payload["attempt_number"]
            assert not step.started or number > step.started[-1]["attempt_number"], "11"
            assert time >= step.not_before, "12: before its backoff ended"
            assert attempt not in {each["activity_attempt_id"] for each in step.started}
            step.started.append(payload)
            step.running = attempt
        elif kind == "ActivityRetryScheduled":
            assert attempt == step.running, "11: a retry after another attempt than the last"
            step.retries += 1
            assert step.retries < payload["max_attempts"], "11"
            if attempt is not None:
                assert attempt not in step.retried, "12"
                step.retried[attempt] = 1
            step.running = None
            step.not_before = micros(payload["retry_available_at"])
        elif attempt is not None:
            assert step.running == attempt, f"11: {kind} of an attempt that does not run"
            assert attempt not in step.retried, "12"
            assert payload["attempt_number"] == step.started[-1]["attempt_number"]

    def _of_child(self, step: StepRecord, event: Event) -> None:
        kind, payload = event["event_type"], event["payload"]
        for same in ("child_call_id", "child_workflow_instance_id"):
            assert payload[same] == step.payload[same], "22"
        if kind == "ChildRunStarted":
            assert not step.started or payload["child_run_number"] > step.started[-1]["child_run_number"], "22"
            step.started.append(payload)
        else:
            assert kind in ENDS_OF_CHILDREN and step.started, "22: the end of a child that never began"
            assert payload["child_run_number"] >= step.started[-1]["child_run_number"], "22: the end of another run"

    def _of_wait(self, step: StepRecord, event: Event, time: int) -> None:
        kind, payload = event["event_type"], event["payload"]
        assert payload["condition_wait_id"] == step.payload["condition_wait_id"], "15"
        number = payload["sequence"]
        open_ = self.wait == number
        if kind == "TimerScheduled":
            assert open_ and step.timer is None and step.payload["timeout_seconds"] > 0
            step.timer = payload
        elif kind == "TimerFired":
            assert open_ and step.timer is not None and time >= micros(step.timer["fire_at"]), "14"
            self._fired = number
        elif kind == "ConditionWaitTimedOut":
            timeout = step.payload["timeout_seconds"]
            assert open_ and (self._fired == number or timeout == 0), "15"
            self._fired = self.wait = None
            step.resolved, step.resolution_id = kind, event["id"]
        elif kind == "ConditionWaitSatisfied":
            assert open_ and step.timer == (payload.get("timer_id") and step.timer), "15"
            self.wait = None
            step.resolved = kind
        else:
            assert kind == "TimerCancelled" and step.timer is not None, kind
            assert step.resolved in (None, "ConditionWaitSatisfied"), "14: a timer has one end"
            assert step.resolved is None or "cancelled" not in step.timer, "14"
            step.timer = {**step.timer, "cancelled": True}
            if step.resolved is None:
                assert open_
                self.wait = None
                step.resolved = "cancelled"
