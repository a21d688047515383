"""The payloads inside commands: where they are, how big, and the codec of those whose sender left it to the run."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from actors.run.commands.steps import (
    CompleteUpdate,
    CompleteWorkflow,
    ContinueAsNew,
    RecordSideEffect,
    ScheduleActivity,
    StartChild,
    WorkflowCommand,
)
from actors.run.commands.worker import CompleteActivity
from actors.run.values import Payload

JSON = "json"

_WITH_ARGUMENTS = (ScheduleActivity, StartChild, ContinueAsNew)
_WITH_RESULT = (CompleteWorkflow, CompleteUpdate, RecordSideEffect, CompleteActivity)

S = TypeVar("S", bound=WorkflowCommand | CompleteActivity)


def payload_of(step: WorkflowCommand | CompleteActivity) -> Payload | None:
    """What a command carries."""
    if isinstance(step, _WITH_ARGUMENTS):
        return step.arguments
    if isinstance(step, _WITH_RESULT):
        return step.result
    return None


def size_of(payload: Payload | None) -> int:
    """The size of a stored blob, in bytes."""
    blob = None if payload is None else payload.blob
    if blob is None:
        return 0
    return len(blob) if blob.isascii() else len(blob.encode())


def all_in_codec(steps: list[WorkflowCommand], codec: str) -> list[WorkflowCommand]:
    """`in_codec` of a batch; the same list object if there is nothing to do, by which a batch sent again is recognised fast
    (docs/design/sdk04-view.md, "A batch sent again is the same object").
    """
    for step in steps:
        payload = payload_of(step)
        if payload is not None and payload.plain is not None:
            return [in_codec(step, codec) for step in steps]
    return steps


def in_codec(step: S, codec: str) -> S:
    """The command with plain JSON stored in this codec (worker-protocol 9.2)."""
    payload = payload_of(step)
    if payload is None or payload.plain is None:
        return step
    stored = Payload(JSON, payload.plain) if codec == JSON else Payload(payload.codec, payload.blob)
    if isinstance(step, _WITH_ARGUMENTS):
        return msgspec.structs.replace(step, arguments=stored)
    return msgspec.structs.replace(step, result=stored)
