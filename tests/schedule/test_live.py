"""Schedules on a node with a real database: fired, confirmed, stopped, drained, and told to the event stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import nats
import orjson
import pytest

from actors.clock import Clock
from actors.hosting.repeats import new_key
from actors.hosting.schedule_rows import message_row
from actors.run import ids
from actors.run.commands.control import StartRun, TerminateRun
from actors.run.commands.steps import CompleteWorkflow, ContinueAsNew, WorkflowCommand
from actors.run.commands.worker import ClaimTask, CompleteWorkflowTask
from actors.run.ids import RunId
from actors.run.replies import CommandAnswered, WorkflowTaskCompleted, WorkflowTaskGrant
from actors.run.state import decode as decode_run
from actors.run.state import encode as encode_run
from actors.run.times import SECOND, iso
from actors.run.values import Payload, WorkerIdentity
from actors.schedule.commands import (
    BackfillSchedule,
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    TriggerSchedule,
    UpdateSchedule,
)
from actors.schedule.keys import schedule_key
from actors.schedule.messages import Origin, StartOccurrence
from actors.schedule.replies import Acted, Refused
from actors.schedule.state import Definition
from actors.schedules import FireOutcome
from store import instances, ready_tasks, run_messages, runs, schedules
from tests.cluster.events import EventWatch
from tests.schedule.live import ACTION, EVERY_SECOND, NEVER, LiveNode, once_each
from tests.support.defaults import SHARDS
from tests.support.services import Deployment


@pytest.fixture
async def node(place: Deployment) -> AsyncIterator[LiveNode]:
    async with LiveNode(place) as made:
        yield made


async def trigger(node: LiveNode, schedule_id: str = "s", policy: str | None = None) -> FireOutcome:
    outcome = await node.engine.schedules.trigger("default", schedule_id, TriggerSchedule(policy))
    assert isinstance(outcome, FireOutcome), outcome
    return outcome


async def close(node: LiveNode, workflow_id: str | None) -> None:
    assert workflow_id is not None
    answer = await node.engine.workflows.command("default", workflow_id, TerminateRun())
    assert isinstance(answer, CommandAnswered) and answer.rejection is None


async def status(node: LiveNode, run_id: str | None) -> str:
    stored = await runs.load(node.parts.db, run_id or "")
    assert stored is not None
    return stored.row.status


async def test_a_trigger_starts_a_run_that_knows_where_it_comes_from(node: LiveNode) -> None:
    await node.create("s", memo={"a": 1}, search_attributes={"Area": "north"})
    outcome = await trigger(node)
    assert outcome.outcome == "triggered"
    stored = await runs.load(node.parts.db, outcome.run_id or "")
    assert stored is not None and stored.identity.workflow_id == outcome.workflow_id
    assert stored.identity.workflow_type == "tick" and stored.identity.task_queue == "ticks"
    assert stored.identity.memo == b'{"a":1}' and stored.row.search_attributes == b'{"Area": "north"}'
    (payload,) = await node.triggered()
    assert payload["schedule_id"] == "s" and payload["trigger_number"] == 1
    assert [event.event_type for event in await node.audit("s")] == ["ScheduleCreated", "ScheduleTriggered"]
    shown = await node.detail("s")
    assert shown["info"]["fires_count"] == 1 and shown["latest_workflow_instance_id"] == outcome.workflow_id
    await node.quiet()


async def test_an_interval_fires_by_itself_each_occurrence_once(node: LiveNode) -> None:
    await node.create("s", spec=EVERY_SECOND, overlap_policy="allow_all")
    await node.until("s", lambda state: state.fires_count >= 3)
    assert await node.engine.schedules.pause("default", "s", PauseSchedule()) == Acted("paused")
    await node.quiet()
    state = await node.state("s")
    payloads = await node.triggered()
    assert len(payloads) == state.fires_count
    once_each(payloads)


async def test_commands_that_do_not_fit_change_nothing(node: LiveNode) -> None:
    engine = node.engine.schedules
    assert await engine.pause("default", "s", PauseSchedule()) == Refused("schedule_not_found")
    await node.create("s")
    twice = CreateSchedule(engine.new_record_id("default", "s"), Definition(spec=NEVER, action=ACTION))
    assert await engine.create("default", "s", twice) == Refused("schedule_already_exists", {"schedule_id": "s"})
    wrong = await engine.update("default", "s", UpdateSchedule(spec={"cron_expressions": ["x"]}))
    assert isinstance(wrong, Refused) and wrong.reason == "validation_failed"
    assert await engine.backfill("default", "s", BackfillSchedule(2, 1)) == Refused("invalid_time_range")
    assert await engine.delete("default", "s", DeleteSchedule()) == Acted("deleted")
    assert await engine.delete("default", "s", DeleteSchedule()) == Refused("schedule_not_found")
    assert await engine.trigger("default", "s", TriggerSchedule()) == Refused("schedule_not_found")
    assert [event.event_type for event in await node.audit("s")] == ["ScheduleCreated", "ScheduleDeleted"]


async def test_an_id_that_was_deleted_begins_anew(node: LiveNode) -> None:
    await node.create("s")
    await trigger(node)
    await node.engine.schedules.delete("default", "s", DeleteSchedule())
    await node.create("s")
    assert (await node.state("s")).fires_count == 0
    assert (await trigger(node)).outcome == "triggered"
    types = [event.event_type.removeprefix("Schedule") for event in await node.audit("s")]
    assert types == ["Created", "Triggered", "Deleted", "Created", "Triggered"]


async def test_a_command_with_the_same_key_is_applied_once(node: LiveNode) -> None:
    await node.create("s", overlap_policy="allow_all")
    shard = node.engine.runs.shard_of_workflow("default", "s")
    key = new_key(shard, node.engine.runs.now())
    told = [node.engine.schedules.trigger("default", "s", TriggerSchedule(), key) for _ in range(3)]
    outcomes = await asyncio.gather(*told)
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert len(await node.triggered()) == 1
    key = new_key(shard, node.engine.runs.now())
    for _ in range(2):
        assert await node.engine.schedules.delete("default", "s", DeleteSchedule(), key) == Acted("deleted")


@pytest.mark.parametrize(
    ("policy", "second"),
    [
        ("skip", FireOutcome("skipped", reason="overlap_policy_skip")),
        ("buffer_one", FireOutcome("buffered", buffer_depth=1)),
        ("buffer_all", FireOutcome("buffered", buffer_depth=1)),
    ],
)
async def test_policies_that_start_nothing_while_a_run_is_open(node: LiveNode, policy: str, second: FireOutcome) -> None:
    await node.create("s", overlap_policy=policy)
    first = await trigger(node)
    assert await trigger(node) == second
    third = await trigger(node)
    expected = {"skip": "skipped", "buffer_one": "buffer_full", "buffer_all": "buffered"}[policy]
    assert third.outcome == expected
    await close(node, first.workflow_id)
    waiting = {"skip": 1, "buffer_one": 2, "buffer_all": 2}[policy]
    state = await node.until("s", lambda state: state.fires_count == waiting and not state.sent)
    assert len(state.buffer) == (1 if policy == "buffer_all" else 0)
    if policy != "skip":
        assert state.recent[-1].outcome == "drained"


@pytest.mark.parametrize(("policy", "end"), [("cancel_other", "cancelled"), ("terminate_other", "terminated")])
async def test_policies_that_stop_the_run_before(node: LiveNode, policy: str, end: str) -> None:
    await node.create("s", overlap_policy=policy)
    first = await trigger(node)
    second = await trigger(node)
    assert second.outcome == "triggered"
    await node.quiet()
    assert await status(node, first.run_id) == end
    assert await status(node, second.run_id) == "pending"


async def test_all_runs_at_once(node: LiveNode) -> None:
    await node.create("s", overlap_policy="allow_all")
    outcomes = [await trigger(node) for _ in range(3)]
    assert {outcome.outcome for outcome in outcomes} == {"triggered"}
    assert len({outcome.workflow_id for outcome in outcomes}) == 3


async def test_a_schedule_whose_runs_are_used_up_is_deleted(node: LiveNode) -> None:
    await node.create("s", overlap_policy="allow_all", max_runs=2)
    await trigger(node)
    await trigger(node)
    assert await node.engine.schedules.trigger("default", "s", TriggerSchedule()) == Refused("schedule_not_found")
    assert (await node.audit("s"))[-1].event_type == "ScheduleDeleted"


async def test_a_backfill_is_answered_when_all_of_its_runs_are_there(node: LiveNode) -> None:
    spec = {"intervals": [{"every": "PT1H"}]}
    await node.create("s", spec=spec, paused=True)
    paused = await node.engine.schedules.backfill("default", "s", BackfillSchedule(0, 2 * 3600 * SECOND))
    assert isinstance(paused, list) and [each.outcome for each in paused] == ["skipped", "skipped"]
    await node.engine.schedules.resume("default", "s", ResumeSchedule())
    command = BackfillSchedule(0, 24 * 3600 * SECOND, "allow_all", at_most=10)
    outcomes = await node.engine.schedules.backfill("default", "s", command)
    assert isinstance(outcomes, list) and [each.outcome for each in outcomes] == ["triggered"] * 24
    assert [each.occurrence for each in outcomes] == [hour * 3600 * SECOND for hour in range(24)]
    assert len(await node.triggered()) == 24


async def test_a_start_that_the_rules_refuse_is_a_failure(node: LiveNode) -> None:
    await node.create("s", memo={"no such key!": 1})
    outcome = await trigger(node)
    assert outcome.outcome == "failed" and outcome.reason is not None and "memo key" in outcome.reason
    state = await node.state("s")
    assert state.failures_count == 1 and state.fires_count == 0 and not state.sent
    await node.quiet()


async def test_a_schedule_that_stays_evicted_fires_when_it_is_due(node: LiveNode) -> None:
    due: dict[str, Any] = {"spec": {"intervals": [{"every": "PT2S"}]}, "overlap_policy": "allow_all"}
    await node.create("s", **due)
    await node.parts.schedules.release(set(range(64)), True)
    state = await node.until("s", lambda state: state.fires_count >= 1)
    assert state.recent[0].occurrence is not None and state.recent[0].fired_at - state.recent[0].occurrence < 2 * SECOND


async def step(node: LiveNode, run_id: str | None, command: WorkflowCommand) -> None:
    """Claim the workflow task of a run, and complete it with this."""
    rows = await ready_tasks.ready(node.parts.db, "default", "ticks", "workflow", 100)
    (task_id,) = [row.task_id for row in rows if ids.key_in(row.task_id) == ids.key_in(run_id or "")]
    grant = await node.engine.runs.ask_run(task_id, ClaimTask(task_id, WorkerIdentity("worker")))
    assert isinstance(grant, WorkflowTaskGrant), grant
    done = CompleteWorkflowTask(grant.task_id, grant.lease_owner, grant.workflow_task_attempt, [command])
    assert isinstance(await node.engine.runs.ask_run(task_id, done), WorkflowTaskCompleted)


async def test_a_chain_is_followed_to_its_end(node: LiveNode) -> None:
    await node.create("s", overlap_policy="buffer_one")
    first = await trigger(node)
    assert (await trigger(node)).outcome == "buffered"
    await step(node, first.run_id, ContinueAsNew())
    await node.quiet()
    assert len((await node.state("s")).buffer) == 1
    instance = await instances.get(node.parts.db, first.workflow_id or "")
    assert instance is not None and instance.run_count == 2
    await step(node, instance.current_run_id, CompleteWorkflow())
    state = await node.until("s", lambda state: state.fires_count == 2 and not state.sent)
    assert not state.buffer and state.recent[-1].outcome == "drained"


async def test_a_start_whose_workflow_id_somebody_has_is_a_failure(node: LiveNode) -> None:
    await node.create("s", overlap_policy="allow_all")
    await node.engine.schedules.pause("default", "s", PauseSchedule())
    state = await node.state("s")
    workflow_id = "taken"
    taken = StartRun("default", workflow_id, RunId(""), "tick", None, Payload("avro", "AARbXQI="))
    await node.engine.workflows.start(taken)
    run_id = node.engine.runs.new_run_id("default", workflow_id)
    occurrence = StartOccurrence(
        "default", workflow_id, run_id, Origin("s", state.record_id, 1), "tick", "fail", {"schedule_id": "s"}
    )
    row = message_row(run_id[:-1] + ids.MESSAGE, occurrence, SHARDS)
    await node.parts.db.execute(
        "INSERT INTO mailbox (mail_id, shard, namespace, workflow_id, run_id, body) VALUES ($1, $2, $3, $4, $5, $6)",
        *(row.message_id, row.shard, row.namespace, row.workflow_id, row.run_id, row.body),
    )
    await node.quiet()  # refused, though nobody knows of such a start
    assert (await node.state("s")).failures_count == 0


async def test_audit_events_are_in_the_stream_beside_those_of_runs(node: LiveNode) -> None:
    async with EventWatch(node.place) as watch:
        await node.create("s.1 *", overlap_policy="terminate_other")
        for _ in range(3):
            await trigger(node, "s.1 *")
        await node.quiet()
        await node.engine.schedules.delete("default", "s.1 *", DeleteSchedule())
        events = await node.audit("s.1 *")
        key = schedule_key("default", "s.1 *", SHARDS)
        await watch.wait_for({key: len(events)})
        watch.check_order({key: len(events)})
    (told,) = [orjson.loads(data) for number, data in watch.seen[key] if number == 2]
    assert told == {
        "workflow_id": None,
        "run_id": None,
        "workflow_type": None,
        "schedule_id": "s.1 *",
        "sequence": 2,
        "id": events[1].event_id,
        "event_type": "ScheduleTriggered",
        "namespace": "default",
        "payload": orjson.loads(events[1].payload),
        "workflow_instance_id": events[1].workflow_instance_id,
        "workflow_run_id": events[1].workflow_run_id,
        "recorded_at": iso(events[1].recorded_at),
    }
    async with asyncio.timeout(30):
        while (await schedules.load(node.parts.db, [key]))[0].published_sequence < len(events):
            await asyncio.sleep(0.1)


async def test_what_did_not_get_into_the_stream_is_published_later(node: LiveNode) -> None:
    key = schedule_key("default", "s", SHARDS)
    node.parts.schedule_publisher.dropped(key)
    await node.create("s")
    async with EventWatch(node.place) as watch:
        await watch.wait_for({key: 1})


async def test_older_programs_do_not_see_messages_of_schedules(node: LiveNode) -> None:
    await node.create("s")
    seen = []
    message = run_messages.apart(5)
    assert message < 0 and run_messages.apart(message) == 5
    await node.parts.db.execute(
        "INSERT INTO mailbox VALUES ('later', $1, 'default', 's', NULL, $2)", message, b"\x81\xa2do\xa3new"
    )
    seen += await node.parts.db.fetch("SELECT mail_id FROM mailbox WHERE shard = ANY ($1)", list(range(SHARDS)))
    assert not seen
    assert (await trigger(node)).outcome == "triggered"  # nor do messages of later ones stop this one
    await node.parts.db.execute("DELETE FROM mailbox WHERE mail_id = 'later'")


async def test_an_end_that_nobody_told_of_is_found(node: LiveNode) -> None:
    """A program from before schedules that hosted the run meanwhile has lost where it came from."""
    await node.create("s", overlap_policy="buffer_one")
    first = await trigger(node)
    await node.quiet()
    stored = await runs.load(node.parts.db, first.run_id or "")
    assert stored is not None
    state = decode_run(stored.row.state)
    state.scheduled = None
    sql = "UPDATE runs SET state = $2, version = version + 1 WHERE run_id = $1"
    await node.parts.db.execute(sql, first.run_id, encode_run(state))
    await close(node, first.workflow_id)
    assert (await trigger(node)).outcome == "buffered"
    node.parts.schedules.wake(schedule_key("default", "s", SHARDS))
    state_ = await node.until("s", lambda state: state.fires_count == 2)
    assert not state_.buffer


async def test_what_a_lost_stream_had_is_published_once_more(node: LiveNode) -> None:
    await node.create("s")
    await trigger(node)
    key = schedule_key("default", "s", SHARDS)
    async with EventWatch(node.place) as watch:
        await watch.wait_for({key: 2})
    stream = node.parts.bus.subjects.event_stream
    connection = await nats.connect(node.place.nats_url)
    await connection.jetstream().delete_stream(stream)
    await connection.close()
    async with EventWatch(node.place) as watch:
        await watch.wait_for({key: 2})
        watch.check_order({key: 2})


class Shifted(Clock):
    """The clock of a node whose database's clock is so many seconds ahead."""

    ahead = 24.0 * 3600

    def observe(self, database: int, sent: int) -> None:
        super().observe(database + int(self.ahead * SECOND), sent)


async def test_what_a_clock_that_was_ahead_has_planned_is_planned_anew(place: Deployment) -> None:
    clock = Shifted()
    async with LiveNode(place, clock=clock) as node:
        await node.create("s", spec={"intervals": [{"every": "PT5M"}]})
        await node.parts.schedules.release(range(SHARDS), True)
        planned = (await node.state("s")).next_fire_at
        clock.ahead = 0.0
        state = await node.until("s", lambda state: state.next_fire_at != planned)
        assert planned is not None and state.next_fire_at is not None
        assert planned - state.next_fire_at > 23 * 3600 * SECOND
