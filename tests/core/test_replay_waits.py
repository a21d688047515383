"""The published SDK's replayer judges waits, signals, updates, children and continued runs (engine-semantics 2.6, V1 to V6).

A workflow opens waits in a row, then runs lists of activities, timers and children, perhaps waits in vain, and ends or goes on
as another run. Inputs come in bursts, leases are lost, runs are repaired. The workflow keeps what its waits gave it, so that a
replay which decides otherwise than an earlier one is seen even where the replayer notices nothing.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any, ClassVar, Literal

import orjson
import pytest
from durable_workflow import serializer, workflow
from durable_workflow.errors import ActivityFailed, ChildWorkflowFailed, NonDeterministicReplayError, QueryFailed

from actors.dialects import sdk04
from actors.dialects.sdk04 import DIALECT
from actors.run.commands.control import ReadForQuery, RepairRun, SignalRun, UpdateRun
from actors.run.commands.messages import ChildClosed, ChildRestarted, StartChildRun
from actors.run.commands.steps import WorkflowCommand
from actors.run.commands.worker import ClaimTask
from actors.run.dialect import Dialect, PlainHistory
from actors.run.replies import QueryView, WorkflowTaskGrant
from actors.run.values import Payload
from api.http.input.fields import Fields
from api.worker.commands.batch import read_steps, scope_errors
from tests.core.harness import OTHER, PYTHON, SCALE, Event, RunModel, resume_of
from tests.core.replaying import ReplayedRun as Replayed
from tests.core.replaying import ScriptedWorkflow, WithoutStepOrder, Wrong, at_once, make_script

SEEDS = 240 * SCALE
Part = dict[str, Any]


@workflow.defn(name="waits")
class Waits:
    """Each part of its script is one run: waits, lists of steps, a wait in vain."""

    out: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.inbox: list[int] = []
        self.seen: list[int] = []

    @workflow.signal("put")
    def put(self, value: int) -> None:
        self.inbox.append(value)
        self.seen.append(value)

    @workflow.update("put")
    def put_now(self, value: int) -> int:
        if value % 3 == 0:
            raise ValueError("not this one")
        self.put(value)
        return value

    @workflow.query("seen")
    def seen_so_far(self) -> list[int]:
        return self.seen

    def run(self, ctx: Any, parts: list[Part]) -> Generator[Any, Any, Any]:
        part = parts[0]
        out = Waits.out = []
        for number, wait in enumerate(part["waits"], 1):
            if wait["effect"]:
                out.append((yield ctx.side_effect(lambda: 7)))
            if wait["marker"]:
                out.append((yield ctx.get_version(f"change-{number}", 1, 2)))
            if part["consumes"]:
                yield ctx.wait_condition(lambda: bool(self.inbox), key="any")
                out.append(self.inbox.pop(0))
            else:
                yield ctx.wait_condition(lambda needed=number: len(self.seen) >= needed, key=f"wait-{number}")
                out.append(self.seen[number - 1])
        for stage in part["stages"]:
            commands = [self.command(ctx, item) for item in stage]
            try:
                out.append((yield commands[0] if stage[0]["alone"] else commands))
            except (ActivityFailed, ChildWorkflowFailed) as failed:
                out.append(["failed", type(failed).__name__])
        if part["in_vain"]:
            out.append((yield ctx.wait_condition(lambda: False, key="never", timeout=part["in_vain"])))
        if len(parts) > 1:
            return ctx.continue_as_new(parts[1:])
        return out

    @staticmethod
    def command(ctx: Any, item: dict[str, Any]) -> Any:
        if item["kind"] == "child":
            return ctx.start_child_workflow(f"part-{item['how']}", [item["place"]])
        return ScriptedWorkflow.command(ctx, item)


def make_part(rng: random.Random, codec: str) -> Part:
    """Up to four waits, up to two lists; some activities are children instead.

    Side effects only under Avro: the SDK sends their values bare, and the edge, which knows no run, takes bare values for that.
    """
    stages = make_script(rng)[: rng.randint(0, 2)]
    for stage in stages:
        for item in stage:
            if item["kind"] == "activity" and rng.random() < 0.3:
                item["kind"] = "child"
    waits = [{"effect": codec == "avro" and rng.random() < 0.4, "marker": rng.random() < 0.2} for _ in range(rng.randint(0, 4))]
    return {"consumes": rng.random() < 0.5, "waits": waits, "stages": stages, "in_vain": rng.choice([None, None, 0, 5])}


class ReplayedChain(Replayed):
    """A chain of runs, those who send it inputs, and its children."""

    workflow = Waits

    def __init__(self, seed: int, dialect: Dialect | None = None) -> None:
        super().__init__(seed, dialect)
        rng = self.rng
        self.parts = [make_part(rng, self.codec) for _ in range(rng.choice([1, 1, 2, 3]))]
        blob = serializer.encode([self.parts], self.codec)
        self.begin(
            RunModel(dialect=dialect, workflow_type="waits", arguments=Payload(self.codec, blob), payload_codec=self.codec)
        )
        self.sent = 0
        self.updates = 0
        self.queries = 0

    def begin(self, run: RunModel) -> None:
        self.run = run
        self.tasks, self.attempts, self.view = [], [], []
        self.children: list[StartChildRun] = []
        self.remembered: list[Any] = []
        self.given = 0

    def at_waits(self) -> bool:
        """Whether the open wait is one that an input can satisfy."""
        wait = self.run.state.wait
        return wait is not None and wait.key != "never"

    def play(self) -> None:
        """Until the last run is closed."""
        for _ in range(800):
            if not self.run.state.is_open:
                break
            run = self.run
            self.one_thing()
            self.children += [message.command for message in run.messages if isinstance(message.command, StartChildRun)]
            run.messages = []
            if run.successor is not None:
                self.parts = self.parts[1:]
                self.begin(run.successor)
        ends = [event for event in self.run.events() if event["event_type"].startswith("Workflow")][1:]
        if [event["event_type"] for event in ends] != ["WorkflowCompleted"]:
            raise Wrong(f"ended with {ends}")
        result = serializer.decode_envelope(ends[0]["payload"]["output"], codec=ends[0]["payload"]["payload_codec"])
        self.judge(result)

    def judge(self, result: list[Any]) -> None:
        """Each place of the result holds what belongs there."""
        part, values = self.parts[0], iter(result)
        taken: list[int] = []
        for wait in part["waits"]:
            for wanted in [7] * wait["effect"] + [2] * wait["marker"]:
                if next(values) != wanted:
                    raise Wrong(f"a recorded value moved: {result}")
            taken.append(next(values))
        if any(sorted(each) != each for each in ([v for v in taken if v < 1000], [v for v in taken if v >= 1000])):
            raise Wrong(f"inputs out of order: {taken}")
        for stage in part["stages"]:
            self.judge_stage(stage, next(values))
        if part["in_vain"] is not None and part["in_vain"] != 0 and next(values) is not False:
            raise Wrong("a wait in vain was satisfied")

    @staticmethod
    def judge_stage(stage: list[dict[str, Any]], got: Any) -> None:
        bad = next((item for item in stage if item.get("how") in ("bad", "slow")), None)
        if bad is not None:
            wanted: Any = ["failed", "ChildWorkflowFailed" if bad["kind"] == "child" else "ActivityFailed"]
        else:
            wanted = [item.get("place") for item in stage]
            wanted = wanted[0] if stage[0]["alone"] else wanted
        if got != wanted:
            raise Wrong(f"returned {got}, not {wanted}")

    def one_thing(self) -> None:
        chance = self.rng.random()
        if chance < 0.12:
            self.burst()
        elif chance < 0.16:
            self.query()
        elif chance < 0.18:
            self.run.tell(RepairRun())
        elif self.children and chance < 0.5:
            self.child_news()
        elif self.at_waits() and self.run.state.open_task is None and chance < 0.6:
            self.burst()
        else:
            super().one_thing()

    # -- inputs --------------------------------------------------------------------------------------------------------

    def burst(self) -> None:
        """Inputs in a row: signals, rarely an update. A run gets what it waits for, and a few more."""
        needed = self.run.state.open_task is None and self.at_waits()
        for _ in range(self.rng.randint(1, 4)):
            if self.given >= len(self.parts[0]["waits"]) + 2 and not needed:
                return
            self.given += 1
            self.sent += 1
            if self.rng.random() < 0.25:
                self.updates += 1
                value = 1000 + self.sent
                self.run.tell(UpdateRun(name="put", arguments=self.arguments(value)))
            else:
                self.run.tell(SignalRun(name="put", arguments=self.arguments(self.sent)))

    def arguments(self, value: int) -> Payload:
        return Payload(self.codec, serializer.encode([value], self.codec))

    def query(self) -> None:
        """V6: whatever is held back from workers, a query's replay works and reflects every signal."""
        view = self.run.expect(QueryView, ReadForQuery(DIALECT))
        events: list[Event] = orjson.loads(view.history_events)
        start_input = serializer.decode_envelope(orjson.loads(view.arguments), codec=view.payload_codec)
        seen = workflow.query_state(
            Waits,
            events,
            start_input,
            "seen",
            workflow_id=view.workflow_id,
            run_id=view.run_id,
            payload_codec=view.payload_codec,
        )
        signals = [event["payload"] for event in self.run.events() if event["event_type"] == "SignalReceived"]
        wanted = [serializer.decode_envelope(each["arguments"], codec=each["payload_codec"])[0] for each in signals]
        got = [value for value in seen if value < 1000]
        # What came while a list is half done, its replayer applies when the list is complete (fact 5).
        if got != wanted[: len(got)] or (self.at_waits() and got != wanted):
            raise Wrong(f"a query saw {seen}, not {wanted}")
        self.queries += 1

    # -- workers -------------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """As before, but an update's task is answered by the update's handler; no worker of another generation."""
        task_id = self.run.row("workflow").task_id
        worker = self.rng.choice([PYTHON, OTHER])
        grant = self.run.expect(WorkflowTaskGrant, ClaimTask(task_id, worker, self.rng.choice([3, 500])))
        steps = self.replay(grant, self.read(grant))
        if self.rng.random() < 0.08:
            self.run.pass_time(61)
            self.run.wake()
        self.tasks.append((grant, steps))

    def replay(self, grant: WorkflowTaskGrant, events: list[Event]) -> list[WorkflowCommand]:
        update_id = resume_of(grant).get("workflow_update_id")
        if update_id is None:
            steps = super().replay(grant, events)
            out = list(Waits.out)
            if out[: len(self.remembered)] != self.remembered:
                raise Wrong(f"replayed to {out} after {self.remembered}")
            self.remembered = out
            return steps
        done = workflow.apply_update(
            Waits,
            events,
            serializer.decode_envelope(orjson.loads(grant.arguments), codec=grant.payload_codec),
            update_id,
            workflow_id=grant.workflow_id,
            run_id=grant.run_id,
            payload_codec=grant.payload_codec,
        )
        if isinstance(done, workflow.FailUpdate) and "not this one" not in done.message:
            raise Wrong(done.message)
        errors: dict[str, list[str]] = {}
        sent = workflow.commands_to_server_commands([done], grant.task_queue, payload_codec=self.codec)
        return read_steps(scope_errors(Fields({"commands": orjson.loads(orjson.dumps(sent))}, errors=errors)), errors)

    # -- children ------------------------------------------------------------------------------------------------------

    def child_news(self) -> None:
        """A child goes on as another run, or ends as its type says."""
        begun = self.children.pop(self.rng.randrange(len(self.children)))
        call, start = begun.origin.child_call_id, begun.start
        number = 1
        if self.rng.random() < 0.3:
            number = 2
            self.run.tell(ChildRestarted(call, start.run_id, 2, start.workflow_type, begun.origin.workflow_link_id, None, None))
        bad = start.workflow_type.endswith(("bad", "slow"))
        place = serializer.decode_envelope(start.arguments.envelope(), codec=start.arguments.codec)[0]
        result = None if bad else Payload(self.codec, serializer.encode(place, self.codec))
        status: Literal["failed", "completed"] = "failed" if bad else "completed"
        failure = {"message": "no", "exception_class": "Bad", "exception_type": "Bad"} if bad else {}
        self.run.tell(
            ChildClosed(
                call, start.run_id, number, start.workflow_type, status, status, self.run.now, result, self.codec, failure
            )
        )


