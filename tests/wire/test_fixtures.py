"""The request fixtures of namespaces, workflows, workers and tasks: our server accepts each, and the SDK reads each answer.

The server serves history in pages of two events, so that paging fixtures have a second page.
"""

from __future__ import annotations

import pytest
from durable_workflow import serializer

from tests.wire.request_fixtures import CLIENTS, RequestFixtures, fixture, says

pytestmark = pytest.mark.sdk


# -- namespaces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_namespaces(desk: RequestFixtures, client: str) -> None:
    create, show, update, listing = (fixture(f"namespace-{name}") for name in ("create", "describe", "update", "list"))
    own = {"name": f"billing-{client}"}
    path = f"/namespaces/billing-{client}"
    if client == "cli":
        says(await desk.send(create, {**create["request"]["body"], **own}, status=201), create["semantic_body"], **own)
        says(await desk.send(show, path=path), show["semantic_body"], **own)
        says(await desk.send(update, update["request"]["body"], path), update["semantic_body"], **own)
        listed = {item["name"]: item for item in (await desk.send(listing))["namespaces"]}
    else:
        made = await desk.sdk.create_namespace(**{**create["sdk_python"]["args"], **own})
        says(vars(made), create["semantic_body"], **own)
        says(vars(await desk.sdk.describe_namespace(own["name"])), show["semantic_body"], **own)
        changed = await desk.sdk.update_namespace(**{**update["sdk_python"]["args"], **own})
        says(vars(changed), update["semantic_body"], **own)
        assert changed.updated_at is not None
        listed = {item.name: vars(item) for item in (await desk.sdk.list_namespaces()).namespaces}
    assert {"default", own["name"]} <= set(listed)
    assert (listed["default"]["status"], listed["default"]["retention_days"]) == ("active", 30)
    assert listed[own["name"]]["retention_days"] == update["semantic_body"]["retention_days"]


# -- workflows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_workflows(desk: RequestFixtures, client: str) -> None:
    start = fixture("workflow-start")
    own = f"{start['semantic_body']['workflow_id']}-{client}"
    if client == "cli":
        body = {**start["cli"]["expected_body"], "workflow_id": own}
        first = await desk.send(start, body, status=201)
        again = await desk.send(start, body, status=200)
        runs = [first["run_id"], again["run_id"]]
        assert again["outcome"] == "returned_existing_active"
    else:
        arguments = {**start["sdk_python"]["kwargs"], "workflow_id": own}
        runs = [(await desk.sdk.start_workflow(**arguments)).run_id or "" for _ in range(2)]
    run = runs[0]
    assert runs == [run, run]
    meant = start["semantic_body"]

    # describe, and the run by its id
    shown = await desk.send(fixture("workflow-describe"), path=f"/workflows/{own}")
    names = ("workflow_type", "task_queue", "input", "memo", "search_attributes")
    says(shown, {name: meant[name] for name in names}, workflow_id=own, run_id=run, is_current_run=True)
    assert set(fixture("workflow-describe")["response_body"]) <= set(shown)
    described = await desk.sdk.describe_workflow(own)
    assert (described.run_id, described.status, described.input) == (run, "pending", meant["input"])
    show = fixture("workflow-show-run")
    assert set(show["response_body"]) <= set(await desk.send(show, path=f"/workflows/{own}/runs/{run}"))
    one = await desk.sdk.describe_workflow_run(own, run)
    assert (one.run_number, one.run_count, one.is_current_run, one.closed_at) == (1, 1, True, None)
    assert (one.execution_timeout_seconds, one.run_timeout_seconds) == (300, 120)
    assert (one.memo, one.search_attributes, one.input) == (meant["memo"], meant["search_attributes"], meant["input"])
    assert one.actions is not None
    assert set(show["response_body"]["actions"]) <= set(one.actions)

    # its runs
    listed = fixture("workflow-list-runs")
    found = await desk.send(listed, path=f"/workflows/{own}/runs")
    assert (found["workflow_id"], found["run_count"]) == (own, 1)
    assert set(listed["response_body"]["runs"][0]) <= set(found["runs"][0])
    assert [item.run_id for item in (await desk.sdk.list_workflow_runs(own)).runs] == [run]

    # the list
    listing = fixture("workflow-list")
    query = listing["cli"]["expected_query"]
    answer = await desk.raw.get("/api/workflows", params={**query, "query": own})
    assert set(listing["response_body"]["workflows"][0]) <= set(answer.json()["workflows"][0])
    page = await desk.sdk.list_workflows(**{**listing["sdk_python"]["args"], "query": own})
    assert [(item.workflow_id, item.run_id) for item in page.executions] == [(own, run)]
    assert (await desk.raw.get("/api/workflows", params=query)).status_code == 200

    # its history
    history = fixture("workflow-history")
    found = await desk.send(history, path=f"/workflows/{own}/runs/{run}/history")
    says(found, {}, workflow_id=own, run_id=run)
    assert set(history["response_body"]["events"][0]) <= set(found["events"][0])
    assert await desk.sdk.get_history(own, run) == found
    assert [event["event_type"] for event in found["events"]] == ["StartAccepted", "WorkflowStarted", "StartAccepted"]


