"""A command told again, or heard by two, changes its run once and gets the answer it got (`actors.hosting.repeats`)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import nats
import orjson
import pytest
from nats.aio.msg import Msg

from actors.errors import Unavailable
from actors.hosting.mailbox import REQUEST_TAKEN
from actors.hosting.repeats import DECIDED_WITHIN_SECONDS, KEPT_SECONDS, forgotten_before, new_key
from actors.run import ids
from actors.run.commands import RunCommand
from actors.run.commands.control import (
    ArchiveRun,
    CancelRun,
    NoteDuplicateStart,
    RepairRun,
    SignalRun,
    StartRun,
    TerminateRun,
    UpdateRun,
)
from actors.run.commands.steps import CompleteWorkflow, ContinueAsNew
from actors.run.replies import CommandAnswered, Refused, RunReply, Started, UpdateStatus
from actors.run.times import Micros
from store import applied, history, instances, runs
from tests.cluster.client import ClusterClient
from tests.cluster.run_host import ARGUMENTS, LoneHost
from tests.conftest import MakeCluster
from tests.support.services import Deployment, TestServices

pytestmark = pytest.mark.cluster


@pytest.fixture
async def world(services: TestServices) -> AsyncIterator[LoneHost]:
    async with LoneHost(services.deployment().dsn) as made:
        yield made


async def kinds(world: LoneHost, run_id: str) -> list[str]:
    """The types of a run's events, as they are stored."""
    version = await runs.load(world.db, run_id)
    assert version is not None
    lines = await history.load(world.db, run_id, upto=version.row.last_sequence)
    return [orjson.loads(line)["event_type"] for line in lines]


def duplicate(run_id: ids.RunId) -> NoteDuplicateStart:
    return NoteDuplicateStart(StartRun("default", "parent", run_id, "type", "queue", ARGUMENTS))


