"""Retention over HTTP and by itself: what goes, what stays, how a pruned run answers (operations 6.3, control-plane 12.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from store.connections.pool import Database
from tests.api.driver import Http
from tests.support.server import ServerProcess

STATUS, PASS = "/system/retention", "/system/retention/pass"
DAY = 86_400 * 1_000_000
TABLES = ("runs", "run_marks", "run_status", "history", "update_requests", "pruned_runs", "instances")


@pytest.fixture
async def store(server: ServerProcess) -> AsyncIterator[Database]:
    database = Database(server.place.dsn)
    await database.start()
    yield database
    await database.stop()


async def lab(http: Http, name: str, **fields: Any) -> None:
    """A namespace of the test's own, which the client speaks of from now on."""
    await http.post("/namespaces", 201, name=name, **fields)
    http.client.headers["X-Namespace"] = name


async def age(store: Database, days: int, *run_ids: str) -> None:
    """Have runs end so many days earlier than they did."""
    await store.execute(
        "WITH r AS (UPDATE runs SET closed_at = closed_at - $1 WHERE run_id = ANY ($2) RETURNING run_id)"
        " UPDATE run_status s SET ended_at = ended_at - $1 WHERE s.run_id IN (SELECT run_id FROM r)",
        days * DAY,
        list(run_ids),
    )


async def rows(store: Database, run_id: str, workflow_id: str) -> dict[str, int]:
    """How many rows a run has, by table."""
    return {
        table: await store.fetchval(
            f"SELECT count(*) FROM {table} WHERE {'workflow_id' if table == 'instances' else 'run_id'} = $1",
            workflow_id if table == "instances" else run_id,
        )
        for table in TABLES
    }


async def pruned(http: Http, *run_ids: str) -> dict[str, Any]:
    """One pass over these runs, once their events are published."""
    for _ in range(100):
        body = await http.post(PASS, 200, run_ids=list(run_ids))
        if not any(result.get("reason") == "run_events_unpublished" for result in body["results"]):
            return body
        await asyncio.sleep(0.3)
    raise AssertionError(body)


async def test_a_pruned_run_answers_as_a_closed_one(http: Http, store: Database) -> None:
    await lab(http, "pruned-answers")
    await http.register()
    fields = {"memo": {"a": 1}, "search_attributes": {"Region": "north"}, "business_key": "b-7", "input": [1]}
    run_id = await http.closed("pruned-one", **fields)
    before = await http.get("/workflows/pruned-one")
    events = before["total_history_events"]
    assert (await rows(store, run_id, "pruned-one"))["history"] > 0

    body = await pruned(http, run_id)
    assert (body["processed"], body["pruned"], body["skipped"], body["failed"]) == (1, 1, 0, 0)
    (result,) = body["results"]
    assert (result["run_id"], result["outcome"], result["history_events_deleted"]) == (run_id, "pruned", events)
    assert result["deleted"]["history_events_deleted"] == events
    assert result["deleted"]["run_deleted"] == 0
    assert result["deleted"]["search_attributes_deleted"] == 1
    assert result["deleted"]["memos_deleted"] == 1
    left = await rows(store, run_id, "pruned-one")
    assert {table: count for table, count in left.items() if count} == {"pruned_runs": 1, "instances": 1}

    after = await http.get("/workflows/pruned-one")
    kept: tuple[str, ...] = (
        "workflow_id",
        "run_id",
        "namespace",
        "workflow_type",
        "business_key",
        "status",
        "status_bucket",
        "is_terminal",
    )
    kept += ("closed_reason", "task_queue", "run_number", "run_count", "is_current_run", "started_at", "closed_at")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert (after["memo"], after["search_attributes"], after["input"], after["output"]) == ({}, {}, None, None)
    assert not after["actions"]["can_archive"]
    assert set(after) == set(before)
    assert await http.get(f"/workflows/pruned-one/runs/{run_id}") == {**after, "control_plane": await control(http, run_id)}
    assert (await http.get("/workflows"))["workflows"] == []
    assert (await http.get("/workflows?status=completed"))["workflows"] == []
    assert (await http.get("/workflows/count")) == {"count": 0}
    history = await http.get(f"/workflows/pruned-one/runs/{run_id}/history")
    assert (history["events"], history["next_page_token"]) == ([], None)
    exported = await http.get(f"/workflows/pruned-one/runs/{run_id}/history/export")
    assert exported["history_events"] == []
    runs = await http.get("/workflows/pruned-one/runs")
    assert [(item["run_id"], item["run_number"], item["is_current_run"]) for item in runs["runs"]] == [(run_id, 1, True)]
    debug = await http.get("/workflows/pruned-one/debug")
    assert (debug["diagnostic_status"], debug["run_id"]) == ("terminal", run_id)

    again = await http.start(409, workflow_id="pruned-one")
    assert (again["reason"], again["run_id"]) == ("duplicate_not_allowed", run_id), again
    await http.start(422, workflow_id="pruned-one", workflow_type="another")
    for command in ("cancel", "terminate", "signal/go", "update/go"):
        refused = await http.post(f"/workflows/pruned-one/{command}", 409)
        assert refused["reason"] == "run_not_active", (command, refused)
        refused = await http.post(f"/workflows/pruned-one/runs/{run_id}/{command}", 409)
        assert refused["reason"] == "run_not_active", (command, refused)
    assert (await http.post("/workflows/pruned-one/archive", 200))["outcome"] == "archive_not_needed"
    assert (await http.post("/workflows/pruned-one/query/state", 409))["reason"] == "run_history_pruned"
    # none of that left anything
    assert await rows(store, run_id, "pruned-one") == left

    # a second pass has nothing to do, and says so
    twice = await http.post(PASS, 200, run_ids=[run_id])
    assert (twice["pruned"], twice["results"][0]["history_events_deleted"]) == (1, 0)