# -- workers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_workers(desk: RequestFixtures, client: str) -> None:
    register, listing, show = (fixture(f"worker-{name}") for name in ("register", "list", "describe"))
    namespace = desk.sdk.namespace
    if client == "cli":
        answer = await desk.send(register, register["request"]["body"], status=201)
    else:
        answer = await desk.sdk.register_worker(**register["sdk_python"]["kwargs"])
    says(answer, register["response_body"])
    await desk.register(worker_id="batch-worker-231", build_id="build-232")
    await desk.register(worker_id="elsewhere", task_queue="other")

    found = await desk.send(listing)
    assert {item["worker_id"] for item in found["workers"]} == set(listing["semantic_body"]["worker_ids"])
    assert found["namespace"] == namespace
    assert set(listing["response_body"]["workers"][0]) <= set(found["workers"][0])
    roster = await desk.sdk.list_workers(**listing["sdk_python"]["kwargs"])
    assert {worker.worker_id for worker in roster.workers} == set(listing["semantic_body"]["worker_ids"])
    assert all((worker.status, worker.namespace) == ("active", namespace) for worker in roster.workers)

    shown = await desk.send(show)
    says(shown, show["semantic_body"], namespace=namespace)
    assert set(show["response_body"]) <= set(shown)
    worker = await desk.sdk.describe_worker(**show["sdk_python"]["args"])
    expected = register["request"]["body"]
    says(vars(worker), expected)
    assert worker.registered_at is not None