def play(seeds: range, dialect: Dialect | None = None, world: type[ReplayedChain] = ReplayedChain) -> list[str]:
    """What went wrong, run by run."""
    wrong: list[str] = []
    for seed in seeds:
        one = world(seed, dialect)
        try:
            one.play()
        except (NonDeterministicReplayError, QueryFailed, Wrong, AssertionError) as error:
            wrong.append(f"seed {seed}: {type(error).__name__} {error}")
    return wrong


@pytest.mark.parametrize("part", range(4))
def test_every_snapshot_replays(part: int) -> None:
    wrong = play(range(part, SEEDS, 4))
    assert not wrong, "\n".join(wrong[:5])


class Impatient(ReplayedChain):
    """Waits of different keys, each satisfied by the inputs up to its own, which come in one burst."""

    def __init__(self, seed: int, dialect: Dialect | None = None) -> None:
        super().__init__(seed, dialect)
        waits = [{"effect": False, "marker": False} for _ in range(4)]
        stages = [stage for stage in make_script(self.rng)[:1] if all(item.get("how") != "slow" for item in stage)]
        self.parts = [{"consumes": False, "waits": waits, "stages": stages, "in_vain": None}]
        blob = serializer.encode([self.parts], self.codec)
        self.begin(
            RunModel(dialect=dialect, workflow_type="waits", arguments=Payload(self.codec, blob), payload_codec=self.codec)
        )
        self.burst()


def test_waits_of_different_keys_replay() -> None:
    wrong = play(range(40), world=Impatient)
    assert not wrong, "\n".join(wrong[:5])


def test_without_step_order_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk04, "_resolve", at_once)
    assert len(play(range(60), WithoutStepOrder())) > 10


def test_without_one_input_per_task_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """V4."""
    monkeypatch.setattr(sdk04, "_holding", lambda state: sdk04._HOLD_NONE if state.begun else sdk04._HOLD_ALL)
    assert len(play(range(40), world=Impatient)) > 20


def test_without_the_start_boundary_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """V5."""
    held = sdk04._holding
    monkeypatch.setattr(sdk04, "_holding", lambda state: held(state) if state.begun else sdk04._HOLD_NONE)
    assert len(play(range(40), world=Impatient)) > 10


def test_on_plain_history_it_breaks() -> None:
    assert len(play(range(40), PlainHistory())) > 10
