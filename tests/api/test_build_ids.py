"""Build ids of a task queue over HTTP: envelopes, drain, resume, promote, bad input (control-plane 7.4, operations 4)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import httpx
import pytest

from api.control.worker_fleet import worker_fleet
from api.http.times import ts
from store.workers import Worker
from tests.api.driver import Http
from tests.support.defaults import make_settings
from tests.support.server import ServerProcess

RECORD = {
    "drain_intent": "active",
    "drained_at": None,
    "promoted_at": None,
    "rolled_back_at": None,
    "new_start_selected": False,
}


async def change(http: Http, operation: str, build_id: str | None) -> dict[str, Any]:
    return await http.post(f"/task-queues/{http.queue}/build-ids/{operation}", 200, build_id=build_id)


async def cohorts(http: Http) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get(f"/task-queues/{http.queue}/build-ids"))["build_ids"]
    return found


async def as_worker(http: Http, build_id: str | None, name: str = "", **fields: Any) -> str:
    """Register another worker of the queue; polls come from it from now on."""
    http.worker = f"{http.queue}-{name or build_id}"
    await http.register(build_id=build_id, **fields)
    return http.worker


async def poll_answer(http: Http, worker: str, kind: str = "workflow", **fields: Any) -> dict[str, Any]:
    body = await http.post(f"/worker/{kind}-tasks/poll", 200, worker_id=worker, task_queue=http.queue, **fields)
    return {name: body[name] for name in ("task", "poll_status") if name in body}


# -- envelopes ---------------------------------------------------------------------------------------------------------


async def test_a_queue_nobody_knows_has_no_cohorts(http: Http) -> None:
    assert await http.get(f"/task-queues/{http.queue}/build-ids") == {
        "namespace": "default",
        "task_queue": http.queue,
        "stale_after_seconds": 60,
        "build_ids": [],
    }


async def test_cohorts_of_workers_and_of_records(http: Http) -> None:
    await as_worker(http, None)
    await as_worker(http, "v1", sdk_version="s/1", workflow_definition_fingerprints={"pay": "x"})
    await as_worker(http, "v1", "other", runtime="go", workflow_definition_fingerprints={"pay": "y", "ship": "z"})
    await change(http, "drain", "v0")
    v1, v0, unversioned = sorted(await cohorts(http), key=lambda item: ["v1", "v0", None].index(item["build_id"]))
    assert [item["build_id"] for item in await cohorts(http)] == ["v1", None, "v0"]
    assert v1 == {
        **RECORD,
        "build_id": "v1",
        "rollout_status": "active",
        "active_worker_count": 2,
        "draining_worker_count": 0,
        "stale_worker_count": 0,
        "total_worker_count": 2,
        "runtimes": ["external", "go"],
        "sdk_versions": ["s/1"],
        "last_heartbeat_at": v1["last_heartbeat_at"],
        "first_seen_at": v1["first_seen_at"],
        "workflow_definition_fingerprint_count": 2,
        "workflow_definition_fingerprint_conflicts": [
            {"workflow_type": "pay", "fingerprint_count": 2, "fingerprints": ["x", "y"]}
        ],
    }
    assert v1["first_seen_at"] < v1["last_heartbeat_at"]
    assert (unversioned["rollout_status"], unversioned["total_worker_count"]) == ("active", 1)
    assert (v0["rollout_status"], v0["drain_intent"], v0["total_worker_count"], v0["last_heartbeat_at"]) == (
        "draining",
        "draining",
        0,
        None,
    )


async def test_operations_and_their_times(http: Http) -> None:
    """Times are set once where the contract says so, and an operation that changes nothing is answered like any other."""
    assert await change(http, "resume", "never seen") == {
        "namespace": "default",
        "task_queue": http.queue,
        "build_id": "never seen",
        **RECORD,
        "deployment": None,
    }
    assert await cohorts(http) == [], "that stores nothing"
    first = await change(http, "drain", "v1")
    assert (first["drain_intent"], first["drained_at"] is None) == ("draining", False)
    assert await change(http, "drain", " v1 ") == first
    assert await change(http, "resume", "v1") == {**first, "drain_intent": "active", "drained_at": None}
    assert (await change(http, "drain", "v1"))["drained_at"] > first["drained_at"]
    one = await change(http, "promote", "v1")
    assert (one["drain_intent"], one["drained_at"], one["new_start_selected"]) == ("active", None, True)
    two = await change(http, "promote", None)
    assert (two["build_id"], two["new_start_selected"], two["rolled_back_at"]) == (None, True, None)
    shown = {item["build_id"]: item for item in await cohorts(http)}
    assert (shown["v1"]["new_start_selected"], shown["v1"]["rolled_back_at"]) == (False, None)
    assert shown["v1"]["promoted_at"] == one["promoted_at"]
    back = await change(http, "promote", "v1")
    assert back["promoted_at"] > two["promoted_at"]
    shown = {item["build_id"]: item for item in await cohorts(http)}
    assert (shown[None]["new_start_selected"], shown[None]["rolled_back_at"]) == (False, back["promoted_at"])
    assert (shown["v1"]["new_start_selected"], shown["v1"]["rolled_back_at"]) == (True, None)


async def test_blank_is_the_cohort_without_a_build_id(http: Http) -> None:
    for blank in (None, "", "  "):
        assert (await change(http, "drain", blank))["build_id"] is None
    assert [item["build_id"] for item in await cohorts(http)] == [None]


async def test_queues_and_namespaces_have_their_own(http: Http) -> None:
    await http.call("POST", "/namespaces", 201, {"name": f"ns-{http.queue}"})
    await change(http, "drain", "v1")
    other = await http.call("GET", f"/task-queues/{http.queue}/build-ids", 200, **{"X-Namespace": f"ns-{http.queue}"})
    assert other["build_ids"] == []
    assert (await http.get(f"/task-queues/{http.queue}x/build-ids"))["build_ids"] == []
    path = "/task-queues/a%2Fb%20c/build-ids"
    assert (await http.post(f"{path}/drain", 200, build_id="v"))["task_queue"] == "a/b c"
    assert len((await http.get(path))["build_ids"]) == 1


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD: list[tuple[Any, str]] = [
    ({}, "build_id"),
    ({"build": "v"}, "build_id"),
    ({"build_id": 7}, "build_id"),
    ({"build_id": ["v"]}, "build_id"),
    ({"build_id": {"v": 1}}, "build_id"),
    ({"build_id": True}, "build_id"),
    ({"build_id": "x" * 256}, "build_id"),
    ({"build_id": "a\x00b"}, "build_id"),
]


@pytest.mark.parametrize("operation", ["drain", "resume", "promote"])
async def test_bad_input_stores_nothing(http: Http, server: ServerProcess, operation: str) -> None:
    connection = await asyncpg.connect(server.place.dsn)
    try:
        before = await connection.fetch("SELECT * FROM rollouts, rollout_revision")
        for body, field in BAD:
            answer = await http.call("POST", f"/task-queues/{http.queue}/build-ids/{operation}", 422, body)
            assert (answer["reason"], list(answer["errors"])) == ("validation_failed", [field]), body
        long = await http.call("POST", f"/task-queues/{'q' * 256}/build-ids/{operation}", 422, {"build_id": "v"})
        assert list(long["errors"]) == ["task_queue"]
        await http.call("POST", f"/task-queues/a%00b/build-ids/{operation}", 404, {"build_id": "v"})
        for text in (b"[1]", b"{", b"7"):
            unread = await http.client.post(
                f"/api/task-queues/q/build-ids/{operation}", content=text, headers={"Content-Type": "application/json"}
            )
            assert unread.status_code in (400, 422), (text, unread.text)
        missing = await http.call(
            "POST", f"/task-queues/{http.queue}/build-ids/{operation}", 404, {"build_id": "v"}, **{"X-Namespace": "nowhere"}
        )
        assert missing["reason"] == "namespace_not_found"
        assert await connection.fetch("SELECT * FROM rollouts, rollout_revision") == before
    finally:
        await connection.close()
    assert await cohorts(http) == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "", "GET, HEAD"),
        ("DELETE", "", "GET, HEAD"),
        ("GET", "/drain", "POST"),
        ("PUT", "/resume", "POST"),
        ("DELETE", "/promote", "POST"),
    ],
)
async def test_other_methods(http: Http, method: str, path: str, allow: str) -> None:
    answer = await http.client.request(method, f"/api/task-queues/q/build-ids{path}")
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


async def test_versions_and_other_paths(http: Http, server: ServerProcess) -> None:
    await http.call("POST", f"/task-queues/{http.queue}/build-ids/rollback", 404, {"build_id": "v"})
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}) as bare:
        for method, path in (("GET", ""), ("POST", "/drain"), ("POST", "/promote")):
            answer = await bare.request(method, f"/api/task-queues/q/build-ids{path}", json={"build_id": "v"})
            assert (answer.status_code, answer.json()["reason"]) == (400, "missing_control_plane_version")


# -- what they mean for workers ----------------------------------------------------------------------------------------


async def test_workers_are_what_their_cohort_is_at_once(http: Http) -> None:
    """At registration, at a heartbeat, in lists, in a description, in the queue: by the record and nothing else."""
    old = await as_worker(http, "v1")
    await as_worker(http, "v2")
    await change(http, "drain", "v1")

    async def listed(status: str) -> list[str]:
        found = (await http.get(f"/workers?task_queue={http.queue}&status={status}"))["workers"]
        return [item["worker_id"] for item in found]

    assert (await listed("draining"), await listed("active")) == ([old], [http.worker])
    assert (await listed("stale"), await listed("odd")) == ([], [])
    assert (await http.get(f"/workers/{old}"))["status"] == "draining"
    assert (await http.post("/worker/heartbeat", 200, worker_id=old))["status"] == "draining"
    again = await http.post("/worker/register", 201, worker_id=old, task_queue=http.queue, runtime="external", build_id="v1")
    assert again["status"] == "draining"
    late = await http.post("/worker/register", 201, task_queue=http.queue, runtime="external", build_id="v1")
    assert late["status"] == "draining"
    (v2, v1) = await cohorts(http)
    assert (v2["build_id"], v2["active_worker_count"]) == ("v2", 1)
    assert (v1["rollout_status"], v1["draining_worker_count"], v1["active_worker_count"]) == ("draining", 2, 0)
    await change(http, "resume", "v1")
    assert (await http.get(f"/workers/{old}"))["status"] == "active"
    assert await listed("draining") == []


async def test_polls_of_a_drained_cohort_wait_and_get_nothing(http: Http) -> None:
    old = await as_worker(http, "v1")
    await change(http, "drain", "v1")
    await http.start(workflow_id=f"w-{http.queue}")
    before = time.monotonic()
    answers = await asyncio.gather(*(poll_answer(http, old, kind) for kind in ("workflow", "activity", "query")))
    assert answers == [{"task": None, "poll_status": "draining"}] * 3
    assert time.monotonic() - before >= 1.5, "they are held"
    new = await as_worker(http, "v2")
    assert (await poll_answer(http, new))["task"]["workflow_id"] == f"w-{http.queue}"


async def test_a_held_poll_follows_drain_and_resume(http: Http) -> None:
    old = await as_worker(http, "v1")
    held = asyncio.create_task(poll_answer(http, old, poll_request_id="r"))
    await asyncio.sleep(0.3)
    await change(http, "drain", "v1")
    await http.start(workflow_id=f"a-{http.queue}")
    assert await held == {"task": None, "poll_status": "draining"}
    held = asyncio.create_task(poll_answer(http, old, poll_request_id="s"))
    await asyncio.sleep(0.3)
    assert not held.done()
    await change(http, "resume", "v1")
    assert (await held)["task"]["workflow_id"] == f"a-{http.queue}"


async def test_what_is_leased_may_be_finished(http: Http) -> None:
    await as_worker(http, "v1")
    await http.start(workflow_id=f"w-{http.queue}")
    task = await http.poll()
    await change(http, "drain", "v1")
    lease = {"lease_owner": http.worker, "workflow_task_attempt": task["workflow_task_attempt"]}
    await http.post(f"/worker/workflow-tasks/{task['task_id']}/heartbeat", 200, **lease)
    await http.complete(task, {"type": "complete_workflow", "result": 1})


async def test_a_repeated_poll_gets_the_lease_from_before_the_drain(http: Http) -> None:
    """It is the worker's already; nobody else could have it until it runs out."""
    old = await as_worker(http, "v1")
    await http.start(workflow_id=f"w-{http.queue}")
    first = await poll_answer(http, old, poll_request_id="same")
    await change(http, "drain", "v1")
    again = await poll_answer(http, old, poll_request_id="same")
    assert (again["task"]["task_id"], again["task"]["lease_owner"]) == (first["task"]["task_id"], old)


