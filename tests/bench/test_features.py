"""The workloads of the workflow features: their programs find mistakes, and against a real server all of them run verified."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from bench.board import Board, Flight, WrongAnswerError
from bench.payloads import decode, encode
from bench.workloads.fanout import FanoutProgram
from bench.workloads.signals import Inbox, SignalsProgram
from tests.bench.running import bench

Event = dict[str, Any]


def flight(value: Any) -> Flight:
    return Flight("w-1", value, asyncio.get_running_loop().create_future())


def history(*events: tuple[str, Event]) -> list[Event]:
    started: list[tuple[str, Event]] = [("StartAccepted", {}), ("WorkflowStarted", {})]
    return [
        {"id": f"{kind}-{payload}", "sequence": number, "event_type": kind, "payload": payload}
        for number, (kind, payload) in enumerate([*started, *events], start=1)
    ]


def task(events: list[Event]) -> Event:
    return {
        "workflow_id": "w-1",
        "task_queue": "q",
        "history_events": events,
        "total_history_events": len(events),
        "next_history_page_token": None,
    }


def completed(step: int, result: int) -> tuple[str, Event]:
    return "ActivityCompleted", {"sequence": step, "result": encode(result)}


def step_events(step: int, result: int) -> list[tuple[str, Event]]:
    return [("ActivityScheduled", {"sequence": step}), ("ActivityStarted", {"sequence": step}), completed(step, result)]


ENDED = ("WorkflowCompleted", {"output": {"codec": "avro", "blob": encode([0, 1])}})


async def begun_fan() -> tuple[FanoutProgram, Flight, list[Event]]:
    """A fan-out of two whose list was sent once."""
    program, run = FanoutProgram(2, replay=0.0), flight([2])
    first = task(history())
    commands = program.decide(run, first)
    assert [decode(command["arguments"]["blob"]) for command in commands] == [["w-1", 0], ["w-1", 1]]
    program.answered(run, first, commands, {"created_task_ids": ["a", "b"]}, Board())
    return program, run, commands


async def test_a_list_is_sent_again_until_all_of_it_is_shown() -> None:
    program, run, commands = await begun_fan()
    assert program.decide(run, task(history(completed(1, 0)))) is commands
    (end,) = program.decide(run, task(history(completed(1, 0), completed(2, 1))))
    assert decode(end["result"]["blob"]) == [0, 1]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (history(completed(2, 1)), "in the order of the steps"),
        (history(completed(1, 0))[:2] + history(completed(2, 1))[1:2], "gaps"),
        (history(completed(1, 0))[1:], "gaps"),
    ],
)
async def test_a_wrong_view_is_found(events: list[Event], words: str) -> None:
    program, run, _ = await begun_fan()
    with pytest.raises(WrongAnswerError, match=words):
        program.decide(run, task(events))


async def test_what_was_shown_keeps_its_place() -> None:
    program, run, _ = await begun_fan()
    program.decide(run, task(history(("ActivityStarted", {"sequence": 1}), completed(1, 0))))
    with pytest.raises(WrongAnswerError, match="extend"):
        program.decide(run, task(history(completed(1, 0), ("ActivityStarted", {"sequence": 1}))))


async def test_a_list_that_is_scheduled_again_is_found() -> None:
    program, run, commands = await begun_fan()
    again = task(history(completed(1, 0)))
    program.answered(run, again, commands, {"created_task_ids": ["next"]}, Board())
    with pytest.raises(WrongAnswerError, match="created 2 tasks"):
        program.answered(run, again, commands, {"created_task_ids": ["c", "d"]}, Board())


async def test_a_member_delivered_twice_is_found() -> None:
    program, run, commands = await begun_fan()
    activity = {"attempt_number": 1, "arguments": commands[1]["arguments"]}
    assert decode(program.perform(run, activity)["blob"]) == 1
    with pytest.raises(WrongAnswerError, match="twice"):
        program.perform(run, activity)


async def test_the_history_of_a_fan_out() -> None:
    program, run, _ = await begun_fan()
    program.verify(run, history(*step_events(1, 0), *step_events(2, 1), ENDED))
    for wrong, words in (
        (history(*step_events(1, 0), *step_events(2, 0), ENDED), "another step's result"),
        (history(*step_events(1, 0), *step_events(2, 1), completed(2, 1), ENDED), "2 steps, not each"),
        (history(*step_events(1, 0), ENDED), "1 steps"),
        (history(*step_events(1, 0), *step_events(2, 1)), "ends ActivityCompleted"),
    ):
        with pytest.raises(WrongAnswerError, match=words):
            program.verify(run, wrong)


def received(*numbers: int) -> list[tuple[str, Event]]:
    return [("SignalReceived", {"arguments": {"codec": "avro", "blob": encode([number])}}) for number in numbers]


async def test_signals_are_shown_one_by_one_and_in_order() -> None:
    program, run = SignalsProgram(), flight([2])
    assert program.decide(run, task(history()))[0]["type"] == "open_condition_wait"
    inbox: Inbox = run.state
    inbox.sent_at = [0.0, 0.0]
    for wrong in (received(), received(1), received(0, 1), received(0, 0)):
        with pytest.raises(WrongAnswerError, match="the view shows the signals"):
            program.decide(run, task(history(*wrong)))
    assert program.decide(run, task(history(*received(0))))[0]["type"] == "open_condition_wait"
    (end,) = program.decide(run, task(history(*received(0, 1))))
    assert decode(end["result"]["blob"]) == 2


@pytest.mark.proof
@pytest.mark.cluster
@pytest.mark.skipif(importlib.util.find_spec("node.wiring") is None, reason="this tree has no server yet")
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("standalone", "activities"),
        ("fanout", "activities"),
        ("signals", "applied"),
        ("child", "children"),
        ("longhistory", "workflow_tasks"),
        ("longhistory-pages", "history_pages"),
    ],
)
async def test_a_node_runs_the_features_verified(tmp_path: Path, name: str, unit: str) -> None:
    sizes = ("--duration", "2", "--warmup", "1", "--signal-rate", "500", "--history-events", "1500", "--patience", "50")
    code, output, report = await bench(tmp_path, name, *sizes)
    assert code == 0, output
    result = report["workloads"][name]
    assert result["counts"][unit] > 0
    assert result["verified_in_all"] == result["started_in_all"] > 0
