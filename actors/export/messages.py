"""Commands, signals and updates of a run, told from the events that recorded them (operations 9.2)."""

from __future__ import annotations

from typing import Any

from actors.export.section import Section, payload_in
from actors.run.state import RunState

Event = dict[str, Any]

_COPIED = (
    "target_scope", "requested_run_id", "resolved_run_id", "source", "context", "caller_label", "auth_status", "auth_method",
    "request_method", "request_path", "request_fingerprint", "request_id", "correlation_id", "outcome", "rejection_reason",
    "accepted_at", "applied_at", "rejected_at",
)  # fmt: skip
_PRINCIPAL = ("principal_type", "principal_id", "principal_label", "request_route_name")

# event type -> command type, for events whose snapshot does not say or that nobody is known to have caused
_TYPES = {
    "StartAccepted": "start",
    "StartRejected": "start",
    "SignalReceived": "signal",
    "UpdateAccepted": "update",
    "UpdateRejected": "update",
    "CancelRequested": "cancel",
    "TerminateRequested": "terminate",
    "RepairRequested": "repair",
    "ArchiveRequested": "archive",
}
_NAMES = {"signal": "signal_name", "update": "update_name"}


class Commands(Section):
    """`commands`: every command that left an event. A start's own arguments are the run's."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._numbers = 0

    def take(self, event: Event) -> None:
        """An event, in order."""
        kind = _TYPES.get(event["event_type"])
        command_id = event.get("workflow_command_id")
        if kind is None or command_id is None:
            return
        payload = event["payload"]
        told = payload.get("command") or {}
        self._numbers = max(self._numbers + 1, told.get("sequence") or 0)
        rejected = event["event_type"] in ("StartRejected", "UpdateRejected")
        number = told.get("sequence") or self._numbers
        codec, data = payload_in(payload, "arguments", self.codec)
        row = dict.fromkeys(_COPIED)
        row |= {name: told[name] for name in _COPIED if name in told}
        if not told:
            row |= {
                "target_scope": "instance",
                "resolved_run_id": self.state.run_id,
                "accepted_at": None if rejected else event["recorded_at"],
                "rejected_at": event["recorded_at"] if rejected else None,
            }
        row |= {
            "id": command_id,
            "sequence": number,
            "message_sequence": None,
            "type": told.get("type") or kind,
            "target_name": payload.get(_NAMES.get(kind, "")),
            "payload_codec": codec,
            "payload": data,
            **dict.fromkeys(_PRINCIPAL),
            **_principal(told.get("context")),
            "status": "rejected" if rejected else "accepted",
            "outcome": told.get("outcome") or payload.get("outcome"),
            "reason": payload.get("reason"),
            "rejection_reason": told.get("rejection_reason") or payload.get("rejection_reason"),
            "validation_errors": payload.get("validation_errors") or [],
        }
        self.add(number, row, payload=(codec, data))


def _principal(context: Any) -> dict[str, Any]:
    principal = ((context or {}).get("auth") or {}).get("principal") if isinstance(context, dict) else None
    if not isinstance(principal, dict):
        return {}
    return {"principal_id": principal.get("subject"), "principal_label": principal.get("subject")}


class Signals(Section):
    """`signals`."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._waiting = {signal.signal_id for signal in state.signals}

    def take(self, event: Event) -> None:
        """An event, in order."""
        if event["event_type"] != "SignalReceived":
            return
        payload, at = event["payload"], event["recorded_at"]
        told = payload.get("command") or {}
        codec, data = payload_in(payload, "arguments", self.codec)
        waits = payload.get("signal_id") in self._waiting
        row = {
            "id": payload.get("signal_id"),
            "command_id": payload.get("workflow_command_id"),
            "command_sequence": told.get("sequence"),
            "workflow_sequence": None,
            "name": payload.get("signal_name"),
            "signal_wait_id": payload.get("signal_wait_id"),
            "target_scope": told.get("target_scope", "instance"),
            "requested_run_id": told.get("requested_run_id"),
            "resolved_run_id": self.state.run_id,
            "status": "received" if waits else "applied",
            "outcome": told.get("outcome", "signal_received"),
            "rejection_reason": None,
            "validation_errors": [],
            "received_at": at,
            "applied_at": None,
            "rejected_at": None,
            "closed_at": None,
            "payload_codec": codec,
            "arguments": data,
        }
        self.add(event["sequence"], row, arguments=(codec, data))


class Updates(Section):
    """`updates`: each is written when it is over, or at the end."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._open: dict[str, tuple[int, dict[str, Any]]] = {}

    def take(self, event: Event) -> None:
        """An event, in order."""
        kind, payload, at = event["event_type"], event["payload"], event["recorded_at"]
        update_id = payload.get("update_id")
        if kind in ("UpdateAccepted", "UpdateRejected"):
            self._begin(event, payload, update_id)
            return
        found = self._open.get(update_id)
        if found is None:
            return
        row = found[1]
        if kind == "UpdateApplied":
            row["applied_at"], row["workflow_sequence"] = at, payload.get("sequence")
        elif kind == "UpdateCompleted":
            failed = payload.get("failure_id") is not None
            result_codec, result = payload_in(payload, "result", self.codec)
            row |= {"status": "failed" if failed else "completed", "closed_at": at, "failure_id": payload.get("failure_id")}
            row |= {"outcome": "update_failed" if failed else "update_completed", "result": result}
            self._close(update_id, result_codec)

    def finish(self) -> None:
        """Those still open."""
        for update_id in list(self._open):
            self._close(update_id, self.codec)

    def _begin(self, event: Event, payload: dict[str, Any], update_id: str) -> None:
        rejected, at = event["event_type"] == "UpdateRejected", event["recorded_at"]
        told = payload.get("command") or {}
        codec, data = payload_in(payload, "arguments", self.codec)
        row = {
            "id": update_id,
            "command_id": payload.get("workflow_command_id"),
            "command_sequence": payload.get("command_sequence") or told.get("sequence"),
            "workflow_sequence": None,
            "name": payload.get("update_name"),
            "status": "rejected" if rejected else "accepted",
            "outcome": told.get("outcome"),
            "rejection_reason": payload.get("rejection_reason"),
            "validation_errors": payload.get("validation_errors") or [],
            "failure_id": None,
            "accepted_at": None if rejected else at,
            "applied_at": None,
            "rejected_at": at if rejected else None,
            "closed_at": at if rejected else None,
            "payload_codec": codec,
            "arguments": data,
            "result": None,
        }
        self._open[update_id] = event["sequence"], row
        if rejected:
            self._close(update_id, codec)

    def _close(self, update_id: str, result_codec: str) -> None:
        key, row = self._open.pop(update_id)
        codec = row["payload_codec"]
        self.add(key, row, arguments=(codec, row["arguments"]), result=(result_codec, row["result"]))