async def control(http: Http, run_id: str) -> dict[str, Any]:
    body = await http.get(f"/workflows/pruned-one/runs/{run_id}")
    found: dict[str, Any] = body["control_plane"]
    return found


async def test_what_is_open_archived_or_elsewhere_stays(http: Http, store: Database) -> None:
    await lab(http, "other-lab")
    await http.register()
    foreign = await http.closed("of-another-namespace")
    await lab(http, "staying")
    await http.register()
    open_run = await http.waiting("stays-open")
    archived = await http.closed("stays-archived")
    await http.post("/workflows/stays-archived/archive", 200)
    for _ in range(100):  # until it is published, which is asked about first
        body = await http.post(PASS, 200, run_ids=[open_run, archived, foreign, "nobody", open_run])
        if await store.fetchval("SELECT kept FROM run_status WHERE run_id = $1", archived):
            break
        await asyncio.sleep(0.1)
    assert [(result["run_id"], result["outcome"], result["reason"]) for result in body["results"]] == [
        (open_run, "skipped", "run_not_terminal"),
        (archived, "skipped", "run_archived"),
        (foreign, "skipped", "run_not_found"),
        ("nobody", "skipped", "run_not_found"),
    ]
    assert (body["processed"], body["pruned"], body["skipped"], body["failed"]) == (4, 0, 4, 0)
    assert len(await http.events("stays-archived", archived)) > 2
    await age(store, 400, archived)
    assert (await http.get(STATUS))["expired_run_ids"] == [], "an archived run never expires"


async def test_status_and_pass_by_age(http: Http, store: Database) -> None:
    await lab(http, "by-age", retention_days=10)
    await http.register()
    assert {name: value for name, value in (await http.get(STATUS)).items() if name != "cutoff"} == {
        "namespace": "by-age",
        "retention_days": 10,
        "expired_run_count": 0,
        "expired_run_ids": [],
        "scan_limit": 100,
        "scan_pressure": False,
    }
    young, old, older = [await http.closed(f"aged-{number}") for number in range(3)]
    await age(store, 9, young)
    body = await http.post(PASS, 200)
    assert (body["processed"], body["results"]) == (0, [])
    await asyncio.sleep(2.0)  # published, and marked as that
    await store.execute("UPDATE namespaces SET retention_days = 300 WHERE name = 'by-age'")
    await age(store, 305, old)
    await age(store, 310, older)
    status = await http.get(f"{STATUS}?limit=1")
    if status["expired_run_ids"]:  # the node itself may have been quicker
        assert status["expired_run_ids"] == [older] and status["scan_pressure"] and status["scan_limit"] == 1
    await http.post(PASS, 200, limit=1)
    await http.post(PASS, 200)
    assert (await http.get(STATUS))["expired_run_ids"] == []
    assert (await rows(store, young, "aged-0"))["runs"] == 1
    assert (await rows(store, old, "aged-1"))["runs"] == 0
    assert (await rows(store, older, "aged-2"))["runs"] == 0


