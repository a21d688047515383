"""Random batches of commands, and what the contract says they record (engine-semantics 2.5, 3, 6.2)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from actors.run.commands.steps import (
    TERMINAL_STEPS,
    CompleteUpdate,
    CompleteWorkflow,
    ContinueAsNew,
    FailUpdate,
    FailWorkflow,
    OpenConditionWait,
    RecordSideEffect,
    RecordVersionMarker,
    ScheduleActivity,
    StartChild,
    StartTimer,
    UpsertSearchAttributes,
    WorkflowCommand,
)
from actors.run.values import RetryPolicy
from tests.core.harness import blob, finish, onward, wait

SECONDS = st.sampled_from([None, None, None, 1, 5, 20, 90])
POLICIES = st.sampled_from(["abandon", "request_cancel", "terminate"])

retries = st.none() | st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 3),
    backoff_seconds=st.lists(st.sampled_from([0, 1, 10]), max_size=2),
    non_retryable_error_types=st.lists(st.just("Bad"), max_size=1),
)
activities = st.builds(
    ScheduleActivity,
    activity_type=st.sampled_from(["a", "b"]),
    arguments=st.sampled_from([None, blob("ARGS")]),
    retry_policy=retries,
    start_to_close_timeout=SECONDS,
    heartbeat_timeout=SECONDS,
)
timers = st.builds(StartTimer, st.sampled_from([0, 1, 10, 30]))
children = st.builds(
    StartChild,
    workflow_type=st.sampled_from(["part", "other"]),
    arguments=st.sampled_from([None, blob("ARGS")]),
    parent_close_policy=POLICIES,
    retry_policy=retries,
    execution_timeout_seconds=st.sampled_from([None, None, 200]),
    run_timeout_seconds=st.sampled_from([None, None, None, 100]),
)
waits = st.builds(wait, st.sampled_from(["a", "a", "b", None]), st.sampled_from([None, None, 0, 5, 60]))
immediate: st.SearchStrategy[WorkflowCommand] = st.sampled_from(
    [
        RecordSideEffect(blob("VALUE")),
        RecordVersionMarker("change", 2, 1, 3),
        UpsertSearchAttributes({"stage": "two", "gone": None}),
    ]
)
grouped = st.lists(activities | timers | children, min_size=1, max_size=3)
batches: st.SearchStrategy[Any] = (
    grouped
    | waits.map(lambda one: [one])
    | waits.map(lambda one: [one])
    | st.tuples(st.lists(immediate, max_size=2), grouped | waits.map(lambda one: [one])).map(lambda pair: [*pair[0], *pair[1]])
    | st.lists(immediate, min_size=1, max_size=2)
)
terminal: st.SearchStrategy[WorkflowCommand] = st.sampled_from(
    [finish(), FailWorkflow("no"), FailWorkflow("no", "Bad", non_retryable=True), onward(), onward(None)]
)
endings = st.tuples(st.lists(activities | children | immediate, max_size=1), terminal).map(lambda pair: [pair[1], *pair[0]])


def says(steps: list[WorkflowCommand], queue: str) -> list[tuple[Any, ...]]:
    """What makes two batches the same one (engine-semantics 3.2): no other option of a command does."""
    out: list[tuple[Any, ...]] = []
    for step in steps:
        match step:
            case ScheduleActivity():
                out.append(("activity", step.activity_type, step.queue or queue, step.arguments))
            case StartChild():
                out.append(("child", step.workflow_type, step.queue or queue, step.arguments))
            case StartTimer():
                out.append(("timer", step.delay_seconds))
            case _:
                out.append(("other", step))
    return out


def reopens(steps: list[WorkflowCommand], key: str | None, fingerprint: str | None) -> bool:
    """Whether a batch only opens the wait again that it was shown open (engine-semantics 6.2)."""
    lone = steps[0] if len(steps) == 1 else None
    return (
        isinstance(lone, OpenConditionWait)
        and lone.condition_key == key
        and lone.condition_definition_fingerprint == fingerprint
    )


def records(steps: list[WorkflowCommand]) -> list[str]:
    """The events the commands of a batch record, the terminal one last wherever it stands."""
    out: list[str] = []
    for step in [step for step in steps if not isinstance(step, TERMINAL_STEPS)]:
        out += _records(step)
    for last in [step for step in steps if isinstance(step, TERMINAL_STEPS)]:
        out += _records(last)
    return out


def _records(step: WorkflowCommand) -> list[str]:
    match step:
        case ScheduleActivity():
            return ["ActivityScheduled"]
        case StartTimer():
            return ["TimerScheduled"]
        case StartChild():
            return ["ChildWorkflowScheduled", "ChildRunStarted"]
        case OpenConditionWait():
            return ["ConditionWaitOpened", "TimerScheduled"] if step.timeout_seconds else ["ConditionWaitOpened"]
        case RecordSideEffect():
            return ["SideEffectRecorded"]
        case RecordVersionMarker():
            return ["VersionMarkerRecorded"]
        case UpsertSearchAttributes():
            return ["SearchAttributesUpserted"]
        case CompleteUpdate():
            return ["UpdateApplied", "UpdateCompleted"]
        case FailUpdate():
            return ["UpdateCompleted"]
        case CompleteWorkflow():
            return ["WorkflowCompleted"]
        case FailWorkflow():
            return ["WorkflowFailed"]
        case ContinueAsNew():
            return ["WorkflowContinuedAsNew"]
