"""Worker registrations: stored as sent, the fingerprint rule atomic, many contacts in one statement."""

from __future__ import annotations

import asyncio

import pytest

from store import workers
from store.connections.pool import Database
from store.workers import Contact, Worker
from tests.store.build import NOW


def worker(worker_id: str = "w-1", **changes: object) -> Worker:
    values: dict[str, object] = {
        "namespace": "default",
        "worker_id": worker_id,
        "task_queue": "q",
        "runtime": "python",
        "sdk_version": None,
        "build_id": None,
        "supported_workflow_types": ["Greeter"],
        "workflow_definition_fingerprints": {"Greeter": "abc"},
        "supported_activity_types": None,
        "max_concurrent_workflow_tasks": 100,
        "max_concurrent_activity_tasks": 50,
        "capabilities": ["query_tasks"],
        "task_slots": None,
        "process_metrics": b'{"host":"\\u0000odd","cpu_percent":1e400}',
        "heartbeat_interval_seconds": None,
        "status": "active",
        "last_heartbeat_at": NOW,
        "registered_at": NOW,
        "updated_at": NOW,
    }
    values.update(changes)
    return Worker(**values)  # type: ignore[arg-type]


async def test_stored_as_sent(db: Database) -> None:
    full = worker(supported_activity_types=[], task_slots={"workflow_available": 3}, build_id="b", sdk_version="s")
    await workers.upsert(db, full)
    assert await workers.get(db, "default", "w-1") == full, "an empty list of types is not an absent one"
    await workers.upsert(db, worker(registered_at=NOW + 9, supported_workflow_types=None))
    again = await workers.get(db, "default", "w-1")
    assert again == worker(supported_workflow_types=None), "the time of the first registration stays"
    assert await workers.get(db, "lab", "w-1") is None


async def test_listing_and_delete(db: Database) -> None:
    await workers.upsert(db, worker("old", last_heartbeat_at=NOW - 5))
    await workers.upsert(db, worker("new", task_queue="other"))
    await workers.upsert(db, worker("far", namespace="lab"))
    assert [w.worker_id for w in await workers.listing(db, "default")] == ["new", "old"]
    assert [w.worker_id for w in await workers.listing(db, "default", "q")] == ["old"]
    assert await workers.delete(db, "default", "old") is True
    assert await workers.delete(db, "default", "old") is False
    assert await workers.get(db, "lab", "far") is not None


async def test_registrations_of_one_worker_take_turns(db: Database) -> None:
    """Twenty rivals bring different fingerprints: the first one stored refuses all others."""

    class Changed(Exception):
        pass

    def offer(fingerprint: str) -> Worker:
        def decide(stored: Worker | None) -> Worker:
            if stored is not None and stored.workflow_definition_fingerprints["Greeter"] != fingerprint:
                raise Changed
            return worker(workflow_definition_fingerprints={"Greeter": fingerprint}, registered_at=NOW + 7)

        return decide  # type: ignore[return-value]

    outcomes = await asyncio.gather(
        *[workers.register(db, "default", "w-1", offer(f"f{n}")) for n in range(20)],  # type: ignore[arg-type]
        return_exceptions=True,
    )
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Worker)]
    assert len(accepted) == 1
    assert sum(isinstance(outcome, Changed) for outcome in outcomes) == 19
    assert await workers.get(db, "default", "w-1") == accepted[0]
    with pytest.raises(Changed):
        await workers.register(db, "default", "w-1", offer("another"))  # type: ignore[arg-type]
    assert await workers.get(db, "default", "w-1") == accepted[0]


async def test_contacts(db: Database) -> None:
    await workers.upsert(db, worker("a", task_slots={"workflow_available": 1}))
    await workers.upsert(db, worker("b"))
    known = await workers.touch(
        db,
        [
            Contact("default", "b", NOW + 3, {"workflow_available": 2}, b'{"host":"h"}', 30),
            Contact("default", "a", NOW + 9),
            Contact("default", "a", NOW + 4, process_metrics=b'{"host":"later"}'),
            Contact("default", "gone", NOW),
        ],
    )
    assert known == {("default", "a"), ("default", "b")}
    a, b = await workers.get(db, "default", "a"), await workers.get(db, "default", "b")
    assert a is not None
    assert b is not None
    assert (a.last_heartbeat_at, a.updated_at, a.status) == (NOW + 9, NOW + 9, "active")
    assert (a.task_slots, a.process_metrics) == ({"workflow_available": 1}, b'{"host":"later"}')
    assert (b.task_slots, b.process_metrics) == ({"workflow_available": 2}, b'{"host":"h"}')
    assert b.heartbeat_interval_seconds == 30
    await workers.touch(db, [Contact("default", "a", NOW + 1)])
    a = await workers.get(db, "default", "a")
    assert a is not None
    assert a.last_heartbeat_at == NOW + 9, "a late report does not make a worker older"
    assert await workers.touch(db, []) == set()
