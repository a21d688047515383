"""Child workflows, the parent's side: calls, their restarts and ends, what closing does to them (engine-semantics 8)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.commands.control import StartRun
from actors.run.commands.messages import ChildClosed, ChildOrigin, ChildRestarted, ParentClosed, StartChildRun
from actors.run.commands.steps import StartChild
from actors.run.events.stored import result_keys
from actors.run.events.types import EventType
from actors.run.failures import neutral_exception
from actors.run.next_task import wake_workflow
from actors.run.replies import TOO_EARLY, Done, Refused
from actors.run.state import Child
from actors.run.times import SECOND, Micros, iso, iso_seconds
from actors.run.transition import Transition
from actors.run.values import Payload, Resume
from actors.run.words import ClosedReason

_ENDINGS: dict[str, EventType] = {
    "completed": "ChildRunCompleted",
    "cancelled": "ChildRunCancelled",
    "terminated": "ChildRunTerminated",
}
NO_ARGUMENTS = {"avro": Payload("avro", "AARbXQI="), "json": Payload("json", "[]")}  # the empty list


def start(tx: Transition, command: StartChild, step: int) -> str:
    """Record the call; its first run is created by the message this sends, exactly once. Its first task's id."""
    state = tx.state
    workflow_id = tx.mint(ids.CHILD)
    call_id = tx.mint(ids.CHILD)
    link_id = tx.mint(ids.CHILD)
    # Derived from ids of this run, so that the same transition always names the same child.
    shard = ids.shard_of(state.namespace, workflow_id, tx.rules.shards)
    run_id = ids.new_run_id(tx.now // 1000, ids.derived_run_key(shard, workflow_id))
    retry, timeouts = _snapshots(command)
    child = Child(
        step=step,
        workflow_id=workflow_id,
        run_id=run_id,
        workflow_type=command.workflow_type,
        link_id=link_id,
        policy=command.parent_close_policy,
        started_at=tx.stamp,
    )
    keys = {**_keys(call_id, child), "parent_close_policy": command.parent_close_policy}
    options = {"retry_policy": retry, "timeout_policy": timeouts}
    tx.record("ChildWorkflowScheduled", {**keys, **options}, step=step)
    tx.record(
        "ChildRunStarted",
        {
            **keys,
            **options,
            "child_status": "pending",
            "execution_timeout_seconds": command.execution_timeout_seconds,
            "run_timeout_seconds": command.run_timeout_seconds,
            "execution_deadline_at": _deadline(tx.now, command.execution_timeout_seconds),
            "run_deadline_at": _deadline(tx.now, command.run_timeout_seconds),
        },
        step=step,
    )
    state.children[call_id] = child
    arguments = command.arguments or NO_ARGUMENTS[state.payload_codec]
    begin = StartRun(
        namespace=state.namespace,
        workflow_id=workflow_id,
        run_id=run_id,
        workflow_type=command.workflow_type,
        task_queue=command.queue or state.task_queue,
        arguments=arguments,
        payload_codec=arguments.codec,
        memo=tx.memo,
        search_attributes=state.search_attributes,
        execution_timeout_seconds=command.execution_timeout_seconds,
        run_timeout_seconds=command.run_timeout_seconds,
        priority=state.priority,
        fairness_key=state.fairness_key,
        fairness_weight=state.fairness_weight,
        compatibility=state.compatibility,
    )
    origin = ChildOrigin(state.workflow_id, state.run_id, step, call_id, link_id)
    tx.send(workflow_id, run_id, StartChildRun(begin, origin, command.retry_policy, retry, timeouts))
    return ids.first_task_of(run_id)


def _snapshots(command: StartChild) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    policy = command.retry_policy
    retry = None
    if policy is not None:
        retry = {
            "snapshot_version": 1,
            "max_attempts": policy.max_attempts,
            "backoff_seconds": policy.backoff_seconds,
            "non_retryable_error_types": policy.non_retryable_error_types,
        }
    timeouts = None
    if command.execution_timeout_seconds is not None or command.run_timeout_seconds is not None:
        timeouts = {
            "snapshot_version": 1,
            "execution_timeout_seconds": command.execution_timeout_seconds,
            "run_timeout_seconds": command.run_timeout_seconds,
        }
    return retry, timeouts


def _deadline(now: Micros, seconds: int | None) -> str | None:
    return None if seconds is None else iso_seconds(now + seconds * SECOND)


def _keys(call_id: str, child: Child) -> dict[str, Any]:
    return {
        "workflow_link_id": child.link_id,
        "child_call_id": call_id,
        "child_workflow_instance_id": child.workflow_id,
        "child_workflow_run_id": child.run_id,
        "child_workflow_class": child.workflow_type,
        "child_workflow_type": child.workflow_type,
        "child_run_number": child.run_number,
    }


# -- news from the child -----------------------------------------------------------------------------------------------


def restarted(tx: Transition, news: ChildRestarted) -> Done | Refused:
    """Another run of the call began: recorded, nobody is woken. Refused as `too_early` before the runs in between."""
    child = tx.state.children.get(news.child_call_id)
    if child is None or news.run_number <= child.run_number or not tx.state.is_open:
        return Done()
    if news.run_number > child.run_number + 1:
        return Refused(TOO_EARLY)
    child.run_id = news.run_id
    child.run_number = news.run_number
    child.workflow_type = news.workflow_type
    child.link_id = news.workflow_link_id
    tx.record(
        "ChildRunStarted",
        {
            **_keys(news.child_call_id, child),
            "child_status": "pending",
            "parent_close_policy": child.policy,
            "retry_policy": news.retry_policy,
            "timeout_policy": news.timeout_policy,
            "execution_timeout_seconds": news.execution_timeout_seconds,
            "run_timeout_seconds": news.run_timeout_seconds,
            "execution_deadline_at": None if news.execution_deadline_at is None else iso_seconds(news.execution_deadline_at),
            "run_deadline_at": None if news.run_deadline_at is None else iso_seconds(news.run_deadline_at),
            "retry_attempt": news.retry_attempt,
            "retry_of_child_workflow_run_id": news.retry_of_run_id,
            "retry_backoff_seconds": news.retry_backoff_seconds,
        },
        step=child.step,
    )
    return Done()


def closed(tx: Transition, news: ChildClosed) -> Done | Refused:
    """The call has its end: recorded once, with a task that shows it. Refused as `too_early` before its last run began."""
    state = tx.state
    child = state.children.get(news.child_call_id)
    if child is None or not state.is_open:
        return Done()
    if news.run_number > child.run_number:
        return Refused(TOO_EARLY)
    del state.children[news.child_call_id]
    child.run_id = news.run_id
    child.run_number = news.run_number
    child.workflow_type = news.workflow_type
    event_type = _ENDINGS.get(news.status, "ChildRunFailed")
    payload = {
        **_keys(news.child_call_id, child),
        "child_status": news.status,
        "closed_reason": news.closed_reason,
        "closed_at": iso(news.closed_at),
        **news.failure,
    }
    if event_type == "ChildRunFailed":
        payload["failure_category"] = _category_of_failure(news)
        payload["exception"] = exception = neutral_exception(news.failure.get("exception"))
        payload["code"] = 0 if exception is None else exception.get("code", 0)
    if event_type == "ChildRunCompleted":
        result = result_keys(news.result, news.payload_codec, state.payload_codec)
        payload |= {**result, "output": result.get("result")}
    tx.record(event_type, payload, step=child.step)
    context = Resume(
        workflow_wait_kind="child",
        open_wait_id=f"child:{news.child_call_id}",
        resume_source_kind="child_workflow_run",
        resume_source_id=news.run_id,
        child_call_id=news.child_call_id,
        child_workflow_run_id=news.run_id,
        workflow_sequence=child.step,
        workflow_event_type=event_type,
    )
    wake_workflow(tx, context, child.step)
    return Done()


def _category_of_failure(news: ChildClosed) -> str:
    """What a child's failure is to its parent (engine-semantics 8.2)."""
    if news.closed_reason == "timed_out":
        return "timeout"
    return "structural_limit" if news.failure.get("failure_category") == "structural_limit" else "child_workflow"


# -- the parent closes -------------------------------------------------------------------------------------------------


def apply_close_policies(tx: Transition, reason: ClosedReason) -> None:
    """The run closed (not: continued as new): each open child follows its policy, lowest step first (engine-semantics 8.5)."""
    for child in sorted(tx.state.children.values(), key=lambda child: child.step):
        if child.policy == "abandon":
            continue
        text = f"Parent workflow closed ({reason}); parent-close policy: {child.policy}."
        tx.record(
            "ParentClosePolicyApplied",
            {
                "child_instance_id": child.workflow_id,
                "child_run_id": child.run_id,
                "policy": child.policy,
                "reason": text,
            },
        )
        tx.send(child.workflow_id, child.run_id, ParentClosed(child.policy, text))
    tx.state.children = {}
