"""What a run's history says about its signals, updates and commands (contract engine-semantics 14: 16 to 18)."""

from __future__ import annotations

from dataclasses import dataclass

from tests.core.harness import Event


@dataclass
class UpdateRecord:
    """What history says about one update."""

    applied: bool = False
    closed: bool = False


class InputBook:
    """Follows the inputs of one run. `unapplied` are signals no task has dealt with, oldest first."""

    def __init__(self) -> None:
        self.signals: dict[str, str] = {}
        self.unapplied: list[str] = []
        self.receivers: list[str] = []
        self.updates: dict[str, UpdateRecord] = {}
        self.by_update_task: str | None = None
        self._last_command = ""

    def read(self, event: Event, ended: bool, in_update_task: bool) -> None:
        """One event of the history. `ended`: a terminal event stands before it."""
        kind, payload = event["event_type"], event["payload"]
        if kind == "SignalReceived":
            self._signal(event)
        elif kind == "UpdateAccepted":
            assert payload["update_id"] not in self.updates, "17: accepted twice"
            assert "sequence" not in payload and event["workflow_command_id"]
            self.updates[payload["update_id"]] = UpdateRecord()
        elif kind == "UpdateApplied":
            update = self.updates[payload["update_id"]]
            assert not update.applied and not update.closed, "17"
            update.applied = True
            self.receivers.append(event["id"])
            if in_update_task:
                self.by_update_task = event["id"]
        elif kind == "UpdateCompleted":
            update = self.updates[payload["update_id"]]
            assert not update.closed, "17: completed twice"
            assert update.applied == ("failure_id" not in payload), "17: success if and only if it was applied"
            assert ended == ("terminal_reason" in payload) == ("sequence" not in payload), "17"
            update.closed = True

    def _signal(self, event: Event) -> None:
        payload = event["payload"]
        assert payload["signal_id"] not in self.signals, "16: received twice"
        assert "sequence" not in payload and event["workflow_command_id"] == payload["workflow_command_id"], "16"
        self.signals[payload["signal_id"]] = event["id"]
        self.unapplied.append(payload["signal_id"])
        self.receivers.append(event["id"])

    def open_updates(self) -> list[str]:
        """Ids of the updates that have no end yet, oldest first."""
        return [update_id for update_id, update in self.updates.items() if not update.closed]

    def task_completed(self, shown: set[str], signal_id: str | None, one_by_one: bool) -> None:
        """A normal task ended whose snapshot held `shown` (engine-semantics 7.2).

        `one_by_one`: only its own signal counts as applied.
        """
        self.unapplied = [
            each for each in self.unapplied if self.signals[each] not in shown or (one_by_one and each != signal_id)
        ]