async def test_queries_go_to_workers_that_do_not_drain(http: Http) -> None:
    await as_worker(http, "v1")
    await http.waiting(f"w-{http.queue}")
    await change(http, "drain", "v1")
    answer = await http.call("POST", f"/workflows/w-{http.queue}/query/state", 409, {})
    assert answer["reason"] == "query_worker_unavailable"


# -- what they mean for starts -----------------------------------------------------------------------------------------


async def marker(http: Http, workflow_id: str) -> Any:
    return (await http.get(f"/workflows/{workflow_id}"))["compatibility"]


async def test_starts_are_marked_with_what_is_promoted(http: Http) -> None:
    names = [f"{letter}-{http.queue}" for letter in "abcde"]
    await http.start(workflow_id=names[0])
    await change(http, "promote", "v1")
    await http.start(workflow_id=names[1])
    await change(http, "promote", "v2")
    await http.start(workflow_id=names[2])
    await change(http, "drain", "v2")
    await http.start(workflow_id=names[3])
    await change(http, "promote", None)
    await http.start(workflow_id=names[4])
    assert [await marker(http, name) for name in names] == [None, "v1", "v2", "v2", None]
    await http.post("/workflows", 201, workflow_type="order", task_queue=f"{http.queue}-x", workflow_id=f"x-{http.queue}")
    assert await marker(http, f"x-{http.queue}") is None, "another queue"


