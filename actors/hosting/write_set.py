"""A finished transition as the rows the store writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import orjson

from actors.hosting.repeats import encode_answer
from actors.run import ids, opaque
from actors.run.commands.messages import ScheduleNews
from actors.run.replies import RunReply
from actors.run.state import encode
from actors.run.transition import ReadyTask, RunMessage, Transition
from actors.run.views.leases import note_of
from store.commit.writes import (
    AppliedCommand,
    MessageRow,
    PermitRow,
    ReadyTaskRow,
    RunIdentity,
    RunRow,
    UpdateRequest,
    WriteSet,
)
from store.run_messages import apart

QueueShard = Callable[[str, str], int]


def write_set(
    tx: Transition,
    version: int,
    published: int,
    creating: bool,
    queue_shard: QueueShard,
    received: Sequence[str] = (),
    applied: Sequence[tuple[str, RunReply | None]] = (),
) -> WriteSet:
    """Everything `tx` changes, to be committed against `version` (0 with `creating`).

    `received`: the messages it applies; `applied`: keys of commands with their answers, None for one without effect.
    """
    tx.settle_permits()
    state = tx.state
    successor = None
    if tx.successor is not None:
        successor = write_set(tx.successor, 0, 0, True, queue_shard)
        successor.new_instance = False
    return WriteSet(
        run_id=state.run_id,
        expected_version=version,
        row=RunRow(
            status=state.status,
            closed_reason=state.closed_reason,
            closed_at=state.closed_at,
            last_progress_at=state.last_progress_at,
            wake_at=tx.wake_at(),
            last_sequence=state.last_sequence,
            published_sequence=published,
            state=encode(state),
            search_attributes=orjson.dumps(state.search_attributes) if tx.attributes_changed else None,
        ),
        identity=_identity(tx) if creating else None,
        new_instance=creating,
        first_sequence=state.last_sequence - len(tx.events) + 1 if tx.events else 0,
        history=b"\n".join(tx.events),
        ready=[_ready(task, state.namespace, queue_shard) for task in tx.ready.values()],
        unready=tx.unready,
        sent=[message_row(message) for message in tx.messages],
        received=list(received),
        applied=[AppliedCommand(key, None if reply is None else encode_answer(reply)) for key, reply in applied],
        requests=[UpdateRequest(state.workflow_id, request_id, update_id) for request_id, update_id in tx.requests],
        permits=[PermitRow(each.scope, each.number, state.run_id, task_id, tx.now) for task_id, each in tx.permits_taken],
        freed=[(each.scope, each.number) for each in tx.permits_freed],
        successor=successor,
        leases=note_of(state, version + 1),
    )


_encoder = msgspec.msgpack.Encoder()


def message_row(message: RunMessage) -> MessageRow:
    """The mailbox row of a message."""
    shard = ids.shard_of_id(message.run_id)
    return MessageRow(
        message_id=message.message_id,
        shard=apart(shard) if isinstance(message.command, ScheduleNews) else shard,
        namespace=message.namespace,
        workflow_id=message.workflow_id,
        run_id=message.run_id,
        body=_encoder.encode(message.command),
    )


def _identity(tx: Transition) -> RunIdentity:
    state = tx.state
    return RunIdentity(
        run_key=state.run_key,
        shard=ids.shard_in(state.run_key),
        namespace=state.namespace,
        workflow_id=state.workflow_id,
        run_number=state.run_number,
        workflow_type=state.workflow_type,
        task_queue=state.task_queue,
        business_key=state.business_key,
        compatibility=state.compatibility,
        started_at=state.started_at,
        memo=opaque.text_of(tx.memo),
        search_attributes=orjson.dumps(state.search_attributes),
    )


def _ready(task: ReadyTask, namespace: str, queue_shard: QueueShard) -> ReadyTaskRow:
    return ReadyTaskRow(
        task_id=task.task_id,
        shard=queue_shard(namespace, task.queue),
        namespace=namespace,
        queue=task.queue,
        kind=task.kind,
        type_name=task.type_name,
        compatibility=task.compatibility,
        priority=task.priority,
        fairness_key=task.fairness_key,
        fairness_weight=task.fairness_weight,
        available_at=task.available_at,
    )
