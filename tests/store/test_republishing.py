"""Which stream the deployment publishes to, what it lost, and how far the repetition of its events is."""

from __future__ import annotations

import asyncio

from actors.publishing.repetition import bound
from store.cluster import republishing
from store.cluster.republishing import Loss
from store.commit.group import GroupCommit
from store.connections.pool import Database
from tests.store.build import NOW, RunFixture, row

HOUR = 3_600_000_000


async def note(
    db: Database, created: str, last: int, *, acked: int = 0, window: int = HOUR, before: int | None = None
) -> Loss | None:
    known = (await republishing.last_seen(db)).get(created, 0) if before is None else before
    return await republishing.note_stream(db, created, last, known, acked, window, bound)


async def aged(db: Database, seconds: int) -> None:
    await db.execute("UPDATE event_streams SET seen_at = seen_at - $1", seconds * 1_000_000)


async def sightings(db: Database) -> dict[str, int]:
    return {row[0]: row[1] for row in await db.fetch("SELECT created, seen_at FROM event_streams")}


async def test_the_first_stream_and_one_that_goes_on_have_lost_nothing(db: Database) -> None:
    assert await note(db, "a", 10_000) is None
    assert await note(db, "a", 10_010) is None
    await aged(db, 3600)
    assert await note(db, "a", 10_020, acked=10_020) is None
    assert await republishing.last_seen(db) == {"a": 10_020}
    assert await republishing.jobs(db) == {}


async def test_a_new_stream_has_lost_what_the_old_one_held_and_one_node_is_told(db: Database) -> None:
    await note(db, "a", 100)
    await aged(db, 600)
    seen = (await sightings(db))["a"]
    found = await asyncio.gather(*(note(db, "b", 0) for _ in range(4)))
    (loss,) = [loss for loss in found if loss is not None]
    assert loss.since == seen - HOUR, "before the loss, not before it was noticed"
    jobs = await republishing.jobs(db)
    assert sorted(jobs) == list(range(8))
    assert {(job.since, job.namespace, job.after_run) for job in jobs.values()} == {(seen - HOUR, None, "")}


async def test_without_a_window_a_loss_is_told_and_nothing_asked_for(db: Database) -> None:
    await note(db, "a", 100)
    loss = await note(db, "b", 0, window=0)
    assert loss is not None and loss.since is None
    assert await republishing.jobs(db) == {}


async def test_a_stream_that_ends_earlier_than_it_did_has_lost_its_end(db: Database) -> None:
    await note(db, "a", 100)
    assert await note(db, "a", 90, before=80) is None, "another node has just seen more than this one when it asked"
    loss = await note(db, "a", 90)
    assert loss is not None and "end" in loss.reason
    assert await note(db, "a", 90) is None, "once"
    loss = await note(db, "a", 95, acked=97)
    assert loss is not None and "end" in loss.reason, "it said that it had stored more"


async def test_a_stream_gone_back_to_has_missed_what_went_to_the_other(db: Database) -> None:
    await note(db, "a", 100)
    await aged(db, 600)
    at = (await sightings(db))["a"]
    await note(db, "b", 0)
    loss = await note(db, "a", 100)
    assert loss is not None and loss.since is not None and at - HOUR < loss.since < at
    assert await note(db, "b", 50) is None, "nodes that do not agree where NATS is make no endless repetition"
    assert await note(db, "a", 100) is None


async def test_runs_to_repeat_are_found_slice_by_slice(db: Database, commits: GroupCommit) -> None:
    made = sorted((RunFixture(shard=number % 4) for number in range(20)), key=lambda run: run.run_id)
    old, other = RunFixture(shard=1), RunFixture(shard=1, namespace="other")
    for run in (*made, other):
        assert await commits.commit(run.create())
    assert await commits.commit(old.create(row=row(2, last_progress_at=NOW - 2 * HOUR)))
    await republishing.ask(db, NOW - HOUR, bound, "default")
    jobs = await republishing.jobs(db)
    wanted = [run.run_id for run in made if run.shard in (1, 2)]
    found: list[str] = []
    after, reads = "", 0
    while True:
        part = await republishing.runs_after(db, [1, 2], after, 6)
        found += part.run_ids
        reads += 1
        after = part.reached
        await republishing.advance(db, {1: jobs[1].job, 2: jobs[2].job}, after)
        if not after:
            break
        assert (await republishing.jobs(db))[1].after_run == after
    assert found == wanted and reads == 4
    assert sorted(await republishing.jobs(db)) == [0, 3, 4, 5, 6, 7]
    assert await republishing.runs_since(db, NOW - HOUR, None) == 21
    assert await republishing.runs_since(db, NOW - HOUR, "other") == 1


async def test_what_is_asked_for_meanwhile_is_not_forgotten(db: Database) -> None:
    await republishing.ask(db, NOW, bound, "default")
    before = await republishing.jobs(db)
    old = {shard: job.job for shard, job in before.items()}
    await republishing.advance(db, old, "01kp2r")
    await republishing.ask(db, NOW - HOUR, bound, "other")
    now = await republishing.jobs(db)
    assert {(job.since, job.namespace, job.after_run) for job in now.values()} == {(NOW - HOUR, None, "")}
    await republishing.advance(db, old, "")
    await republishing.advance(db, old, "01kp2s")
    assert await republishing.jobs(db) == now, "the end of what was asked for before ends nothing"
    await republishing.advance(db, {shard: job.job for shard, job in now.items()}, "z")
    assert await republishing.jobs(db) == {}, "runs begun later need no repetition"


async def test_one_node_repairs_at_a_time(db: Database) -> None:
    async with republishing.repair_lock(db) as first, republishing.repair_lock(db) as second:
        assert (first, second) == (True, False)
    async with republishing.repair_lock(db) as again:
        assert again
