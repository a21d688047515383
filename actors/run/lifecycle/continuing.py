"""One run after another under one workflow id: continue-as-new, and the retry of a failed child (engine-semantics 8.3, 8.4)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.commands.messages import ChildClosed, ChildRestarted
from actors.run.commands.steps import ContinueAsNew
from actors.run.events.stored import arguments_of
from actors.run.inbox import signals, updates
from actors.run.rules import backoff_after
from actors.run.state import Origin, RunState
from actors.run.times import SECOND, iso, iso_seconds
from actors.run.transition import Transition
from actors.run.values import Payload
from actors.run.words import RunStatus


def continue_as_new(tx: Transition, command: ContinueAsNew) -> str:
    """Record the continuation and create the next run; returns the id of its first task. The caller closes this run."""
    state = tx.state
    number = tx.next_step()
    arguments = command.arguments or arguments_of(tx.history[state.input_event - 1]) or Payload(state.payload_codec, "")
    new = _successor(tx, command.workflow_type or state.workflow_type, command.queue or state.task_queue, arguments.codec)
    link_id = _new_link(tx, new)
    tx.record(
        "WorkflowContinuedAsNew",
        {
            "continued_to_run_id": new.state.run_id,
            "continued_to_run_number": new.state.run_number,
            "workflow_link_id": link_id,
            "closed_reason": "continued",
        },
        step=number,
    )
    record_started(new, arguments, {"continued_from_run_id": state.run_id, "workflow_link_id": link_id})
    updates.hand_over(new, tx)
    signals.hand_over(new, tx)
    task_id = new.open_workflow_task()
    _tell_parent(tx, new, link_id)
    return task_id


def retry_backoff(tx: Transition, status: RunStatus, failure: dict[str, Any]) -> int | None:
    """Seconds until a closing child is tried again, None when it is not: its end goes to the parent."""
    state = tx.state
    origin = state.origin
    if origin is None or status != "failed" or origin.attempt >= origin.max_attempts or failure.get("non_retryable"):
        return None
    if failure.get("exception_type") in origin.non_retryable or failure.get("exception_class") in origin.non_retryable:
        return None
    if state.execution_deadline_at is not None and state.execution_deadline_at <= tx.now:
        return None
    return backoff_after(origin.backoff_seconds, origin.attempt)


def retry(tx: Transition, backoff: int) -> None:
    """Try the child again: a new run with the same arguments, whose first task waits for the backoff."""
    state = tx.state
    arguments = arguments_of(tx.history[state.input_event - 1]) or Payload(state.payload_codec, "")
    new = _successor(tx, state.workflow_type, state.task_queue, arguments.codec)
    assert new.state.origin is not None
    new.state.origin.attempt += 1
    attempt = new.state.origin.attempt
    link_id = _new_link(tx, new)
    record_started(new, arguments, {"retry_attempt": attempt, "retry_of_child_workflow_run_id": state.run_id})
    new.open_workflow_task(delay_seconds=backoff)
    _tell_parent(tx, new, link_id, retry_attempt=attempt, retry_backoff_seconds=backoff)


def _successor(tx: Transition, workflow_type: str, queue: str, codec: str) -> Transition:
    old = tx.state
    run_key = ids.derived_run_key(ids.shard_in(old.run_key), tx.mint(ids.RUN))
    state = RunState(
        namespace=old.namespace,
        workflow_id=old.workflow_id,
        run_id=ids.new_run_id(max(tx.now // 1000, old.id_clock), run_key),
        workflow_type=workflow_type,
        task_queue=queue,
        started_at=tx.now,
        last_progress_at=tx.now,
        run_number=old.run_number + 1,
        command_sequence=0,
        payload_codec=codec,
        business_key=old.business_key,
        compatibility=old.compatibility,
        priority=old.priority,
        fairness_key=old.fairness_key,
        fairness_weight=old.fairness_weight,
        memo_bytes=old.memo_bytes,
        search_attributes=old.search_attributes,
        execution_timeout_seconds=old.execution_timeout_seconds,
        run_timeout_seconds=old.run_timeout_seconds,
        execution_deadline_at=old.execution_deadline_at,
        origin=_copy(old.origin),
        scheduled=old.scheduled,
    )
    state.id_clock = ids.minted_at(state.run_id)
    if old.run_timeout_seconds is not None:
        state.run_deadline_at = tx.now + old.run_timeout_seconds * SECOND
    old.superseded = True
    tx.successor = Transition(state, [], tx.now, tx.rules, tx.dialect, tx.memo)
    return tx.successor


def _new_link(tx: Transition, new: Transition) -> str:
    """The id of the link to the next run; a child's run goes by it towards its parent, too (engine-semantics 1.1)."""
    link_id = tx.mint(ids.CHILD)
    if new.state.origin is not None:
        new.state.origin.link_id = link_id
    return link_id


