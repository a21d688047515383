"""A worker's wish for a task: who asks, for what, and how long (contract worker-protocol 3.3, 3.4, 4.1 to 4.3)."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from actors.run.values import WorkerIdentity

WORKFLOW = "workflow"
ACTIVITY = "activity"
QUERY = "query"


class QueueName(NamedTuple):
    """What names a task queue of one kind."""

    namespace: str
    queue: str
    kind: str


class WorkerProfile(Struct, frozen=True):
    """What decides which tasks a worker may get.

    `types`: workflow or activity types it serves, None for all, empty for none.
    """

    worker_id: str
    build_id: str | None = None
    types: frozenset[str] | None = None
    dialect: str = ""

    def serves(self, type_name: str, compatibility: str | None) -> bool:
        """Whether a task of this type and build marker may go to this worker."""
        return (self.types is None or type_name in self.types) and (not compatibility or compatibility == self.build_id)

    @property
    def shape(self) -> tuple[str | None, frozenset[str] | None]:
        """What workers that may get the same tasks have in common."""
        return self.build_id, self.types

    @property
    def identity(self) -> WorkerIdentity:
        """The worker as a claim names it."""
        return WorkerIdentity(self.worker_id, self.dialect)


class Poll(Struct, frozen=True):
    """One poll. `poll_request_id` makes a repeated one return the same lease (worker-protocol 4.3)."""

    namespace: str
    queue: str
    kind: str
    worker: WorkerProfile
    timeout_seconds: float
    poll_request_id: str | None = None
    history_page_size: int = 500

    @property
    def name(self) -> QueueName:
        """The queue it waits in."""
        return QueueName(self.namespace, self.queue, self.kind)

    @property
    def key(self) -> tuple[str, ...] | None:
        """What a repeated poll has in common with the first one (worker-protocol 4.3); None when it has no request id."""
        if self.poll_request_id is None:
            return None
        worker = self.worker
        return self.namespace, self.queue, worker.worker_id, worker.build_id or "", self.poll_request_id
