"""Pruning takes what it may and nothing else, whatever else happens to the same runs (contract operations 6.3)."""

from __future__ import annotations

import asyncio
import os
import random

import asyncpg
import pytest

from actors.run import ids
from actors.run.state import RunState, encode
from actors.upkeep.pruning import DAY_MICROS, prune_named
from actors.upkeep.retention import Retention
from store import runs
from store.commit.group import GroupCommit
from store.commit.writes import RunRow
from store.connections.pool import PLANNER, Database
from store.upkeep import bare_runs, pruning
from tests.store.build import NOW, RunFixture, row

SHARDS = 8
SEEDS = range(int(os.environ.get("DW_TEST_SEED", "1")), int(os.environ.get("DW_TEST_SEED", "1")) + 3)


def stored_state(run: RunFixture, *, archived: bool, closed: bool) -> bytes:
    state = RunState("default", run.workflow_id, ids.RunId(run.run_id), "Greeter", "q", NOW, archived=archived)
    if closed:
        state.status, state.closed_reason, state.closed_at = "completed", "completed", NOW
    return encode(state)


def end(run: RunFixture, *, days_ago: int, archived: bool, published: bool = True, reason: str = "completed") -> RunRow:
    """The row of a run that closed so many days ago."""
    at = NOW - days_ago * DAY_MICROS
    return row(
        2,
        status="completed",
        closed_reason=reason,
        closed_at=at,
        last_progress_at=at,
        published_sequence=2 if published else 1,
        state=stored_state(run, archived=archived, closed=True),
    )


async def made(commits: GroupCommit, rng: random.Random, count: int) -> dict[str, tuple[RunFixture, bool]]:
    """Runs of every kind by id, and whether each may be pruned."""
    found: dict[str, tuple[RunFixture, bool]] = {}
    waiting = []
    for _ in range(count):
        shard = rng.randrange(SHARDS)
        run = RunFixture(shard=shard, key=ids.shard_text(shard) + f"{rng.getrandbits(52):013x}")
        kind = rng.choice(["open", "young", "archived", "unpublished", "expired", "expired", "expired"])
        if kind == "open":
            write = run.create(row=row(2, state=stored_state(run, archived=False, closed=False), published_sequence=2))
        else:
            days = rng.randrange(0, 30) if kind == "young" else rng.randrange(31, 90)
            written = end(run, days_ago=days, archived=kind == "archived", published=kind != "unpublished")
            write = run.create(row=written)
        waiting.append(commits.commit(write))
        found[run.run_id] = run.stored(1, 2), kind == "expired"
    assert all(await asyncio.gather(*waiting))
    return found


@pytest.mark.parametrize("seed", SEEDS)
async def test_only_what_may_go_goes(db: Database, commits: GroupCommit, seed: int) -> None:
    """Two nodes that both take themselves for the host of every shard, callers by hand, and commits that archive."""
    rng = random.Random(seed)
    found = await made(commits, rng, 400)
    held = frozenset(range(SHARDS))
    nodes = [Retention(db, lambda: held, lambda: NOW, lambda: rng.random() < 0.3) for _ in range(2)]
    named = rng.sample([run_id for run_id, (_, may_go) in found.items() if may_go], 40)
    late = rng.sample([run_id for run_id, (_, may_go) in found.items() if may_go], 40)

    async def archive(run_id: str) -> bool:
        await asyncio.sleep(rng.random() * 0.1)
        run = found[run_id][0]
        written = end(run, days_ago=40, archived=True)
        return await commits.commit(run.change(count=0, row=written))

    looks = [asyncio.create_task(node.look()) for node in nodes]
    passing = asyncio.create_task(prune_named(db, "default", named))
    archived = await asyncio.gather(*map(archive, late))
    by_hand = await passing
    await asyncio.gather(*looks)
    for node in nodes:
        await node.look()

    left = {row[0] for row in await db.fetch("SELECT run_id FROM runs")}
    bare = {row[0] for row in await db.fetch("SELECT run_id FROM pruned_runs")}
    kept = {run_id for run_id, won in zip(late, archived, strict=True) if won}
    expected = {run_id for run_id, (_, may_go) in found.items() if may_go} - kept
    assert (bare, left) == (expected, set(found) - expected)
    assert {outcome.outcome for outcome in by_hand} <= {"pruned", "skipped", "error"}
    counts = [outcome.pruned.events for outcome in by_hand if outcome.pruned is not None]
    assert sum(count > 0 for count in counts) + sum(node.pruned for node in nodes) == len(expected), "each is counted once"
    for table in ("history", "run_marks", "run_status"):
        assert {row[0] for row in await db.fetch(f"SELECT run_id FROM {table}")} == left, table


async def test_another_node_s_shards_are_left_alone(db: Database, commits: GroupCommit) -> None:
    found = await made(commits, random.Random(7), 200)
    node = Retention(db, lambda: frozenset({3, 5}), lambda: NOW, lambda: False)
    await node.look()
    bare = {row[0] for row in await db.fetch("SELECT run_id FROM pruned_runs")}
    assert bare == {run_id for run_id, (run, may_go) in found.items() if may_go and run.shard in (3, 5)}
    assert bare


async def test_a_bare_run_is_found_by_every_id_of_it(db: Database, commits: GroupCommit) -> None:
    run = RunFixture()
    assert await commits.commit(run.create(row=end(run, days_ago=40, archived=False)))
    (outcome,) = await prune_named(db, "default", [run.run_id])
    assert outcome.pruned is not None
    assert (outcome.pruned.events, outcome.pruned.memos, outcome.pruned.search_attributes) == (2, 1, 1)
    bare = await bare_runs.get(db, run.run_id)
    assert bare is not None and (bare.workflow_id, bare.run_number) == (run.workflow_id, 1)
    assert await bare_runs.by_key(db, run.key) == bare
    assert [item.run_id for item in await bare_runs.of_instance(db, "default", run.workflow_id)] == [run.run_id]
    assert await bare_runs.of_instance(db, "other", run.workflow_id) == []
    assert await runs.load(db, run.run_id) is None
    assert await bare_runs.get(db, run.run_id[:-1] + "x") is None


async def test_a_write_to_a_pruned_run_is_a_conflict(db: Database, commits: GroupCommit) -> None:
    run = RunFixture()
    assert await commits.commit(run.create(row=end(run, days_ago=40, archived=False)))
    await prune_named(db, "default", [run.run_id])
    run.stored(1, 2)
    assert await commits.commit(run.change()) is False
    assert await commits.commit(run.create()) is False, "the workflow id stays taken"
    assert await db.fetchval("SELECT count(*) FROM runs") == 0


async def test_no_statement_reads_whole_tables(db: Database, commits: GroupCommit) -> None:
    await made(commits, random.Random(3), 300)
    connection = await asyncpg.connect(db.dsn, server_settings=dict(PLANNER))
    try:
        await connection.execute("ANALYZE")
        plan = "\n".join(
            row[0] for row in await connection.fetch(f"EXPLAIN {pruning.EXPIRED_SQL}", "default", 0, NOW, ["00", "01"], 100)
        )
        assert "run_status_closed" in plan and "Seq Scan" not in plan, plan
        ids_, versions = ["x"] * 100, [1] * 100
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {pruning.PRUNE_SQL}", ids_, versions))
        assert "Seq Scan" not in plan, plan
    finally:
        await connection.close()
