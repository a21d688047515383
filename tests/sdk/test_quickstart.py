"""The Quickstart program of the SDK guide, as published, and the same workflow with other casts."""

from __future__ import annotations

import ast
import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import activity, workflow

from tests.sdk.harness import SdkHarness, events_of, replays_to, result_of, types
from tests.support.server import ServerProcess
from tests.support.services import clean_environment

pytestmark = pytest.mark.sdk

PROGRAM = (Path(__file__).parent.parent / "data" / "quickstart.txt").read_text()
URL = "http://localhost:8080"
GREETING = {"greeting": "Hello, world!", "length": 5}
ORDER = ["ActivityScheduled", "ActivityStarted", "ActivityCompleted", "WorkflowCompleted"]


@activity.defn(name="greet")
async def greet(name: str) -> dict[str, Any]:
    return {"greeting": f"Hello, {name}!", "length": len(name)}


@workflow.defn(name="greeter")
class Greeter:
    def run(self, ctx: Any, *args: Any) -> Any:
        result = yield ctx.schedule_activity("greet", list(args))
        return result


async def run_program(url: str, *replacements: tuple[str, str]) -> Any:
    """Run the program as a process of its own; what it printed."""
    text = PROGRAM
    for old, new in ((URL, url), *replacements):
        assert old in text
        text = text.replace(old, new)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        text,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return ast.literal_eval(out.decode().strip())


async def test_the_program_prints_its_greeting(server: ServerProcess) -> None:
    assert await run_program(server.url) == GREETING
    # A second run of it meets the workflow id that is taken, as the SDK's own error.
    with pytest.raises(AssertionError, match="WorkflowAlreadyStarted"):
        await run_program(server.url)


async def test_two_programs_share_one_queue(server: ServerProcess) -> None:
    printed = await asyncio.gather(
        *(run_program(server.url, ("greeting-1", f"greeting-shared-{n}"), ('"world"', f'"w{n}"')) for n in range(2))
    )
    assert printed == [{"greeting": f"Hello, w{n}!", "length": 2} for n in range(2)]


async def test_a_worker_started_before_the_workflow(scene: SdkHarness) -> None:
    await scene.work([Greeter], [greet])
    result, events = await scene.run("greeter", "world")
    assert result == GREETING
    assert types(events) == ORDER
    replays_to(Greeter, events, GREETING)


async def test_a_worker_started_after_the_workflow(scene: SdkHarness) -> None:
    handle = await scene.start("greeter", "world")
    assert (await handle.describe()).status == "pending"
    await scene.work([Greeter], [greet])
    assert await result_of(handle) == GREETING
    events = await events_of(handle)
    assert types(events) == ORDER
    replays_to(Greeter, events, GREETING)


async def test_several_workers_on_one_queue(scene: SdkHarness) -> None:
    for _ in range(3):
        await scene.work([Greeter], [greet])
    handles = [await scene.start("greeter", f"n{number}") for number in range(30)]
    results = await asyncio.gather(*(result_of(handle) for handle in handles))
    assert results == [{"greeting": f"Hello, n{number}!", "length": len(f"n{number}")} for number in range(30)]
    for handle in handles:
        assert types(await events_of(handle)) == ORDER


async def test_workflow_and_activity_workers_apart(scene: SdkHarness) -> None:
    """A worker without activities, which says so with an empty list, is never handed one."""
    await scene.work([Greeter], [])
    await scene.work([], [greet])
    assert await asyncio.gather(*(_greeted(scene) for _ in range(10))) == [GREETING] * 10


async def _greeted(scene: SdkHarness) -> Any:
    return (await scene.run("greeter", "world"))[0]
