"""The request fixtures of build ids and of the end of a worker: our server accepts each, and the SDK reads each answer."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from durable_workflow import errors

from tests.support.server import ServerProcess
from tests.wire.request_fixtures import CLIENTS, RequestFixtures, fixture, says

pytestmark = pytest.mark.sdk

OPERATIONS = ("drain", "promote", "resume")


async def sent(desk: RequestFixtures, client: str, operation: str) -> dict[str, Any]:
    """What the client of the fixture hears."""
    found = fixture(f"task-queue-build-id-{operation}")
    if client == "cli":
        answer: dict[str, Any] = await desk.send(found, found["request"]["body"])
        return answer
    state = await getattr(desk.sdk, found["sdk_python"]["method"])(**found["sdk_python"]["args"])
    assert state.raw is not None
    for name, value in vars(state).items():
        assert name == "raw" or state.raw[name] == value, name
    return dict(state.raw)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_operations(desk: RequestFixtures, client: str, operation: str) -> None:
    found = fixture(f"task-queue-build-id-{operation}")
    await sent(desk, client, "drain")
    answer = await sent(desk, client, operation)
    assert set(found["response_body"]) <= set(answer)
    # Times are our own: there where the fixture has one, null where it has null.
    own: dict[str, Any] = {"namespace": desk.sdk.namespace}
    for name, value in found["semantic_body"].items():
        if name.endswith("_at") and value is not None:
            own[name] = answer[name]
            assert isinstance(answer[name], str) and answer[name].endswith("Z")
    says(answer, found["semantic_body"], **own)


@pytest.mark.parametrize("client", CLIENTS)
async def test_cohorts(desk: RequestFixtures, client: str, paging_server: ServerProcess) -> None:
    """The fleet of the fixture: two active workers of the new build, one that drains, one long gone without a build id."""
    found = fixture("task-queue-build-ids")
    queue, meant = found["semantic_body"]["task_queue"], found["semantic_body"]
    new, old, _ = meant["build_ids"]
    for worker_id, build_id in (("a", new), ("b", new), ("c", old), ("d", None)):
        await desk.register(worker_id=worker_id, build_id=build_id, task_queue=queue)
    connection = await asyncpg.connect(paging_server.place.dsn)
    try:
        long_ago = (
            "UPDATE workers SET last_heartbeat_at = last_heartbeat_at - 3600000000 WHERE namespace = $1 AND worker_id = 'd'"
        )
        assert await connection.execute(long_ago, desk.sdk.namespace) == "UPDATE 1"
    finally:
        await connection.close()
    await sent(desk, client, "drain")
    if client == "cli":
        answer = await desk.send(found)
        says(answer, {"namespace": desk.sdk.namespace, "task_queue": queue, "stale_after_seconds": 60})
        cohorts = answer["build_ids"]
    else:
        rollout = await desk.sdk.list_task_queue_build_ids(**found["sdk_python"]["args"])
        assert (rollout.namespace, rollout.task_queue, rollout.stale_after_seconds) == (desk.sdk.namespace, queue, 60)
        cohorts = [vars(cohort) for cohort in rollout.build_ids]
        for cohort in cohorts:
            assert {name: cohort["raw"][name] for name in cohort if name != "raw"} == {
                name: value for name, value in cohort.items() if name != "raw"
            }
    assert [cohort["build_id"] for cohort in cohorts] == meant["build_ids"]
    statuses = {cohort["build_id"] or "unversioned": cohort["rollout_status"] for cohort in cohorts}
    assert statuses == meant["rollout_statuses"]
    counts = ("active_worker_count", "draining_worker_count", "stale_worker_count", "total_worker_count")
    for cohort, expected in zip(cohorts, found["response_body"]["build_ids"], strict=True):
        says(cohort, {name: expected[name] for name in counts})
        assert set(expected) <= set(cohort)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_worker_is_deregistered(desk: RequestFixtures, client: str) -> None:
    found = fixture("worker-deregister")
    worker_id = await desk.register()
    if client == "cli":
        answer = await desk.send(found)
    else:
        answer = await desk.sdk.deregister_worker(**found["sdk_python"]["args"])
    says(answer, found["semantic_body"])
    for gone in (desk.sdk.describe_worker(worker_id), desk.sdk.deregister_worker(worker_id)):
        with pytest.raises(errors.ServerError) as refused:
            await gone
        assert refused.value.status == 404 and "worker_not_found" in str(refused.value.body)
