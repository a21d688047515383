"""A finished transition of a schedule as the rows the store writes, and its messages as they travel."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.run import ids
from actors.schedule.messages import Message, ScheduleMessage, StartOccurrence
from actors.schedule.replies import ScheduleReply
from actors.schedule.state import encode, encode_definition
from actors.schedule.transition import Transition
from store.commit.schedule_writes import AuditRow, ScheduleRow, ScheduleWrite
from store.commit.writes import AppliedCommand, MessageRow
from store.run_messages import apart

_encoder = msgspec.msgpack.Encoder()
_answers: msgspec.msgpack.Decoder[ScheduleReply] = msgspec.msgpack.Decoder(ScheduleReply)


def schedule_write(
    key: str,
    tx: Transition,
    version: int,
    published: int,
    received: Sequence[str],
    applied: Sequence[tuple[str, ScheduleReply | None]],
) -> ScheduleWrite:
    """Everything `tx` changes, to be committed against `version`, 0 for a schedule that is not stored yet.

    `received`: the messages it applies; `applied`: keys of commands with their answers, None for one without effect.
    """
    sent = [message_row(tx.mint(ids.MESSAGE), message, tx.shards) for message in tx.messages]
    state = tx.state
    return ScheduleWrite(
        schedule_key=key,
        shard=ids.shard_of_id(key),
        namespace=state.namespace,
        schedule_id=state.schedule_id,
        expected_version=version,
        row=ScheduleRow(
            status=state.status,
            created_at=state.created_at,
            updated_at=state.updated_at,
            wake_at=tx.wake_at(),
            last_sequence=state.last_sequence,
            published_sequence=published,
            state=encode(state),
            definition=encode_definition(state.definition) if tx.definition_changed or not version else None,
        ),
        events=[
            AuditRow(
                event.sequence,
                event.event_id,
                event.event_type,
                event.payload,
                event.recorded_at,
                event.workflow_instance_id,
                event.workflow_run_id,
            )
            for event in tx.events
        ],
        sent=sent,
        received=list(received),
        applied=[AppliedCommand(name, None if reply is None else _encoder.encode(reply)) for name, reply in applied],
    )


def message_row(message_id: str, message: Message, shards: int) -> MessageRow:
    """The mailbox row of a schedule's message."""
    return MessageRow(
        message_id=message_id,
        shard=apart(ids.shard_of(message.namespace, message.workflow_id, shards)),
        namespace=message.namespace,
        workflow_id=message.workflow_id,
        run_id=message.run_id if isinstance(message, StartOccurrence) else None,
        body=_encoder.encode(message),
    )


def announced(row: MessageRow, message: Message) -> ScheduleMessage:
    """A message that was committed, for the host of its receiver."""
    return ScheduleMessage(row.message_id, apart(row.shard), row.namespace, row.workflow_id, message)


def decode_answer(data: bytes) -> ScheduleReply:
    """An answer from its stored form."""
    return _answers.decode(data)
