"""Queries as the API and the nodes speak of them: a question, a task for a worker, an answer (contract worker-protocol 8)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actors.run.replies import QueryView
from actors.run.values import Payload


class Query(Struct, frozen=True):
    """A question to a run. `arguments` None: no arguments."""

    name: str
    arguments: Payload | None = None


class QueryTaskGrant(Struct, frozen=True, tag_field="is", tag="query_task"):
    """A query leased to a worker (worker-protocol 8.1). Times in microseconds."""

    query_task_id: str
    query_task_attempt: int
    view: QueryView
    query: Query
    lease_owner: str
    lease_expires_at: int


class QueryOutcome(Struct, frozen=True):
    """What a worker says to a query task: a result, or a failure with its `reason`.

    `result` is the JSON text of the plain value as sent, `result_envelope` the envelope as sent.
    """

    query_task_id: str
    lease_owner: str
    attempt: int
    result: bytes | None = None
    result_envelope: dict[str, Any] | None = None
    failed: bool = False
    reason: str | None = None
    message: str | None = None


class QueryAnswer(Struct, frozen=True):
    """What the caller of a query gets: `reason` None with a result, else why there is none (worker-protocol 8.3, 8.4).

    `result` is JSON text.
    """

    workflow_id: str
    run_id: str
    result: bytes | None = None
    result_envelope: dict[str, Any] | None = None
    reason: str | None = None
    message: str | None = None
