"""The event stream loses what was in it, or is closed by a full disk: subscribers get every event all the same."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from node.embedded import EmbeddedNats
from node.supervisor import node_command
from tests.cluster.events import EventWatch
from tests.cluster.harness import SHORT_LEASES, Load
from tests.conftest import MakeCluster
from tests.support.disk import SmallDisk, small_disk
from tests.support.server import ServerProcess
from tests.support.services import Deployment, TestServices, clean_environment

pytestmark = [pytest.mark.cluster, pytest.mark.proof]


class Stream:
    """The event stream as its operator sees it. `async with`."""

    def __init__(self, place: Deployment) -> None:
        self._place = place
        self.name = f"{place.prefix}_events"
        self._client: Client
        self.js: JetStreamContext

    async def __aenter__(self) -> Stream:
        self._client = await nats.connect(self._place.nats_url)
        self.js = self._client.jetstream(timeout=5)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def delete(self) -> None:
        await self.js.delete_stream(self.name)

    async def purge(self) -> None:
        await self.js.purge_stream(self.name)

    async def messages(self) -> int:
        return int((await self.js.stream_info(self.name)).state.messages)


async def events_of(place: Deployment, lengths: dict[str, int]) -> EventWatch:
    """What a subscriber that begins now has seen when the last event of every run came."""
    async with EventWatch(place) as watch:
        await watch.wait_for(lengths)
        return watch


async def saw_everything(subscriber: EventWatch, lengths: dict[str, int]) -> None:
    """One that was there all the time got every event, some of them twice; the first copy of each came in order."""
    await subscriber.wait_for(lengths)
    for run_id, last in lengths.items():
        first_seen = list(dict.fromkeys(number for number, _ in subscriber.seen[run_id]))
        assert first_seen == list(range(1, last + 1)), run_id


def log_of(*nodes: ServerProcess) -> list[str]:
    return [line for node in nodes for line in node.log_file.read_text().splitlines()]


def count(lines: list[str], text: str) -> int:
    return sum(text in line for line in lines)


async def jobs_left(place: Deployment) -> int:
    connection = await asyncpg.connect(place.dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM republishing"))
    finally:
        await connection.close()


async def all_repeated(place: Deployment) -> None:
    async with asyncio.timeout(60):
        while await jobs_left(place):
            await asyncio.sleep(0.1)


async def test_nats_that_loses_its_data_under_load_gets_every_event_again(
    own_services: TestServices, cluster: MakeCluster
) -> None:
    nodes = cluster(2, place=own_services.deployment(), env=SHORT_LEASES).nodes
    async with EventWatch(nodes[0].place) as subscriber, Load(nodes) as load:
        await load.start(60)
        await load.all_closed()
        starting = asyncio.create_task(load.start(200, per_second=40))
        await asyncio.sleep(2)
        own_services.nats.kill()
        own_services.nats.wipe()
        await asyncio.to_thread(own_services.nats.start)
        await starting
        await load.all_closed()
        lengths = await load.histories()
        assert len(lengths) == 260
        (await events_of(nodes[0].place, lengths)).check_order(lengths)
        await saw_everything(subscriber, lengths)
    await all_repeated(nodes[0].place)
    lines = log_of(*nodes)
    assert count(lines, "the event stream lost events") == 1, "one node says it"
    assert count(lines, "Traceback") == 0


async def test_a_stream_deleted_by_hand_is_filled_again_by_itself(own_services: TestServices, cluster: MakeCluster) -> None:
    nodes = cluster(2, place=own_services.deployment(), env=SHORT_LEASES).nodes
    async with Load(nodes) as load, Stream(nodes[0].place) as stream:
        await load.start(40)
        await load.all_closed()
        lengths = await load.histories()
        await events_of(nodes[0].place, lengths)
        await stream.delete()
        (await events_of(nodes[0].place, lengths)).check_order(lengths)
        await stream.delete()
        await load.start(100, per_second=50)
        await load.all_closed()
        lengths = await load.histories()
        watch = await events_of(nodes[0].place, lengths)
        for run_id, last in lengths.items():
            assert {number for number, _ in watch.seen[run_id]} == set(range(1, last + 1))


async def test_a_repetition_goes_on_where_a_killed_node_was(own_services: TestServices, cluster: MakeCluster) -> None:
    made = cluster(2, place=own_services.deployment(), env=SHORT_LEASES)
    nodes = made.nodes
    async with Load(nodes) as load, Stream(nodes[0].place) as stream:
        await load.start(700)
        await load.all_closed()
        lengths = await load.histories()
        await events_of(nodes[0].place, lengths)
        await stream.delete()
        async with asyncio.timeout(30):
            while True:
                try:
                    if await stream.messages() > 500:
                        break
                except NotFoundError:
                    pass
                await asyncio.sleep(0.02)
        nodes[0].kill()
        assert await jobs_left(nodes[0].place), "it was too fast for this test"
        await all_repeated(nodes[1].place)
        await saw_everything(await events_of(nodes[1].place, lengths), lengths)


async def test_a_stream_restored_from_an_older_disk_gets_its_end_again(
    own_services: TestServices, cluster: MakeCluster
) -> None:
    nodes = cluster(2, place=own_services.deployment(), env=SHORT_LEASES).nodes
    server = own_services.nats
    live, copy = server.root / "jetstream", server.root / "copy"
    async with Load(nodes) as load:
        await load.start(30)
        await load.all_closed()
        await events_of(nodes[0].place, await load.histories())
        await asyncio.to_thread(server.stop)
        shutil.copytree(live, copy)
        await asyncio.to_thread(server.start)
        await load.start(30)
        await load.all_closed()
        lengths = await load.histories()
        await events_of(nodes[0].place, lengths)
        server.kill()
        server.wipe()
        shutil.copytree(copy, live)
        await asyncio.to_thread(server.start)
        await saw_everything(await events_of(nodes[0].place, lengths), lengths)


async def test_nodes_led_to_another_nats_and_back_leave_no_gap_in_either(
    own_services: TestServices, cluster: MakeCluster, tmp_path: Path
) -> None:
    other = EmbeddedNats(tmp_path, max_memory_bytes=1024**4, max_file_bytes=1024**5)
    try:
        await asyncio.to_thread(other.start)
        other.kill()
        here = own_services.deployment()
        there = dataclasses.replace(here, nats_url=other.url)
        both = dataclasses.replace(here, nats_url=f"{here.nats_url},{other.url}")
        nodes = cluster(2, place=both, env=SHORT_LEASES).nodes
        async with Load(nodes) as load:
            await load.start(30)
            await load.all_closed()
            own_services.nats.kill()
            await asyncio.to_thread(other.start)
            await load.start(30)
            await load.all_closed()
            lengths = await load.histories()
            await saw_everything(await events_of(there, lengths), lengths)
            await asyncio.sleep(6)  # it is seen by all nodes
            connection = await asyncpg.connect(here.dsn)
            await connection.execute("UPDATE event_streams SET seen_at = seen_at - 120000000")  # as if it took longer
            await connection.close()
            await asyncio.sleep(6)
            other.kill()
            await asyncio.to_thread(own_services.nats.start)
            await saw_everything(await events_of(here, lengths), lengths)
        assert count(log_of(*nodes), "Traceback") == 0
    finally:
        other.stop()


def republish(place: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        node_command("events", "republish", *arguments),
        env=clean_environment(place.environment()),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


async def test_an_operator_has_events_published_again(cluster: MakeCluster) -> None:
    nodes = cluster(2).nodes
    place = nodes[0].place
    async with Load(nodes) as load, Stream(place) as stream:
        await load.start(30)
        await load.all_closed()
        lengths = await load.histories()
        await events_of(place, lengths)
        await stream.purge()
        await asyncio.sleep(7)
        assert await stream.messages() == 0, "a purge is wanted"
        # the purge leaves what JetStream remembers for its duplicate window; a stream made without it stands for waiting
        await stream.delete()
        await all_repeated(place)
        (await events_of(place, lengths)).check_order(lengths)
        before = await stream.messages()
        ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        done = await asyncio.to_thread(republish, place, "--since", ago, "--wait")
        assert done.returncode == 0, done.stderr
        assert "30 runs" in done.stdout and done.stdout.splitlines()[-1] == "done"
        assert await jobs_left(place) == 0
        assert await stream.messages() == before, "JetStream drops what it had a moment ago"
        done = await asyncio.to_thread(republish, place, "--since", ago, "--namespace", "Default")
        assert done.returncode == 0 and "namespace default" in done.stdout, done.stderr
        await load.start(5)
        await load.all_closed()
        await all_repeated(place)
        for wrong, why in (
            (("--since", "yesterday"), "ISO 8601"),
            (("--since", "2999-01-01"), "future"),
            (("--since", ago, "--namespace", "nowhere"), "no namespace 'nowhere'"),
        ):
            done = await asyncio.to_thread(republish, place, *wrong)
            assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def full_disk_services() -> Iterator[tuple[TestServices, SmallDisk]]:
    """Postgres, and NATS on a small disk of its own."""
    running = TestServices()
    try:
        with small_disk(running.directory / "nats" / "jetstream", 48) as disk:
            try:
                running.start()
                yield running, disk
            finally:
                running.nats.stop()
    finally:
        running.stop()


async def readiness(node: ServerProcess) -> tuple[int, dict[str, str] | None]:
    async with node.client() as client:
        answer = await client.get("/api/ready")
        return answer.status_code, answer.json()["checks"].get("events")


async def test_a_full_disk_under_nats_is_said_and_recovered_from(
    full_disk_services: tuple[TestServices, SmallDisk], cluster: MakeCluster
) -> None:
    services, disk = full_disk_services
    nodes = cluster(2, place=services.deployment(), env=SHORT_LEASES).nodes
    place = nodes[0].place
    async with EventWatch(place) as subscriber, Load(nodes) as load, Stream(place) as stream:
        await load.start(30)
        await load.all_closed()
        assert await readiness(nodes[0]) == (200, None)
        reader = await stream.js.pull_subscribe(f"{place.prefix}.events.>", durable="reader", stream=stream.name)
        await reader.fetch(10)
        disk.fill()
        starting = asyncio.create_task(load.start(150, per_second=15))
        async with asyncio.timeout(30):
            while not all([(await readiness(node))[1] for node in nodes]):
                await asyncio.sleep(0.2)
        status, events = await readiness(nodes[0])
        assert status == 200 and events is not None and events["status"] == "degraded" and "disk" in events["message"]
        await starting
        await load.all_closed()
        assert not load.unanswered, "slower, never wrong"
        lengths = await load.histories()
        disk.free()
        async with asyncio.timeout(60):
            while any([(await readiness(node))[1] for node in nodes]):
                await asyncio.sleep(0.2)
        (await events_of(place, lengths)).check_order(lengths)
        await saw_everything(subscriber, lengths)
        assert [info.name for info in await stream.js.consumers_info(stream.name)].count("reader") == 1
        assert len(await reader.fetch(10)) == 10
    await all_repeated(place)
    for node in nodes:
        lines = log_of(node)
        assert count(lines, "the event stream stands still") == count(lines, "the event stream works again") == 1, lines[-20:]
        assert count(lines, "Traceback") == 0
    assert count(log_of(*nodes), "it is made anew") == 1