async def test_expired_runs_go_by_themselves(http: Http, store: Database) -> None:
    await lab(http, "by-itself", retention_days=1)
    await http.register()
    gone, stays = [await http.closed(f"itself-{number}") for number in range(2)]
    await age(store, 2, gone)
    async with asyncio.timeout(60):
        while (await rows(store, gone, "itself-0"))["pruned_runs"] == 0:
            await asyncio.sleep(0.2)
    assert (await rows(store, stays, "itself-1"))["runs"] == 1
    assert (await http.get("/workflows/itself-0"))["status"] == "completed"


async def test_heartbeats_bring_a_pass_of_one_run(http: Http) -> None:
    await lab(http, "beating")
    await http.register()
    beat = await http.post("/worker/heartbeat", 200, worker_id=http.worker)
    assert beat["retention"] == {"throttled": False, "processed": 0, "pruned": 0, "skipped": 0, "failed": 0}
    beat = await http.post("/worker/heartbeat", 200, worker_id=http.worker)
    assert beat["retention"]["throttled"]


async def test_a_chain_keeps_its_numbers(http: Http, store: Database) -> None:
    await lab(http, "chained")
    await http.register()
    first = await http.waiting("chain", {"type": "continue_as_new"})
    second = (await http.get("/workflows/chain"))["run_id"]
    await pruned(http, first)
    runs = await http.get("/workflows/chain/runs")
    assert [(item["run_id"], item["run_number"], item["is_current_run"]) for item in runs["runs"]] == [
        (first, 1, False),
        (second, 2, True),
    ]
    assert (await http.get(f"/workflows/chain/runs/{first}"))["closed_reason"] == "continued"
    refused = await http.post(f"/workflows/chain/runs/{first}/cancel", 409)
    assert refused["reason"] == "historical_run_command_rejected"
    await http.complete(await http.poll(), {"type": "complete_workflow"})
    await pruned(http, second)
    runs = await http.get("/workflows/chain/runs")
    assert [item["run_number"] for item in runs["runs"]] == [1, 2]
    assert (await http.get("/workflows/chain"))["run_count"] == 2


LIMITS: list[Any] = [0, -1, "many", [], {}, True, 1.5]
LISTS: list[Any] = ["one", {}, 7, True, ["x"] * 101, [" "]]
ITEMS: list[Any] = [7, None, [], {}, True, "x" * 129, "a\0b"]
BAD: list[tuple[dict[str, Any], str]] = [
    *(({"limit": value}, "limit") for value in LIMITS),
    *(({"run_ids": value}, "run_ids") for value in LISTS),
    *(({"run_ids": ["fine", value]}, "run_ids.1") for value in ITEMS),
]


@pytest.mark.parametrize(("body", "field"), BAD)
async def test_bad_passes_are_refused_and_delete_nothing(http: Http, store: Database, body: dict[str, Any], field: str) -> None:
    before = await store.fetchval("SELECT count(*) FROM runs")
    refused = await http.call("POST", PASS, 422, body)
    assert (refused["reason"], list(refused["errors"])) == ("validation_failed", [field])
    assert await store.fetchval("SELECT count(*) FROM runs") == before


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5"])
async def test_bad_limits_of_the_status(http: Http, limit: str) -> None:
    assert list((await http.get(f"{STATUS}?limit={limit}", 422))["errors"]) == ["limit"]


async def test_other_methods(http: Http) -> None:
    for method, path in (("POST", STATUS), ("GET", PASS), ("DELETE", STATUS)):
        await http.call(method, path, 405)
