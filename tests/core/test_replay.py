"""The published SDK's own replayer judges what workers of the 0.4 generation are shown (engine-semantics 2.6, invariant 26).

A workflow of random stages (one activity or timer, or a list of them) runs on the pure core. Its workers replay each snapshot
with the installed package and send what it emits, through the same normalisation as the HTTP edge. Attempts end in any order,
leases are lost, answers come late. Each result names its place, so a result at a wrong place is seen even where the replayer
notices nothing.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from durable_workflow import serializer
from durable_workflow.errors import NonDeterministicReplayError

from actors.dialects import sdk04
from actors.dialects.sdk04 import Sdk04
from actors.run.dialect import Dialect, PlainHistory
from actors.run.values import Payload
from tests.core.harness import SCALE, RunModel, completion, result_of
from tests.core.replaying import (
    ReplayedRun,
    WithoutStepOrder,
    Wrong,
    at_once,
)

SEEDS = 800 * SCALE


@pytest.mark.parametrize("part", range(4))
def test_every_snapshot_replays(part: int) -> None:
    repetitions = 0
    for seed in range(part, SEEDS, 4):
        world = ReplayedRun(seed)
        try:
            world.play()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        repetitions += world.repetitions
    assert repetitions > SEEDS / 8, "hardly a batch was sent again: the test shows too little"


def broken(seeds: range, dialect: Dialect) -> int:
    """How many of the runs that do not come out as written."""
    bad = 0
    for seed in seeds:
        try:
            ReplayedRun(seed, dialect).play()
        except (NonDeterministicReplayError, Wrong, AssertionError):
            bad += 1
    return bad


def test_without_step_order_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk04, "_resolve", at_once)
    assert broken(range(30), WithoutStepOrder()) > 10


def test_on_plain_history_it_breaks() -> None:
    assert broken(range(30), PlainHistory()) > 10


def test_two_results_in_reverse_order_are_swapped_without_step_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest case: a list of two activities of one type, the second ends first."""
    item = {"kind": "activity", "type": "act-0-ok", "how": "ok", "alone": False}

    def returned(dialect: Dialect) -> list[Any]:
        world = ReplayedRun(0, dialect)
        world.script = [[{**item, "place": "0.0"}, {**item, "place": "0.1"}]]
        world.codec = "json"
        blob = serializer.encode([world.script], "json")
        run = world.run = RunModel(
            dialect=dialect, workflow_type="stages", arguments=Payload("json", blob), payload_codec="json"
        )
        grant = run.claim()
        run.tell(completion(grant, *world.replay(grant, world.read(grant))))
        first, second = run.claim_activity(), run.claim_activity()
        for each, place in ((second, '"0.1"'), (first, '"0.0"')):
            run.tell(result_of(each, place, "json"))
        grant = run.claim()
        run.tell(completion(grant, *world.replay(grant, world.read(grant))))
        output: list[Any] = orjson.loads(run.events()[-1]["payload"]["output"])
        return output

    assert returned(Sdk04()) == [["0.0", "0.1"]]
    monkeypatch.setattr(sdk04, "_resolve", at_once)
    assert returned(WithoutStepOrder()) == [["0.1", "0.0"]]
