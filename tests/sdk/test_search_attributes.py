"""Search attributes that workflows change: visible in describe and lists, inherited by children and continued runs.

Contract: engine-semantics 3.1, 8.1, 8.4; worker-protocol 5.8.
"""

from __future__ import annotations

from typing import Any

import pytest
from durable_workflow import WorkflowHandle, workflow
from durable_workflow.workflow import ContinueAsNew

from tests.sdk.features import completes_with, run_handles
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types

pytestmark = pytest.mark.sdk


@workflow.defn(name="tagged")
class Tagged:
    """Upserts what it is told, one object after the other, then waits to be released."""

    def __init__(self) -> None:
        self.released = False

    @workflow.signal("release")
    def release(self) -> None:
        self.released = True

    def run(self, ctx: Any, changes: list[dict[str, Any]]) -> Any:
        for change in changes:
            yield ctx.upsert_search_attributes(change)
        yield ctx.wait_condition(lambda: self.released)
        return "released"


@workflow.defn(name="tagged-parent")
class TaggedParent:
    def run(self, ctx: Any) -> Any:
        yield ctx.upsert_search_attributes({"Stage": "parent"})
        return (yield ctx.start_child_workflow("tagged-child"))


@workflow.defn(name="tagged-child")
class TaggedChild:
    def run(self, ctx: Any) -> Any:
        yield ctx.upsert_search_attributes({"Stage": "child"})
        return "done"


@workflow.defn(name="tagged-chain")
class TaggedChain:
    def run(self, ctx: Any, number: int) -> Any:
        yield ctx.upsert_search_attributes({f"Run{number}": number})
        if number < 3:
            return ContinueAsNew(arguments=[number + 1])
        return number


WORKFLOWS = [Tagged, TaggedParent, TaggedChild, TaggedChain]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS)
    return scene


async def attributes(scene: SdkHarness, handle: WorkflowHandle) -> dict[str, Any]:
    """The attributes of the newest run as describe, describe of the run and the list show them."""
    newest = await scene.client._request("GET", f"/workflows/{handle.workflow_id}")
    run_id = newest["run_id"]
    of_run = await scene.client._request("GET", f"/workflows/{handle.workflow_id}/runs/{run_id}")
    listed = await scene.client._request("GET", f"/workflows?query={handle.workflow_id}")
    (in_list,) = [row for row in listed["workflows"] if row["run_id"] == run_id]
    assert newest["search_attributes"] == of_run["search_attributes"] == in_list["search_attributes"]
    found: dict[str, Any] = newest["search_attributes"]
    return found


async def test_an_upsert_is_visible(ready: SdkHarness) -> None:
    handle = await ready.start("tagged", [{"Tier": "gold", "Count": 3}])
    await recorded(handle, "ConditionWaitOpened")
    assert await attributes(ready, handle) == {"Tier": "gold", "Count": 3}
    await handle.signal("release")
    assert await result_of(handle) == "released"
    assert await attributes(ready, handle) == {"Tier": "gold", "Count": 3}
    events = await completes_with(Tagged, handle, "released")
    assert types(events)[0] == "SearchAttributesUpserted"
    (upserted,) = of_type(events, "SearchAttributesUpserted")
    assert upserted["attributes"] == {"Tier": "gold", "Count": 3}


async def test_upserts_merge_with_the_start(ready: SdkHarness) -> None:
    changes = [
        {"Tier": "silver", "Region": "north"},
        {"Count": 2.5, "Vip": True, "Tags": ["a", "b"]},
        {"Region": None, "Note": ""},
    ]
    handle = await ready.start("tagged", changes, search_attributes={"CustomerId": "cust-42", "Tier": "gold"})
    await recorded(handle, "ConditionWaitOpened")
    expected = {"CustomerId": "cust-42", "Tier": "silver", "Count": 2.5, "Vip": True, "Tags": ["a", "b"]}
    assert await attributes(ready, handle) == expected
    await handle.signal("release")
    assert await result_of(handle) == "released"
    events = await completes_with(Tagged, handle, "released")
    assert types(events)[:3] == ["SearchAttributesUpserted"] * 3
    assert of_type(events, "WorkflowStarted")[0]["search_attributes"] == {"CustomerId": "cust-42", "Tier": "gold"}


async def test_children_inherit(ready: SdkHarness) -> None:
    handle = await ready.start("tagged-parent", search_attributes={"Tier": "gold"})
    assert await result_of(handle) == "done"
    events = await completes_with(TaggedParent, handle, "done")
    child_id = of_type(events, "ChildWorkflowScheduled")[0]["child_workflow_instance_id"]
    (child,) = await run_handles(ready, child_id)
    (started,) = of_type(await _events_of_child(child), "WorkflowStarted")
    assert started["search_attributes"] == {"Tier": "gold", "Stage": "parent"}
    assert await attributes(ready, child) == {"Tier": "gold", "Stage": "child"}
    assert await attributes(ready, handle) == {"Tier": "gold", "Stage": "parent"}


async def _events_of_child(child: WorkflowHandle) -> list[dict[str, Any]]:
    events = await events_of(child)
    assert events[0]["event_type"] == "WorkflowStarted"
    return events


async def test_continued_runs_inherit(ready: SdkHarness) -> None:
    handle = await ready.start("tagged-chain", 1, search_attributes={"Run0": 0})
    await recorded(handle, "WorkflowContinuedAsNew")
    runs = await run_handles(ready, handle.workflow_id)
    while len(runs) < 3:
        runs = await run_handles(ready, handle.workflow_id)
    assert await result_of(runs[-1]) == 3
    assert await attributes(ready, handle) == {"Run0": 0, "Run1": 1, "Run2": 2, "Run3": 3}
    first = await ready.client._request("GET", f"/workflows/{handle.workflow_id}/runs/{runs[0].run_id}")
    assert first["search_attributes"] == {"Run0": 0, "Run1": 1}
