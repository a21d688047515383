"""What a soak knows of the server's things: ids to ask for and leases to speak of, learned from answers."""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

QUEUES = ["soak-0", "soak-1", "soak-2"]
WORKERS = [f"worker-{number}" for number in range(12)]
NAMESPACES = ["default", "default", "default", "soak-a", "soak-b"]
KEPT = 200


def kind_of(template: str) -> str:
    """`workflow`, `activity` or `query`: of which tasks a route of the worker plane is."""
    return template.split("/")[2].partition("-")[0]


@dataclass(eq=False)
class Lease:
    """A leased task as it was handed out."""

    kind: str
    task: dict[str, Any]
    used: int = 0


@dataclass
class SoakState:
    """Shared by all clients of a soak; everything in it is bounded."""

    runs: deque[tuple[str, str]] = field(default_factory=lambda: deque([("none", "none")], KEPT))
    updates: deque[str] = field(default_factory=lambda: deque(["none"], KEPT))
    tokens: deque[str] = field(default_factory=lambda: deque(["bm9uZQ"], KEPT))
    leases: dict[str, deque[Lease]] = field(
        default_factory=lambda: {kind: deque(maxlen=KEPT) for kind in ("workflow", "activity", "query")}
    )
    leased: dict[str, int] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def run(self, rng: random.Random) -> tuple[str, str]:
        """A workflow id and a run id, mostly of a young run."""
        recent = min(len(self.runs), 20 if rng.random() < 0.8 else KEPT)
        return self.runs[-rng.randint(1, recent)]

    def lease(self, kind: str, rng: random.Random) -> Lease | None:
        """A lease to speak of; after some requests it is let go, so that it ends by itself."""
        held = self.leases[kind]
        if not held:
            return None
        found = held[rng.randrange(len(held))]
        found.used += 1
        if found.used > 12:
            held.remove(found)
        return found

    def learn(self, about: Any, status: int, template: str, body: Any) -> None:
        """Take up what an answer tells."""
        if not isinstance(body, dict):
            return
        if status in (200, 201, 202) and isinstance(body.get("workflow_id"), str) and isinstance(body.get("run_id"), str):
            if template == "/workflows" and body.get("namespace") == "default":
                self.runs.append((body["workflow_id"], body["run_id"]))
            if isinstance(body.get("update_id"), str):
                self.updates.append(body["update_id"])
        if isinstance(token := body.get("next_page_token"), str):
            self.tokens.append(token)
        if isinstance(task := body.get("task"), dict):
            kind = kind_of(template)
            self.leases[kind].append(Lease(kind, task))
            self.leased[kind] = self.leased.get(kind, 0) + 1
            for event in task.get("history_events") or ():
                if isinstance(found := (event.get("payload") or {}).get("update_id"), str):
                    self.updates.append(found)
        ended = template.endswith(("/complete", "/fail")) and status in (200, 409)
        if isinstance(about, Lease) and (ended or status == 404) and about in self.leases[about.kind]:
            self.leases[about.kind].remove(about)