async def test_a_start_without_a_queue_is_marked_for_the_default_one(http: Http) -> None:
    await http.post("/task-queues/default/build-ids/promote", 200, build_id="v9")
    await http.post("/workflows", 201, workflow_type="order", workflow_id=f"w-{http.queue}")
    assert await marker(http, f"w-{http.queue}") == "v9"


async def test_marked_tasks_go_to_their_build_alone(http: Http) -> None:
    """The workflow task, its activities and what is tried again; the others stay ready, and the run says what it waits for."""
    await change(http, "promote", "v2")
    workflow_id = f"w-{http.queue}"
    run_id = (await http.start(workflow_id=workflow_id))["run_id"]
    old, unversioned = await as_worker(http, "v1"), await as_worker(http, None)
    nothing = {"task": None}
    assert list(await asyncio.gather(poll_answer(http, old), poll_answer(http, unversioned))) == [nothing, nothing]
    health = await http.get(f"/workflows/{workflow_id}/debug")
    assert "workflow_task_waiting_for_compatible_worker" in str(health)
    new = await as_worker(http, "v2")
    task = (await poll_answer(http, new))["task"]
    assert (task["run_id"], task["compatibility"]) == (run_id, "v2")
    retried = {"max_attempts": 3, "backoff_seconds": [0]}
    await http.complete(task, {"type": "schedule_activity", "activity_type": "pack", "retry_policy": retried})
    for _ in range(2):
        assert await poll_answer(http, old, "activity") == {"task": None}
        activity = (await poll_answer(http, new, "activity"))["task"]
        failed = {"lease_owner": new, "activity_attempt_id": activity["activity_attempt_id"], "failure": {"message": "no"}}
        await http.post(f"/worker/activity-tasks/{activity['task_id']}/fail", 200, **failed)
    await change(http, "promote", "v3")
    child = {"type": "start_child_workflow", "workflow_type": "part", "workflow_id": f"c-{http.queue}"}
    done = (await poll_answer(http, new, "activity"))["task"]
    result = {"lease_owner": new, "activity_attempt_id": done["activity_attempt_id"], "result": 1}
    await http.post(f"/worker/activity-tasks/{done['task_id']}/complete", 200, **result)
    await http.complete(await http.poll(), child)
    part = (await poll_answer(http, new))["task"]
    assert (part["workflow_type"], part["compatibility"]) == ("part", "v2"), "children keep their parent's"
    await http.complete(part, {"type": "continue_as_new"})
    again = (await poll_answer(http, new))["task"]
    assert (again["run_id"] != part["run_id"], again["compatibility"]) == (True, "v2")


