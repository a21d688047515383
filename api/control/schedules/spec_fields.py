"""Reading `spec` and `action` of a schedule: kept as sent, checked where the server looks (operations 1.1, control-plane 11).

What the server does not look at stays JSON text (`actors.run.opaque`), so that no number and no depth is too much for it.
"""

from __future__ import annotations

from typing import Any

from actors.schedule.spec import MOST_ENTRIES, problems
from api.http.input import json_text
from api.http.input.fields import LONGEST_SECONDS, Fields
from api.payloads.inputs import normalise_input

_TIMEOUTS = (
    "execution_timeout_seconds",
    "run_timeout_seconds",
    "workflow_execution_timeout",
    "workflow_run_timeout",
)


def read_spec(fields: Fields, *, required: bool) -> dict[str, Any] | None:
    """`spec`, None when it is absent or faulty. Names of zones, expressions and durations are trimmed, blank ones left out."""
    if fields.raw("spec") is None:
        if required:
            fields.missing("spec")
        return None
    spec = fields.shallow("spec")
    if spec is None:
        return None
    for name, opened in (("cron_expressions", _trimmed), ("intervals", _interval)):
        entries = _listed(spec.get(name))
        if entries is not None:
            spec[name] = [opened(entry) for entry in entries] if len(entries) <= MOST_ENTRIES else entries
    _trim(spec, "timezone")
    for key, texts in problems(spec).items():
        for text in texts:
            fields.fault(key, text)
    return spec


def _listed(value: Any) -> list[Any] | None:
    """The items of a list that is text, None when it is anything else."""
    return json_text.items(value) if isinstance(value, bytes) and value[:1] == b"[" else None


def _trimmed(entry: Any) -> Any:
    value = json_text.plain(entry)
    return value.strip() if isinstance(value, str) else value


def _interval(entry: Any) -> Any:
    if bytes(entry)[:1] != b"{":
        return json_text.plain(entry)
    interval = json_text.shallow(entry)
    _trim(interval, "every")
    _trim(interval, "offset")
    return interval


def _trim(values: dict[str, Any], name: str) -> None:
    value = values.get(name)
    if not isinstance(value, str):
        return
    values[name] = value.strip()
    if not values[name]:
        del values[name]


def read_action(fields: Fields, *, whole: bool) -> dict[str, Any] | None:
    """`action`, None when it is absent or faulty. Not `whole`: a change of a stored one, where null clears what may be."""
    given = fields.nested("action")
    if given is None:
        if whole and "action" not in fields.errors:
            fields.missing("action")
        return None
    known: dict[str, Any] = {
        "workflow_type": given.text("workflow_type", required=whole),
        "task_queue": given.text("task_queue"),
    }
    for name in _TIMEOUTS:
        known[name] = given.integer(name, low=1, high=LONGEST_SECONDS)
    normalise_input(given)  # notes its faults; it is stored as sent
    known["input"] = given.opaque("input")
    action = None if any(key.startswith("action") for key in fields.errors) else fields.shallow("action")
    if action is None:
        return None
    for name, value in known.items():
        if value is not None:
            action[name] = value
        elif whole or name == "workflow_type":
            action.pop(name, None)
        elif name in action:
            action[name] = None
    return action