COMMANDS: dict[str, tuple[RunCommand, str]] = {
    "signal": (SignalRun(name="s", arguments=ARGUMENTS), "SignalReceived"),
    "update": (UpdateRun(name="u"), "UpdateAccepted"),
    "update under a request id": (UpdateRun(name="u", request_id="r"), "UpdateAccepted"),
    "repair": (RepairRun(), "RepairRequested"),
    "cancel": (CancelRun(), "CancelRequested"),
    "terminate": (TerminateRun(), "TerminateRequested"),
    "archive": (ArchiveRun(), "ArchiveRequested"),
    "duplicate start": (duplicate(ids.RunId("")), "StartRejected"),
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_heard_by_two_hosts_is_applied_once(world: LoneHost, name: str) -> None:
    """Both have the run in memory, and decide at the same time."""
    command, event = COMMANDS[name]
    run_id = await world.start()
    if isinstance(command, ArchiveRun):
        await world.host.ask_run(ids.key_in(run_id), CancelRun())
    twin = world.new_host()
    warm = SignalRun(name="warm")
    await asyncio.gather(*(host.ask_run(ids.key_in(run_id), warm) for host in (world.host, twin)))
    before = (await kinds(world, run_id)).count(event)
    key = new_key(3, world.host.now())
    told = [host.ask_run(ids.key_in(run_id), command, key=key) for host in (world.host, twin, world.host, twin)]
    first, *others = await asyncio.gather(*told)
    assert isinstance(first, CommandAnswered | UpdateStatus | Started) and others == [first] * 3
    assert (await kinds(world, run_id)).count(event) == before + 1
    twin.stop()


async def test_a_command_is_known_again_by_the_run_that_goes_on(world: LoneHost) -> None:
    run_id = await world.start()
    key = new_key(3, world.host.now())
    signal = SignalRun(name="s", arguments=ARGUMENTS)
    first = await world.host.ask_run(ids.key_in(run_id), signal, key=key)
    await world.complete(await world.claim(run_id), ContinueAsNew())
    instance = await instances.get(world.db, "parent")
    assert instance is not None and instance.current_run_id != run_id
    next_run = instance.current_run_id
    before = await kinds(world, next_run)
    cold = world.new_host()
    for host in (world.host, cold):
        assert await host.ask_run(ids.key_in(next_run), signal, key=key) == first
    assert await kinds(world, next_run) == before
    assert isinstance(await cold.ask_run(ids.key_in(next_run), signal, key=new_key(3, world.host.now())), CommandAnswered)
    assert (await kinds(world, next_run)).count("SignalReceived") == before.count("SignalReceived") + 1
    cold.stop()


async def test_commands_of_one_batch_with_a_repetition_among_them(world: LoneHost) -> None:
    run_id = await world.start()
    keys = [new_key(3, world.host.now()) for _ in range(4)]
    first = await world.host.ask_run(ids.key_in(run_id), SignalRun(name="s0"), key=keys[0])
    cold = world.new_host()
    told = [cold.ask_run(ids.key_in(run_id), SignalRun(name=f"s{n}"), key=key) for n, key in enumerate(keys)]
    replies = await asyncio.gather(*told)
    assert replies[0] == first
    assert (await kinds(world, run_id)).count("SignalReceived") == 4
    cold.stop()


async def test_a_start_told_again_is_the_start_it_was(world: LoneHost) -> None:
    run_key = ids.new_run_key(3)
    command = StartRun("default", "parent", ids.new_run_id(time.time_ns() // 1_000_000, run_key), "type", "q", ARGUMENTS)
    first: RunReply = await world.host.start_run(command)
    assert first == await world.host.start_run(command), "the run is in memory"
    assert (await kinds(world, command.run_id)) == ["StartAccepted", "WorkflowStarted"]


async def test_a_command_too_old_to_be_known_again_is_not_decided(world: LoneHost) -> None:
    run_id = await world.start()
    past = time.time_ns() // 1_000_000 - int(DECIDED_WITHIN_SECONDS * 1000) - 1000
    key = ids.mint(past, ids.new_run_key(3), ids.COMMAND_KEY)
    old = world.host.ask_run(ids.key_in(run_id), SignalRun(name="old"), key=key)
    new = world.host.ask_run(ids.key_in(run_id), SignalRun(name="new"), key=new_key(3, world.host.now()))
    with pytest.raises(Unavailable):
        await old
    assert isinstance(await new, CommandAnswered)
    assert (await kinds(world, run_id)).count("SignalReceived") == 1


async def test_keys_are_forgotten_long_after_nobody_repeats_them(world: LoneHost) -> None:
    assert KEPT_SECONDS >= 5 * DECIDED_WITHIN_SECONDS
    run_id = await world.start()
    key = new_key(3, world.host.now())
    await world.host.ask_run(ids.key_in(run_id), SignalRun(name="s"), key=key)
    now = time.time_ns() // 1000
    assert await applied.forget(world.db, forgotten_before(Micros(now + int(KEPT_SECONDS * 1e6) - 2_000_000))) == 0
    assert list(await applied.find(world.db, [key])) == [key]
    assert await applied.forget(world.db, forgotten_before(Micros(now + int(KEPT_SECONDS * 1e6) + 2_000_000))) == 1


async def test_two_updates_under_one_request_id_are_one(world: LoneHost) -> None:
    """The second host knows nothing of the first one's update, which has ended."""
    run_id = await world.start()
    cold = world.new_host()
    await cold.ask_run(ids.key_in(run_id), SignalRun(name="warm"))
    first = await world.host.ask_run(
        ids.key_in(run_id), UpdateRun(name="u", request_id="one"), key=new_key(3, world.host.now())
    )
    assert isinstance(first, UpdateStatus)
    await world.complete(await world.claim(run_id), CompleteWorkflow())
    again = await cold.ask_run(ids.key_in(run_id), UpdateRun(name="u", request_id="one"), key=new_key(3, world.host.now()))
    assert again == Refused(REQUEST_TAKEN), "the caller is told of the update that there is"
    assert (await kinds(world, run_id)).count("UpdateAccepted") == 1
    cold.stop()


# -- between nodes -----------------------------------------------------------------------------------------------------


class Echo:
    """Delivers every ask between the nodes of a place once more, at once and again a moment later, inside `async with`."""

    def __init__(self, place: Deployment) -> None:
        self._place = place
        self.repeated = 0
        self._seen: set[str] = set()
        self._later: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Echo:
        self._client = await nats.connect(self._place.nats_url)
        await self._client.subscribe(f"{self._place.prefix}.ask.>", cb=self._repeat)
        await self._client.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._later)
        await self._client.close()

    async def _repeat(self, message: Msg) -> None:
        if message.reply in self._seen:
            return
        self._seen.add(message.reply)
        self.repeated += 1
        await self._client.publish(message.subject, message.data, reply=message.reply)
        later = asyncio.create_task(self._again(message))
        self._later.add(later)
        later.add_done_callback(self._later.discard)

    async def _again(self, message: Msg) -> None:
        await asyncio.sleep(0.05)
        await self._client.publish(message.subject, message.data, reply=message.reply)


async def test_every_ask_between_nodes_delivered_three_times_counts_once(cluster: MakeCluster) -> None:
    made = cluster(2)
    client = ClusterClient(made.nodes)
    numbers = itertools.count(1)
    async with Echo(made.place) as echo:

        async def one() -> dict[str, int]:
            """A workflow with one of each command, all sent to one node; half of the workflows live at the other."""
            workflow_id = f"echo-{next(numbers)}"
            body = {"workflow_id": workflow_id, "workflow_type": "t", "task_queue": "nobody"}
            path = f"/api/workflows/{workflow_id}"
            node = made.nodes[0]
            started = await client.post("/api/workflows", body, at=node)
            assert started.status == 201 and started.body["outcome"] == "started_new", started
            again = await client.post("/api/workflows", body, at=node)
            assert again.status == 409, again
            for number in range(3):
                sent = await client.post(f"{path}/signal/tick", {"input": [number]}, at=node)
                assert sent.status == 202, sent
            update = await client.post(f"{path}/update/put", {"request_id": "r", "wait_for": "accepted"}, at=node)
            assert update.status == 202, update
            assert (await client.post(f"{path}/repair", {}, at=node)).status == 200
            assert (await client.post(f"{path}/cancel", {}, at=node)).status == 200
            archived = await client.post(f"{path}/archive", {}, at=node)
            assert archived.status == 200 and archived.body["outcome"] == "archived", archived
            await asyncio.sleep(0.2)  # the last repetitions
            events = (await client.get(f"{path}/runs/{started.body['run_id']}/history", at=node)).body["events"]
            found = [event["event_type"] for event in events]
            return {
                kind: found.count(kind) for kind in found if kind.endswith(("Requested", "Received", "Accepted", "Rejected"))
            }

        found = await asyncio.gather(*(one() for _ in range(20)))
    client.close()
    assert echo.repeated > 40, "the nodes did not ask each other"
    expected = {
        "StartAccepted": 1,
        "StartRejected": 1,
        "SignalReceived": 3,
        "UpdateAccepted": 1,
        "RepairRequested": 1,
        "CancelRequested": 1,
        "ArchiveRequested": 1,
    }
    assert found == [expected] * 20
