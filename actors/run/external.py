"""What all commands of the control plane share: their numbers, their answers, their rejections (contract control-plane 5.7)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.replies import CommandAnswered
from actors.run.transition import Transition


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


def accepted(
    tx: Transition, numbered: tuple[str, int], outcome: str | None, reason: str | None = None, update_id: str | None = None
) -> CommandAnswered:
    """The answer to an accepted command."""
    return _answer(tx, numbered, outcome, None, reason, update_id)


def rejected(tx: Transition, rejection: str, outcome: str | None) -> CommandAnswered:
    """Reject a command; it takes a number and leaves no event."""
    return _answer(tx, number(tx), outcome, rejection, None, None)


def not_active(tx: Transition) -> CommandAnswered:
    """The run is closed."""
    return rejected(tx, "run_not_active", "rejected_not_active")


def _answer(
    tx: Transition,
    numbered: tuple[str, int],
    outcome: str | None,
    rejection: str | None,
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
