"""What commands, replies and states are made of.

Bytes are JSON text that is handed on without being understood, wherever they stand (`actors.run.opaque`).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Payload(Struct, frozen=True, array_like=True):
    """An opaque value: `blob` in `codec`, or a reference to external storage in place of the blob.

    `plain`: the JSON text of the same value, where the sender left the codec to the run (worker-protocol 9.2).
    """

    codec: str
    blob: str | None = None
    external_storage: dict[str, Any] | None = None
    plain: str | None = None

    def envelope(self) -> dict[str, Any]:
        """The wire form, contract worker-protocol 9.1 and 9.4."""
        if self.external_storage is not None:
            return {"codec": self.codec, "external_storage": self.external_storage}
        return {"codec": self.codec, "blob": self.blob}


class WorkerIdentity(Struct, frozen=True, array_like=True):
    """Who polls. `dialect` names the client generation (`actors.dialects`), "" for plain history."""

    worker_id: str
    dialect: str = ""


_LEASES = "l"


class Permit(Struct, frozen=True, array_like=True):
    """A place under a cap of task queues: `number`, from 0, of those that `scope` has (contract operations 2.4).

    `scope` is a name of `actors.queue.admission.scopes`; those that count leases begin with an l.
    """

    scope: str
    number: int

    @property
    def ends(self) -> bool:
        """Whether it is given back with the lease it was taken for; one of a dispatch is spent."""
        return self.scope.startswith(_LEASES)


class RetryPolicy(Struct, frozen=True, omit_defaults=True):
    """worker-protocol 5.1; `backoff_seconds[min(k-1, len-1)]` after attempt k."""

    max_attempts: int = 1
    backoff_seconds: list[int] = []
    non_retryable_error_types: list[str] = []


class Failure(Struct, frozen=True, omit_defaults=True):
    """worker-protocol 7.4. `details` is kept as sent: a blob with its codec, or plain JSON."""

    message: str
    type: str | None = None
    class_: str | None = None
    code: Any = None  # a text, or an integer of any size as JSON text
    stack_trace: str | None = None
    non_retryable: bool = False
    kind: str | None = None
    timeout_type: str | None = None
    details: Any = None
    details_payload_codec: str | None = None


class Resume(Struct, frozen=True, omit_defaults=True):
    """Why a workflow task was created: the 20 resume fields, all None for a first one (worker-protocol 4.4).

    Stored with the task and sent to its worker, in this order.
    """

    workflow_wait_kind: str | None = None
    open_wait_id: str | None = None
    resume_source_kind: str | None = None
    resume_source_id: str | None = None
    workflow_update_id: str | None = None
    workflow_signal_id: str | None = None
    signal_name: str | None = None
    signal_wait_id: str | None = None
    workflow_command_id: str | None = None
    activity_execution_id: str | None = None
    activity_attempt_id: str | None = None
    activity_type: str | None = None
    child_call_id: str | None = None
    child_workflow_run_id: str | None = None
    workflow_sequence: int | None = None
    workflow_event_type: str | None = None
    timer_id: str | None = None
    condition_wait_id: str | None = None
    condition_key: str | None = None
    condition_definition_fingerprint: str | None = None


FIRST_TASK = Resume()
