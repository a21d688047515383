"""Steps in a batch of a hundred workflows while a node is killed: activities with retries, timers, markers.

Every step is resolved once, with the outcome its script gives it, and what was recorded once stays.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

import pytest

from bench.payloads import decode, decode_stored
from tests.cluster.scripted import Crew, Failed, Script, Step, View, activity, complete, envelope, timer
from tests.cluster.two_node_cluster import COUNT, LEASES, TwoNodeCluster
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]


# -- activities --------------------------------------------------------------------------------------------------------

MODES: list[tuple[str, dict[str, Any] | None]] = [
    ("steady", None),
    ("flaky", {"max_attempts": 9, "backoff_seconds": [0, 1]}),
    ("hopeless", {"max_attempts": 2, "backoff_seconds": [1]}),
    ("refused", {"max_attempts": 9, "non_retryable_error_types": ["Refused"]}),
]


class Activities(Script):
    """One activity that succeeds, is retried or fails for good, then two at once."""

    workflow_types = ("features.activities",)
    activity_types = ("features.tried", "features.echo")

    def decide(self, view: View) -> list[Step]:
        (number,) = view.input
        done = view.resolutions
        mode, policy = MODES[number % len(MODES)]
        if not done:
            options = {} if policy is None else {"retry_policy": policy}
            return [activity("features.tried", [mode, number], self.queue, **options)]
        if len(done) < 3:
            return [activity("features.echo", [number, member], self.queue) for member in ("a", "b")]
        return [complete([_outcome(event) for event in done])]

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        arguments = decode(task["arguments"]["blob"])
        attempt = task["attempt_number"]
        if task["activity_type"] == "features.echo":
            return arguments
        mode, number = arguments
        if mode == "hopeless" or (mode == "flaky" and attempt <= 2):
            raise Failed(f"{mode} {number}", "Hopeless")
        if mode == "refused":
            raise Failed(f"{mode} {number}", "Refused")
        return [mode, number]


def _outcome(event: dict[str, Any]) -> Any:
    payload = event["payload"]
    return decode_stored(payload["result"]) if event["event_type"] == "ActivityCompleted" else payload["message"]


async def test_activities_with_retries(cluster: MakeCluster) -> None:
    async with TwoNodeCluster(cluster(2, env=LEASES), Activities()) as arena:
        await arena.fight(reports=6)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            mode, _ = MODES[number % len(MODES)]
            succeeds = mode in ("steady", "flaky")
            first = [mode, number] if succeeds else f"{mode} {number}"
            assert run.result == [first, [number, "a"], [number, "b"]], run.kinds
            assert run.kinds.count("ActivityFailed") == (not succeeds)
            tried = [p for p in run.payloads("ActivityStarted") if p["activity_type"] == "features.tried"]
            retries = run.kinds.count("ActivityRetryScheduled")
            # An attempt that its worker never got, or whose lease ran out, takes a number and is no failure.
            assert retries <= {"steady": 0, "flaky": 2, "hopeless": 1, "refused": 0}[mode] and len(tried) > retries, run.kinds


# -- timers ------------------------------------------------------------------------------------------------------------


class Timers(Script):
    """One timer, then a list of timers and an activity."""

    workflow_types = ("features.timers",)
    activity_types = ("features.echo",)

    def decide(self, view: View) -> list[Step]:
        done = view.resolutions
        if not done:
            return [timer(1)]
        if len(done) < 5:
            return [timer(2), timer(0), activity("features.echo", view.input, self.queue), timer(1)]
        return [complete([[event["event_type"], event["payload"].get("delay_seconds")] for event in done])]

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        return decode(task["arguments"]["blob"])


async def test_timers(cluster: MakeCluster) -> None:
    async with TwoNodeCluster(cluster(2, env=LEASES), Timers()) as arena:
        await arena.fight(reports=6)
        runs = await arena.finish()
        assert len(runs) == COUNT
        listed = [["TimerFired", 2], ["TimerFired", 0], ["ActivityCompleted", None], ["TimerFired", 1]]
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            assert run.result == [["TimerFired", 1], *listed], run.kinds
            fired = run.payloads("TimerFired")
            assert len(fired) == 4 and len({payload["timer_id"] for payload in fired}) == 4
            assert all(_time(payload["fired_at"]) >= _time(payload["fire_at"]) for payload in fired), fired


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


# -- markers -----------------------------------------------------------------------------------------------------------


class Markers(Script):
    """Side effects, a version marker and search attributes around an activity and a timer."""

    workflow_types = ("features.markers",)
    activity_types = ("features.echo",)

    def decide(self, view: View) -> list[Step]:
        (number,) = view.input
        done = view.resolutions
        effect = {"type": "record_side_effect", "result": envelope(secrets.token_hex(8))}
        if not done:
            marker = {"type": "record_version_marker", "change_id": "c", "version": 2, "min_supported": 1, "max_supported": 3}
            return [effect, marker, _attributes(stage="one", number=number), activity("features.echo", [number], self.queue)]
        if len(done) == 1:
            return [_attributes(stage=None, done="yes"), effect, timer(0)]
        recorded = [decode_stored(payload["result"]) for payload in view.payloads("SideEffectRecorded")]
        (version,) = [payload["version"] for payload in view.payloads("VersionMarkerRecorded")]
        return [complete([*recorded, version])]

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        return decode(task["arguments"]["blob"])


def _attributes(**values: Any) -> Step:
    return {"type": "upsert_search_attributes", "attributes": values}


async def test_side_effects_version_markers_and_search_attributes(cluster: MakeCluster) -> None:
    async with TwoNodeCluster(cluster(2, env=LEASES), Markers()) as arena:
        await arena.fight(reports=4)
        runs = await arena.finish()
        assert len(runs) == COUNT
        steps = {"SideEffectRecorded": 2, "VersionMarkerRecorded": 1, "SearchAttributesUpserted": 2}
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            effects = [decode_stored(payload["result"]) for payload in run.payloads("SideEffectRecorded")]
            assert run.result == [*effects, 2] and effects[0] != effects[1]
            assert {kind: run.kinds.count(kind) for kind in steps} == steps, run.kinds
            assert run.item["search_attributes"] == {"number": number, "done": "yes"}
            numbers = [payload["sequence"] for payload in run.payloads(*steps)]
            assert numbers == sorted(set(numbers))
