"""What an outside event asks for: the body of a webhook read and checked (control-plane 9, operations 10.1)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.run.commands.control import SignalOnce, StartRun, UpdateRun
from actors.run.ids import RunId
from actors.run.values import Payload
from api.control.workflows.start import WORKFLOW_ID
from api.http.attribution import attribution
from api.http.input import json_text
from api.http.input.fields import LONGEST_SECONDS, Fields
from api.http.request import Request
from api.payloads.inputs import normalise_input, normalise_message

# Adapters name the workflows that they start without an id: "bridge-", the adapter, "-", 32 digits; 128 characters in all.
ADAPTER = re.compile(r"[a-zA-Z0-9._:-]{1,88}\Z")

START, SIGNAL, UPDATE = "start_workflow", "signal_workflow", "update_workflow"
ACTIONS = (START, SIGNAL, UPDATE)

REJECT_DUPLICATE, USE_EXISTING = "reject_duplicate", "use_existing"

_SHOWN_TARGET = ("workflow_id", "workflow_type", "signal_name", "update_name", "task_queue", "business_key")
_LONGEST_SHOWN = 255

# Names of members that are never told again, whoever sent them (the published `redaction.never_echo`).
_NEVER_ECHOED = frozenset({"authorization", "signature", "token", "secret", "raw_payload"})
_HOLDS_SUCH = re.compile(rb'"(?:authorization|signature|token|secret|raw_payload)":', re.IGNORECASE)


@dataclass(slots=True)
class Event:
    """A webhook's request as far as it could be understood. `errors`: the faults of its fields, by dotted name.

    `workflow_id` and one of the commands are set when there are none.
    """

    adapter: str
    action: str | None = None
    key: str | None = None
    target: dict[str, str] = field(default_factory=dict)  # what may be told again of it
    correlation: dict[str, Any] | None = None  # the same
    errors: dict[str, list[str]] = field(default_factory=dict)
    workflow_id: str = ""
    reject_duplicate: bool = False
    wait_seconds: float | None = None  # for the end of an update
    start: StartRun | None = None
    signal: SignalOnce | None = None
    update: UpdateRun | None = None

    @property
    def supported(self) -> bool:
        """Whether the action is one of ours; one that was not sent is a fault and no action."""
        return self.action is None or self.action in ACTIONS


def read_event(request: Request) -> Event:
    """The event in a request whose adapter may be one."""
    fields = request.fields()
    event = Event(request.path["adapter"], errors=fields.errors)
    event.action = fields.text("action", required=True, longest=_LONGEST_SHOWN)
    event.key = fields.text("idempotency_key", required=True)
    correlation = fields.opaque_object("correlation")
    event.correlation = None if correlation is None else _shown_members(correlation)
    target = fields.nested("target")
    if target is None:
        if "target" not in fields.errors:
            fields.missing("target")
        target = Fields({}, "target.", {})
    event.target = _shown_target(target)
    if event.action == START:
        _read_start(request, event, fields, target)
    elif event.action == SIGNAL:
        name, payload = _read_named(request, event, fields, target, "signal_name")
        caused = _caused_by(request, event, signal_name=name)
        event.signal = SignalOnce(None, False, caused, name, payload, once=_once(event, name))
    elif event.action == UPDATE:
        name, payload = _read_named(request, event, fields, target, "update_name")
        wait_for = target.choice("wait_for", ("accepted", "completed"), default="accepted")
        seconds = target.integer(
            "wait_timeout_seconds", low=1, high=LONGEST_SECONDS, default=request.services.settings.update_wait_seconds
        )
        if wait_for == "completed" and seconds is not None:
            event.wait_seconds = float(seconds)
        caused = _caused_by(request, event, update_name=name, wait_for=wait_for)
        event.update = UpdateRun(_once(event, name), False, caused, name, payload)
    return event


def _read_start(request: Request, event: Event, fields: Fields, target: Fields) -> None:
    workflow_type = target.required_text("workflow_type")
    workflow_id = target.identifier("workflow_id", longest=128, pattern=WORKFLOW_ID)
    task_queue = target.text("task_queue")
    business_key = target.text("business_key")
    policy = target.choice("duplicate_policy", (REJECT_DUPLICATE, USE_EXISTING), default=USE_EXISTING)
    arguments = normalise_input(fields)
    event.reject_duplicate = policy == REJECT_DUPLICATE
    event.workflow_id = workflow_id or _default_id(event)
    if not event.errors:
        event.target["workflow_id"] = event.workflow_id
    event.start = StartRun(
        namespace=request.namespace,
        workflow_id=event.workflow_id,
        run_id=RunId(""),
        workflow_type=workflow_type,
        task_queue=task_queue,
        arguments=arguments,
        payload_codec=arguments.codec,
        business_key=business_key,
        duplicate_policy="fail" if event.reject_duplicate else "use-existing",
        compatibility=request.services.settings.current_compatibility,
        attribution=_caused_by(request, event),
    )


def _default_id(event: Event) -> str:
    digest = hashlib.sha256((event.key or "").encode("utf-8", "surrogatepass")).hexdigest()
    return f"bridge-{event.adapter}-{digest[:32]}"


def _read_named(request: Request, event: Event, fields: Fields, target: Fields, name_field: str) -> tuple[str, Payload | None]:
    """The name of a signal or update, and its arguments."""
    event.workflow_id = target.required_text("workflow_id")
    name = target.required_text(name_field)
    limit = request.services.settings.limits.request.max_operation_name_length
    if any(character < " " or character == "\x7f" for character in name):
        target.fault(name_field, f"The {name_field.replace('_', ' ')} field must not contain control characters.")
    elif limit and len(name.encode("utf-8", "surrogatepass")) > limit:
        target.fault(name_field, f"The {name_field.replace('_', ' ')} field must not be greater than {limit} bytes.")
    return name, normalise_message(fields)


def _once(event: Event, name: str) -> str:
    """What a repetition of a signal or update is known by, on its workflow id.

    It begins with a blank, which no request id that a client chooses does: those are trimmed.
    """
    said = msgspec.json.encode([event.adapter, event.action, event.key, name])
    return " bridge:" + hashlib.sha256(said).hexdigest()


def _caused_by(request: Request, event: Event, **named: str | None) -> dict[str, Any]:
    """The attribution of the event's command, with what the bridge knows of it (configuration-and-security 5)."""
    caused = attribution(request)
    metadata = {
        "adapter": event.adapter,
        "action": event.action,
        "idempotency_key": event.key,
        "request_id": request.request_id,
        **named,
    }
    server = {
        "command": f"bridge.{event.action}",
        "metadata": {name: value for name, value in metadata.items() if value is not None},
    }
    return {**caused, "context": {**caused.get("context", {}), "server": server}}


def _shown_target(target: Fields) -> dict[str, str]:
    shown = {}
    for name in _SHOWN_TARGET:
        value = target.get(name)
        if isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_SHOWN:
            shown[name] = value.strip()
    return shown


def _shown_members(text: bytes) -> dict[str, Any]:
    """The members of an object as they were sent, without those that are or hold what is never told again."""
    return {
        name: value
        for name, value in msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items()
        if name.lower() not in _NEVER_ECHOED and not _HOLDS_SUCH.search(json_text.compact(value))
    }
