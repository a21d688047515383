"""Parents, children and chains of a run, told from its events (operations 9.2, `links`)."""

from __future__ import annotations

from typing import Any

from actors.export.section import Section
from actors.run.views.status_buckets import status_bucket

Event = dict[str, Any]

_ENDS = {
    "ChildRunCompleted": "completed",
    "ChildRunFailed": "failed",
    "ChildRunCancelled": "cancelled",
    "ChildRunTerminated": "terminated",
}


class Parents(Section):
    """`links.parents`: who called this run, or the run that it goes on from."""

    def take(self, event: Event) -> None:
        """An event, in order."""
        if event["event_type"] != "WorkflowStarted":
            return
        payload, state = event["payload"], self.state
        link = {
            "child_workflow_instance_id": state.workflow_id,
            "child_workflow_run_id": state.run_id,
            "run_number": state.run_number,
            "workflow_type": state.workflow_type,
            "class": state.workflow_type,
            "status": state.status,
            "status_bucket": status_bucket(state.status),
            "closed_reason": state.closed_reason,
            "created_at": event["recorded_at"],
            "history_authority": "typed_history",
            "diagnostic_only": False,
        }
        if payload.get("parent_workflow_run_id"):
            self.add(
                0,
                {
                    **link,
                    "id": payload.get("workflow_link_id"),
                    "type": "child_workflow",
                    "parent_workflow_instance_id": payload.get("parent_workflow_instance_id"),
                    "parent_workflow_run_id": payload.get("parent_workflow_run_id"),
                    "child_call_id": payload.get("child_call_id"),
                    "sequence": payload.get("parent_sequence"),
                    "is_primary_parent": True,
                },
            )
        if payload.get("continued_from_run_id"):
            self.add(
                1,
                {
                    **link,
                    "id": payload.get("workflow_link_id"),
                    "type": "continue_as_new",
                    "parent_workflow_instance_id": state.workflow_id,
                    "parent_workflow_run_id": payload["continued_from_run_id"],
                    "child_call_id": None,
                    "sequence": None,
                    "is_primary_parent": not payload.get("parent_workflow_run_id"),
                },
            )


class Children(Section):
    """`links.children`: each run of each child, and the run that goes on in this one's place."""

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self._open: dict[str, tuple[int, dict[str, Any]]] = {}

    def take(self, event: Event) -> None:
        """An event, in order."""
        kind, payload = event["event_type"], event["payload"]
        run_id = payload.get("child_workflow_run_id")
        if kind == "ChildRunStarted":
            self._open[run_id] = event["sequence"], self._link(event, payload, run_id)
        elif kind in _ENDS and run_id in self._open:
            key, row = self._open.pop(run_id)
            status = payload.get("child_status") or _ENDS[kind]
            row |= {"status": status, "status_bucket": status_bucket(status), "closed_reason": payload.get("closed_reason")}
            self.add(key, row)
        elif kind == "WorkflowContinuedAsNew":
            row = self._link(event, payload, payload.get("continued_to_run_id"))
            row |= {
                "type": "continue_as_new",
                "child_workflow_instance_id": self.state.workflow_id,
                "run_number": payload.get("continued_to_run_number"),
                "workflow_type": self.state.workflow_type,
                "class": self.state.workflow_type,
                "child_call_id": None,
            }
            self.add(event["sequence"], row)

    def finish(self) -> None:
        """Those still open, or retried."""
        for key, row in self._open.values():
            self.add(key, row)

    def _link(self, event: Event, payload: dict[str, Any], run_id: Any) -> dict[str, Any]:
        return {
            "id": payload.get("workflow_link_id"),
            "type": "child_workflow",
            "parent_workflow_instance_id": self.state.workflow_id,
            "parent_workflow_run_id": self.state.run_id,
            "child_workflow_instance_id": payload.get("child_workflow_instance_id"),
            "child_workflow_run_id": run_id,
            "child_call_id": payload.get("child_call_id"),
            "sequence": payload.get("sequence"),
            "is_primary_parent": True,
            "run_number": payload.get("child_run_number"),
            "workflow_type": payload.get("child_workflow_type"),
            "class": payload.get("child_workflow_type"),
            "status": "pending",
            "status_bucket": "running",
            "closed_reason": None,
            "created_at": event["recorded_at"],
            "history_authority": "typed_history",
            "diagnostic_only": False,
        }
