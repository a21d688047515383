"""Random batches of commands: each as it is sent, and as the core takes it."""

from __future__ import annotations

from random import Random
from typing import Any

from actors.run.commands.steps import (
    CompleteUpdate,
    CompleteWorkflow,
    ContinueAsNew,
    FailUpdate,
    FailWorkflow,
    OpenConditionWait,
    RecordSideEffect,
    RecordVersionMarker,
    ScheduleActivity,
    StartChild,
    StartTimer,
    UpsertSearchAttributes,
    WorkflowCommand,
)
from actors.run.values import Payload, RetryPolicy
from bench.payloads import encode

Pair = tuple[dict[str, Any], WorkflowCommand]

TYPES = ("order", "bill", "ship")
QUEUES = ("one", "two")


def payload(value: Any) -> Payload:
    """A value as an opaque payload."""
    return Payload("avro", encode(value))


class Batches:
    """Makes commands. `text()` never repeats, so that no two payloads are alike by chance."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = 0

    def text(self) -> str:
        """A new text."""
        self._number += 1
        return f"v{self._number}"

    def batch(self, open_updates: list[str], update_id: str | None) -> list[Pair]:
        """Commands for a task: of an update (`update_id`), or normal while these updates are open."""
        random = self._random
        pairs: list[Pair] = []
        if update_id is not None:
            pairs.append(self.end_update(update_id))
        elif open_updates and random.random() < 0.3:
            pairs.append(self.end_update(random.choice(open_updates)))
        makers = (
            self.activity,
            self.activity,
            self.timer,
            self.child,
            self.wait,
            self.side_effect,
            self.marker,
            self.attributes,
        )
        if update_id is None or random.random() < 0.2:
            most = 1 if random.random() < 0.4 else 4
            pairs += [random.choice(makers)() for _ in range(random.randint(0, most))]
        if random.random() < 0.14 or not pairs:
            pairs.insert(random.randint(0, len(pairs)), self.terminal())
        if random.random() < 0.03:
            pairs.append(self.terminal())
        return pairs

    def group(self) -> list[Pair]:
        """A group of which one step is resolved at once and the other not for long: workers of the 0.4 line send it again."""
        delays = (0, 300)
        return [({"type": "start_timer", "delay_seconds": delay}, StartTimer(delay)) for delay in delays]

    def _retry(self) -> tuple[dict[str, Any], RetryPolicy] | None:
        random = self._random
        if random.random() < 0.5:
            return None
        attempts, backoff, types = random.randint(1, 3), random.choice([[], [0], [0, 1]]), random.choice([[], ["Fatal"]])
        sent = {"max_attempts": attempts, "backoff_seconds": backoff, "non_retryable_error_types": types}
        return sent, RetryPolicy(attempts, backoff, types)

    def activity(self) -> Pair:
        """schedule_activity with any of its options."""
        random = self._random
        fields: dict[str, Any] = {"activity_type": random.choice(["charge", "pack"])}
        more: dict[str, Any] = {}
        for name in ("start_to_close_timeout", "schedule_to_start_timeout", "schedule_to_close_timeout", "heartbeat_timeout"):
            if random.random() < 0.12:
                more[name] = 1
        if random.random() < 0.3:
            more["queue"] = random.choice(QUEUES)
        if random.random() < 0.3:
            more |= {"priority": random.randint(0, 9), "fairness_key": "gold", "fairness_weight": 3}
        sent, core = {**fields, **more}, {**fields, **more}
        if random.random() < 0.8:
            core["arguments"] = arguments = payload([self.text()])
            sent["arguments"] = arguments.envelope()
        retry = self._retry()
        if retry is not None:
            sent["retry_policy"], core["retry_policy"] = retry
        return {"type": "schedule_activity", **sent}, ScheduleActivity(**core)

    def timer(self) -> Pair:
        """start_timer."""
        delay = self._random.choice([0, 1, 1, 300])
        return {"type": "start_timer", "delay_seconds": delay}, StartTimer(delay)

    def child(self) -> Pair:
        """start_child_workflow with any of its options."""
        random = self._random
        core: dict[str, Any] = {"workflow_type": random.choice(TYPES)}
        if random.random() < 0.7:
            core["parent_close_policy"] = random.choice(["abandon", "terminate", "request_cancel"])
        if random.random() < 0.3:
            core["queue"] = random.choice(QUEUES)
        if random.random() < 0.1:
            core["run_timeout_seconds"] = 1
        sent = dict(core)
        core["arguments"] = arguments = payload([self.text()])
        sent["arguments"] = arguments.envelope()
        retry = self._retry()
        if retry is not None:
            sent["retry_policy"], core["retry_policy"] = retry
        return {"type": "start_child_workflow", **sent}, StartChild(**core)

    def wait(self) -> Pair:
        """open_condition_wait; the same again now and then, as workers re-open them."""
        key = self._random.choice([None, "k", "k", "other"])
        timeout = self._random.choice([None, None, 0, 1])
        sent: dict[str, Any] = {"type": "open_condition_wait", "condition_key": key, "timeout_seconds": timeout}
        return sent, OpenConditionWait(key, None, timeout)

    def side_effect(self) -> Pair:
        """record_side_effect."""
        result = payload(self.text())
        return {"type": "record_side_effect", "result": result.envelope()}, RecordSideEffect(result)

    def marker(self) -> Pair:
        """record_version_marker."""
        version = self._random.randint(-1, 3)
        fields: dict[str, Any] = {"change_id": "c", "version": version, "min_supported": -1, "max_supported": 3}
        return {"type": "record_version_marker", **fields}, RecordVersionMarker(**fields)

    def attributes(self) -> Pair:
        """upsert_search_attributes: set and delete."""
        attributes: dict[str, Any] = {"Stage": self._random.choice([self.text(), None]), "Count": self._random.randint(0, 9)}
        return {"type": "upsert_search_attributes", "attributes": attributes}, UpsertSearchAttributes(attributes)

    def end_update(self, update_id: str) -> Pair:
        """complete_update or fail_update."""
        if self._random.random() < 0.65:
            result = payload({"ok": self.text()})
            sent = {"type": "complete_update", "update_id": update_id, "result": result.envelope()}
            return sent, CompleteUpdate(update_id, result)
        message = f"no: {self.text()}"
        return {"type": "fail_update", "update_id": update_id, "message": message}, FailUpdate(update_id, message)

    def terminal(self) -> Pair:
        """How a workflow ends, or goes on as another run."""
        kind = self._random.choice(["complete", "complete", "fail", "continue"])
        if kind == "complete":
            result = payload(self.text())
            return {"type": "complete_workflow", "result": result.envelope()}, CompleteWorkflow(result)
        if kind == "fail":
            name = self._random.choice(["Fatal", "Broken"])
            message = self.text()
            sent: dict[str, Any] = {"type": "fail_workflow", "message": message, "exception_type": name}
            return sent, FailWorkflow(message, exception_type=name)
        if self._random.random() < 0.5:
            return {"type": "continue_as_new"}, ContinueAsNew()
        arguments, name = payload([self.text()]), self._random.choice(TYPES)
        sent = {"type": "continue_as_new", "workflow_type": name, "arguments": arguments.envelope()}
        return sent, ContinueAsNew(name, arguments)
