"""What all commands of the control plane share: their numbers, their answers, their rejections (contract control-plane 5.7)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.commands.control import ControlCommand, SignalOnce, StartRun, StartStandalone, UpdateRun
from actors.run.events.stored import command_of
from actors.run.replies import CommandAnswered
from actors.run.times import iso
from actors.run.transition import Transition
from actors.run.words import Rejection

# Kinds of a command that clients know by one name.
_TYPES: dict[type, str] = {StartStandalone: "start", SignalOnce: "signal"}


def number(tx: Transition) -> tuple[str, int]:
    """The id and the sequence of a command that reached this run; rejected ones count, too."""
    state = tx.state
    state.command_sequence += 1
    tx.changed = True
    return tx.mint(ids.COMMAND), state.command_sequence


def command_keys(tx: Transition, command_id: str) -> dict[str, Any]:
    """The keys that name a command in its events."""
    state = tx.state
    return {
        "workflow_command_id": command_id,
        "workflow_instance_id": state.workflow_id,
        "workflow_run_id": state.run_id,
    }


def snapshot(
    tx: Transition,
    numbered: tuple[str, int],
    command: StartRun | ControlCommand | UpdateRun,
    outcome: str | None = None,
    *,
    applied: bool = False,
    rejection: str | None = None,
) -> dict[str, Any] | None:
    """The `command` object of the event that records a command (engine-semantics 2.1); None where nobody is known to have
    caused it. `applied`: it had its effect at once.
    """
    if command.attribution is None:
        return None
    run_id, now = tx.state.run_id, iso(tx.stamp)
    to_run = not isinstance(command, StartRun) and command.to_run
    keys = {
        "id": numbered[0],
        "sequence": numbered[1],
        "type": _TYPES.get(type(command), command.__struct_config__.tag),
        "target_scope": "run" if to_run else "instance",
        "requested_run_id": run_id if to_run else None,
        "resolved_run_id": run_id,
        "source": "control_plane",
        "status": "accepted" if rejection is None else "rejected",
        "outcome": outcome,
        "rejection_reason": rejection,
        "accepted_at": now if rejection is None else None,
        "applied_at": now if applied else None,
        "rejected_at": None if rejection is None else now,
        **command.attribution,
    }
    return {name: value for name, value in keys.items() if value is not None}


def moved_snapshot(tx: Transition, event: bytes, sequence: int) -> dict[str, Any] | None:
    """The snapshot of a command recorded by the run before, for the run that it goes on in."""
    known = command_of(event)
    return None if known is None else {**known, "sequence": sequence, "resolved_run_id": tx.state.run_id}


def accepted(
    tx: Transition, numbered: tuple[str, int], outcome: str | None, reason: str | None = None, update_id: str | None = None
) -> CommandAnswered:
    """The answer to an accepted command."""
    return _answer(tx, numbered, outcome, None, reason, update_id)


def rejected(
    tx: Transition,
    rejection: Rejection,
    outcome: str | None,
    numbered: tuple[str, int] | None = None,
    update_id: str | None = None,
) -> CommandAnswered:
    """Reject a command. It takes a number, unless it has one (`numbered`), and leaves no event here."""
    return _answer(tx, numbered or number(tx), outcome, rejection, None, update_id)


def not_active(tx: Transition) -> CommandAnswered:
    """The run is closed."""
    return rejected(tx, "run_not_active", "rejected_not_active")


def _answer(
    tx: Transition,
    numbered: tuple[str, int],
    outcome: str | None,
    rejection: Rejection | None,
    reason: str | None,
    update_id: str | None,
) -> CommandAnswered:
    state = tx.state
    return CommandAnswered(
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        workflow_type=state.workflow_type,
        command_id=numbered[0],
        command_sequence=numbered[1],
        outcome=outcome,
        rejection=rejection,
        reason=reason,
        update_id=update_id,
    )
