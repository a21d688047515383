"""Signals: recorded at once, applied when a workflow task has seen them (contract engine-semantics 7.2)."""

from __future__ import annotations

from typing import Any

from actors.run import ids, requests
from actors.run.commands.control import SignalOnce, SignalRun
from actors.run.events.stored import arguments_of, envelope_or_none
from actors.run.next_task import signal_task
from actors.run.replies import CommandAnswered, Refused
from actors.run.state import Signal, WorkflowTask
from actors.run.transition import Transition
from actors.run.values import Payload


def receive(tx: Transition, command: SignalRun) -> CommandAnswered:
    """Accept a signal. It creates a task only where the run is parked on a condition wait."""
    state = tx.state
    if not state.is_open:
        return requests.not_active(tx)
    if state.standalone is not None:  # nobody would read it
        return requests.rejected(tx, "unknown_signal", "rejected_unknown_signal")
    limit = tx.rules.limits.structural.pending_signal_count
    if limit and len(state.signals) >= limit:
        return requests.rejected(tx, "structural_limit_exceeded", None)
    tx.measure("pending_signal_count", len(state.signals) + 1, limit, len(state.signals))
    numbered = requests.number(tx)
    signal = Signal(
        signal_id=tx.mint(ids.SIGNAL),
        name=command.name,
        wait_id=tx.mint(ids.WAIT),
        event=0,
        command_id=numbered[0],
        command_sequence=numbered[1],
        to_run=command.to_run,
    )
    record(tx, signal, command.arguments, requests.snapshot(tx, numbered, command, "signal_received"))
    if state.wait is not None and state.open_task is None:
        signal_task(tx, signal)
    return requests.accepted(tx, numbered, "signal_received")


def receive_once(tx: Transition, command: SignalOnce) -> CommandAnswered | Refused:
    """Accept a signal that no run of the workflow id has accepted yet: the commit finds out (`Transition.requests`).

    Refused as `update_request_taken` when another one of this transition is the same.
    """
    if any(request_id == command.once for request_id, _ in tx.requests):
        return Refused("update_request_taken")
    reply = receive(tx, command)
    if reply.rejection is None:
        tx.requests.append((command.once, tx.state.signals[-1].signal_id))
    return reply


def record(tx: Transition, signal: Signal, arguments: Payload | None, snapshot: dict[str, Any] | None) -> None:
    """Write the signal into history and into the run's inbox."""
    state = tx.state
    signal.event = tx.record(
        "SignalReceived",
        {
            **requests.command_keys(tx, signal.command_id),
            "signal_id": signal.signal_id,
            "signal_name": signal.name,
            "signal_wait_id": signal.wait_id,
            "arguments": envelope_or_none(arguments),
            "payload_codec": state.payload_codec if arguments is None else arguments.codec,
            "command": snapshot,
        },
        command_id=signal.command_id,
    )
    state.signals.append(signal)
    state.receivers.append(signal.event)


def apply_seen(tx: Transition, task: WorkflowTask, waited: bool) -> None:
    """A normal task was completed: the signals its snapshot held are applied.

    `waited`: a condition wait was open at its claim; workers without a view then apply one signal per task.
    """
    state = tx.state
    hidden = tx.dialect.hidden_signals(state, task.dialect)
    one_by_one = waited and not tx.dialect.paces_signals(task.dialect)
    state.signals = [
        signal
        for signal in state.signals
        if signal.event > task.claimed_at_event or signal.event in hidden or (one_by_one and signal.signal_id != task.signal_id)
    ]


def hand_over(tx: Transition, old: Transition) -> None:
    """Continue-as-new: signals addressed to the instance and not applied go on in the new run, in order."""
    for signal in old.state.signals:
        if signal.to_run:
            continue
        state = tx.state
        state.command_sequence += 1
        moved = Signal(
            signal_id=signal.signal_id,
            name=signal.name,
            wait_id=tx.mint(ids.WAIT),
            event=0,
            command_id=signal.command_id,
            command_sequence=state.command_sequence,
        )
        before = old.history[signal.event - 1]
        record(tx, moved, arguments_of(before), requests.moved_snapshot(tx, before, moved.command_sequence))