# -- cluster info ------------------------------------------------------------------------------------------------------


async def test_the_fleet_in_cluster_info(http: Http) -> None:
    """Draining workers are live ones."""
    await as_worker(http, "v1")
    await as_worker(http, None)
    await change(http, "drain", "v1")
    fleet = (await http.get("/cluster/info"))["worker_fleet"]
    ours = {worker["worker_id"]: worker["build_ids"] for worker in fleet["workers"] if worker["queues"] == [http.queue]}
    assert ours == {f"{http.queue}-v1": ["v1"], f"{http.queue}-None": []}
    assert "v1" in fleet["build_ids"] and http.queue in fleet["queues"]


def test_a_worker_is_in_the_fleet_for_as_long_as_its_report_counts() -> None:
    """`DW_V2_COMPATIBILITY_HEARTBEAT_TTL`, or until it is stale: whatever is longer."""
    now = 1_800_000_000_000_000
    worker = Worker(
        "default", "w", "q", "go", None, "v1", None, {}, None, 1, 1, [], None, None, None, "active", now - 90_000_000, now, now
    )
    assert make_settings().worker_fleet_seconds == make_settings().worker_stale_after_seconds == 60
    assert worker_fleet("default", [worker], make_settings(), now)["active_workers"] == 0
    fleet = worker_fleet("default", [worker], make_settings(worker_fleet_seconds=120), now)
    assert (fleet["active_workers"], fleet["build_ids"]) == (1, ["v1"])
    assert fleet["workers"][0]["expires_at"] == ts(now + 30_000_000)