def _copy(origin: Origin | None) -> Origin | None:
    if origin is None:
        return None
    return Origin(**{name: getattr(origin, name) for name in Origin.__struct_fields__})


def record_started(tx: Transition, arguments: Payload, more: dict[str, Any], command_id: str | None = None) -> None:
    """The WorkflowStarted event of any run (engine-semantics 2.4); `more` are the keys of its kind."""
    state = tx.state
    origin = state.origin
    parent: dict[str, Any] = {}
    if origin is not None:
        parent = {
            "parent_workflow_instance_id": origin.workflow_id,
            "parent_workflow_run_id": origin.run_id,
            "parent_sequence": origin.step,
            "workflow_link_id": origin.link_id,
            "child_call_id": origin.call_id,
            "retry_policy": origin.retry_snapshot,
            "timeout_policy": origin.timeout_snapshot,
        }
    state.input_event = tx.record(
        "WorkflowStarted",
        {
            "workflow_class": state.workflow_type,
            "workflow_type": state.workflow_type,
            "workflow_instance_id": state.workflow_id,
            "workflow_run_id": state.run_id,
            "workflow_command_id": command_id,
            "business_key": state.business_key,
            "memo": tx.memo,
            "search_attributes": state.search_attributes,
            "workflow_id": state.workflow_id,
            "timestamp": iso(tx.stamp),
            "payload_codec": arguments.codec,
            "arguments": arguments.envelope(),
            "task_queue": state.task_queue,
            "execution_timeout_seconds": state.execution_timeout_seconds,
            "run_timeout_seconds": state.run_timeout_seconds,
            "execution_deadline_at": _seconds(state.execution_deadline_at),
            "run_deadline_at": _seconds(state.run_deadline_at),
            **parent,
            **more,
        },
        command_id=command_id,
    )


def _seconds(micros: int | None) -> str | None:
    return None if micros is None else iso_seconds(micros)


# -- news for the parent -----------------------------------------------------------------------------------------------


def _tell_parent(
    tx: Transition, new: Transition, link_id: str, retry_attempt: int | None = None, retry_backoff_seconds: int | None = None
) -> None:
    state = new.state
    origin = state.origin
    if origin is None:
        return
    news = ChildRestarted(
        child_call_id=origin.call_id,
        run_id=state.run_id,
        run_number=state.run_number,
        workflow_type=state.workflow_type,
        workflow_link_id=link_id,
        execution_deadline_at=state.execution_deadline_at,
        run_deadline_at=state.run_deadline_at,
        retry_attempt=retry_attempt,
        retry_of_run_id=None if retry_attempt is None else tx.state.run_id,
        retry_backoff_seconds=retry_backoff_seconds,
        retry_policy=origin.retry_snapshot,
        timeout_policy=origin.timeout_snapshot,
        execution_timeout_seconds=state.execution_timeout_seconds,
        run_timeout_seconds=state.run_timeout_seconds,
    )
    tx.send(origin.workflow_id, origin.run_id, news)


def tell_parent_end(tx: Transition, result: Payload | None, failure: dict[str, Any]) -> None:
    """The last run of a child is closed: its parent gets the result or the failure."""
    state = tx.state
    origin = state.origin
    if origin is None:
        return
    assert state.closed_at is not None and state.closed_reason is not None
    news = ChildClosed(
        child_call_id=origin.call_id,
        run_id=state.run_id,
        run_number=state.run_number,
        workflow_type=state.workflow_type,
        status=state.status,
        closed_reason=state.closed_reason,
        closed_at=state.closed_at,
        result=result,
        payload_codec=state.payload_codec if result is None else result.codec,
        failure=failure,
    )
    tx.send(origin.workflow_id, origin.run_id, news)