# -- workflow tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_workflow_task_poll(desk: RequestFixtures, client: str) -> None:
    poll = fixture("workflow-task-poll")
    await desk.register()
    body = {
        "workflow_id": f"poll-{desk.sdk.namespace}",
        "workflow_type": "orders.fulfillment",
        "task_queue": "external-workflows",
    }
    started = (await desk.raw.post("/api/workflows", json=body)).json()
    if client == "cli":
        task = (await desk.send(poll, poll["request"]["body"]))["task"]
    else:
        task = await desk.sdk.poll_workflow_task(**poll["sdk_python"]["kwargs"])
    assert set(poll["response_body"]["task"]) <= set(task)
    says(task, {}, workflow_id=body["workflow_id"], run_id=started["run_id"], lease_owner="polyglot-worker-231")
    assert [event["event_type"] for event in task["history_events"]] == ["StartAccepted", "WorkflowStarted"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_workflow_task_complete(desk: RequestFixtures, client: str) -> None:
    complete = fixture("workflow-task-complete")
    _, task = await desk.leased()
    own = {"task_id": task["task_id"], "workflow_task_attempt": 1}
    if client == "cli":
        body = {**complete["request"]["body"], "workflow_task_attempt": 1}
        answer = await desk.send(complete, body, f"/worker/workflow-tasks/{task['task_id']}/complete")
    else:
        answer = await desk.sdk.complete_workflow_task(**{**complete["sdk_python"]["kwargs"], **own})
    says(answer, {"outcome": complete["semantic_body"]["outcome"]}, **own)
    worker = await desk.register(worker_id="w2", task_queue="external-activities", supported_activity_types=None)
    activity = await desk.sdk.poll_activity_task(worker_id=worker, task_queue="external-activities")
    assert activity["activity_type"] == "inventory.sync-page"
    # An object as input is the activity's one argument.
    sent = complete["request"]["body"]["commands"][0]["input"]
    assert serializer.decode_envelope(activity["arguments"], codec="avro") == [sent]


@pytest.mark.parametrize("client", CLIENTS)
async def test_workflow_task_history(desk: RequestFixtures, client: str) -> None:
    page = fixture("workflow-task-history")
    workflow_id, activity, worker = await desk.activity()
    await desk.sdk.complete_activity_task(
        task_id=activity["task_id"], activity_attempt_id=activity["activity_attempt_id"], lease_owner=worker, result=1
    )
    task = await desk.sdk.poll_workflow_task(worker_id="polyglot-worker-231", task_queue="external-workflows")
    own = {"task_id": task["task_id"], "workflow_task_attempt": 1, "next_history_page_token": task["next_history_page_token"]}
    if client == "cli":
        body = {**page["request"]["body"], **own}
        answer = await desk.send(page, body, f"/worker/workflow-tasks/{task['task_id']}/history")
    else:
        answer = await desk.sdk.workflow_task_history(**{**page["sdk_python"]["kwargs"], **own})
    assert set(page["response_body"]) <= set(answer)
    assert [event["event_type"] for event in answer["history_events"]] == ["ActivityScheduled", "ActivityStarted"]
    assert answer["total_history_events"] == 5
    assert answer["next_history_page_token"]
    assert len(await desk.events(workflow_id)) == 5


@pytest.mark.parametrize("client", CLIENTS)
async def test_workflow_task_fail(desk: RequestFixtures, client: str) -> None:
    fail = fixture("workflow-task-fail")
    workflow_id, task = await desk.leased()
    own = {"task_id": task["task_id"], "workflow_task_attempt": 1}
    if client == "cli":
        body = {**fail["request"]["body"], "workflow_task_attempt": 1}
        answer = await desk.send(fail, body, f"/worker/workflow-tasks/{task['task_id']}/fail")
    else:
        answer = await desk.sdk.fail_workflow_task(**{**fail["sdk_python"]["kwargs"], **own})
    says(answer, {"outcome": fail["semantic_body"]["outcome"]}, **own)
    assert len(await desk.events(workflow_id)) == 2


# -- activity tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_activity_complete(desk: RequestFixtures, client: str) -> None:
    complete = fixture("activity-complete")
    workflow_id, task, worker = await desk.activity()
    own = {"task_id": task["task_id"], "activity_attempt_id": task["activity_attempt_id"], "lease_owner": worker}
    if client == "cli":
        fence = {name: own[name] for name in ("activity_attempt_id", "lease_owner")}
        body = {**complete["cli"]["expected_body"], **fence}
        answer = await desk.send(complete, body, f"/worker/activity-tasks/{task['task_id']}/complete")
    else:
        answer = await desk.sdk.complete_activity_task(**{**complete["sdk_python"]["kwargs"], **own})
    says(answer, {"outcome": "completed", "recorded": True}, task_id=own["task_id"])
    last = (await desk.events(workflow_id))[-1]
    assert last["event_type"] == "ActivityCompleted"
    result = serializer.decode_envelope(last["payload"]["result"], codec=last["payload"]["payload_codec"])
    assert result == complete["semantic_body"]["result"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_activity_fail(desk: RequestFixtures, client: str) -> None:
    fail = fixture("activity-fail")
    workflow_id, task, worker = await desk.activity()
    own = {"task_id": task["task_id"], "activity_attempt_id": task["activity_attempt_id"], "lease_owner": worker}
    if client == "cli":
        fence = {name: own[name] for name in ("activity_attempt_id", "lease_owner")}
        answer = await desk.send(fail, {**fail["request"]["body"], **fence}, f"/worker/activity-tasks/{task['task_id']}/fail")
    else:
        answer = await desk.sdk.fail_activity_task(**{**fail["sdk_python"]["kwargs"], **own})
    says(answer, {"outcome": "failed", "recorded": True}, task_id=own["task_id"])
    last = (await desk.events(workflow_id))[-1]
    assert last["event_type"] == "ActivityFailed"
    meant = fail["semantic_body"]
    assert (last["payload"]["message"], last["payload"]["exception_type"]) == (meant["message"], meant["type"])
    assert last["payload"]["non_retryable"] is True


# -- search attributes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_search_attributes(desk: RequestFixtures, client: str) -> None:
    create, listing, delete = (fixture(f"search-attribute-{name}") for name in ("create", "list", "delete"))
    other = {"name": "Priority", "type": "int"}
    if client == "cli":
        assert await desk.send(create, create["request"]["body"], status=201) == create["response_body"]
        await desk.send(create, other, status=201)
        found = await desk.send(listing)
        gone = await desk.send(delete)
    else:
        assert await desk.sdk.create_search_attribute(**create["sdk_python"]["args"]) == create["response_body"]
        await desk.sdk.create_search_attribute(other["name"], other["type"])
        found = vars(await desk.sdk.list_search_attributes())
        gone = await desk.sdk.delete_search_attribute(**delete["sdk_python"]["args"])
    meant = listing["semantic_body"]
    assert meant["system_attributes"].items() <= found["system_attributes"].items()
    assert found["custom_attributes"] == meant["custom_attributes"]
    says(gone, delete["semantic_body"])
    assert (await desk.sdk.list_search_attributes()).custom_attributes == {"Priority": "int"}
    await desk.sdk.delete_search_attribute("Priority")


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_list_by_the_query_of_the_fixture(desk: RequestFixtures, client: str) -> None:
    listing = fixture("workflow-list")
    query = listing["cli"]["expected_query"]
    own = [f"listed-{client}-{number}" for number in range(2)]
    for name in own:
        body = {"workflow_id": name, "workflow_type": query["workflow_type"], "task_queue": "orders"}
        answer = await desk.raw.post("/api/workflows", json={**body, "search_attributes": {"CustomerId": f"42{client}"}})
        assert answer.status_code == 201
    text = query["query"].replace("42", f"42{client}")
    if client == "cli":
        answer = await desk.raw.get("/api/workflows", params={**query, "query": text})
        found = [item["workflow_id"] for item in answer.json()["workflows"]]
    else:
        page = await desk.sdk.list_workflows(**{**listing["sdk_python"]["args"], "query": text})
        found = [item.workflow_id for item in page.executions]
    assert found == own[::-1]
