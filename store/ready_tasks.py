"""Ready tasks: what workers may claim. Rows come and go with the commits of their runs (architecture, rule 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.columns import Table
from store.commit.writes import ReadyTaskRow
from store.connections.pool import Database
from store.sql import beside, filled

Order = tuple[int, int, str]
Position = tuple[int, str]
_ENDLESS = 1 << 62
_LOOK_AGAIN = 1_000_000  # microseconds, where not all classes were read and some of the others may have delayed tasks


@dataclass(frozen=True, slots=True)
class Reach:
    """Of tasks not all of which were read: all of the tiers before `priority` were, none of those behind.

    In that tier, of the class c those up to `bounds[c]` (priority, available_at, task_id); of other classes all if `others`,
    else none. `partly`: there are more classes than are read at once.
    """

    priority: int
    bounds: dict[str, Order]
    others: bool
    partly: bool = False


@dataclass(frozen=True, slots=True)
class Claimable:
    """What some poll may take, as far as it was read.

    `due` were read as far as `reach`, None: all. `later` are those available only later, by that time; those available from
    `later_from` on were not all read, None: all were. `resume`: where to go on, as there are more classes than were read.
    """

    due: list[ReadyTaskRow]
    reach: Reach | None
    later: list[ReadyTaskRow]
    later_from: int | None
    resume: Position | None = None


_TASKS = Table(ReadyTaskRow)
_SQL = beside(__file__)
_POOL = "hashtextextended($3, hashtextextended($2, hashtextextended($1, 0)))"
_WORDS = {"pool": _POOL, "same_queue": "namespace = $1 AND queue = $2 AND kind = $3"}


def _columns_of(part: str) -> str:
    """The columns of a task, where only the part itself tells its priority from that of a step."""
    return _TASKS.names.replace("priority", f"{part}.priority")


READY_SQL = filled(_SQL["ready"], due_columns=_columns_of("due"), **_WORDS)


async def ready(db: Database, namespace: str, queue: str, kind: str, limit: int) -> list[ReadyTaskRow]:
    """The first `limit` ready tasks of a queue by (priority, available_at, task_id), those available only later included."""
    rows = await db.fetch(READY_SQL, namespace, queue, kind, limit)
    return [_TASKS.read(row) for row in rows]


_KEYS = {"pool": _SQL["markers"], "lane": _SQL["lanes"]}
_OF_KEY = {"pool": f"r.pool = {_POOL} AND r.marker", "lane": "r.lane"}


def claimable_sql(column: str, *, resumed: bool = False) -> str:
    """The statement of `claimable` by "lane" or by "pool". `resumed`: that goes on behind a class."""
    of_key = _OF_KEY[column]
    first, after = ("first_resumed", "next_resumed") if resumed else ("first", "next")
    return filled(
        _SQL["claimable"],
        keys=filled(_KEYS[column], pool=_POOL, types="$10" if resumed else "$8"),
        of_key=of_key,
        first=filled(_SQL[first], of_key=of_key),
        next=filled(_SQL[after], of_key=of_key),
        due_columns=_columns_of("due"),
        later_columns=_columns_of("later"),
        **_WORDS,
    )


_CLAIMABLE = {
    (column, resumed): claimable_sql(column, resumed=resumed) for column in ("lane", "pool") for resumed in (False, True)
}
_PRIORITIES = 10


async def claimable(
    db: Database,
    namespace: str,
    queue: str,
    kind: str,
    types: Sequence[str] | None,
    markers: Sequence[str],
    now: int,
    limit: int,
    after: Position | None = None,
) -> Claimable:
    """The ready tasks of these types (None: of all) and build markers (empty: no marker), about `limit` due and later ones.

    Some of every class (fairness key) by its weight; `after` goes on where there were too many classes (`resume`). The cost
    depends on `limit`, on how many types are named and on how many priorities occur, not on what else is there.
    """
    keys = len(markers) * (1 if types is None else len(types))
    steps = 2 * limit + _PRIORITIES * keys  # more than there can be without classes
    arguments: list[object] = [namespace, queue, kind, list(markers), now, limit, steps]
    if after is not None:
        arguments += after
    if types is not None:
        arguments.append(list(types))
    column = "pool" if types is None else "lane"
    rows = await db.fetch(_CLAIMABLE[column, after is not None], *arguments)
    stop: Position | None = (rows[0][-2], rows[0][-1]) if rows and rows[0][-2] is not None else None
    due: list[tuple[ReadyTaskRow, bool, float]] = []
    later: list[ReadyTaskRow] = []
    later_from: int | None = None
    gathered = 0
    for *values, cut, turn, count, _, _ in rows:
        task = ReadyTaskRow(*values)
        if turn is not None:
            gathered = count
            due.append((task, cut, turn))
        elif later_from is None:
            later.append(task)
            if cut or len(later) == limit:
                later_from = task.available_at
    if stop is not None or after is not None:
        later_from = min(now + _LOOK_AGAIN, _ENDLESS if later_from is None else later_from)
    found, reach = _reached(due, gathered > len(due), stop, after)
    return Claimable(found, reach, later, later_from, stop)


def _reached(
    read: list[tuple[ReadyTaskRow, bool, float]], limited: bool, stop: Position | None, after: Position | None
) -> tuple[list[ReadyTaskRow], Reach | None]:
    """How far these tell what there is: in the order of turns, with `cut` and turn. `limited`: not all that was gathered."""
    ends = [row.priority for row, cut, _ in read if cut][:1]
    if limited:
        ends.append(read[-1][0].priority)
    ends += [position[0] for position in (stop, after) if position is not None]
    if not ends:
        return [row for row, _, _ in read], None
    tier = min(ends)
    partly = tier in {position[0] for position in (stop, after) if position is not None}  # not all classes were read
    bounds: dict[str, Order] = {}
    last: dict[str, Order] = {}
    for row, cut, _ in read:
        name, order = row.fairness_key or "", (row.priority, row.available_at, row.task_id)
        if row.priority == tier and not (stop is not None and (tier, name) > stop):
            last[name] = order
            if cut:
                bounds[name] = min(bounds.get(name, order), order)
    limited = limited and read[-1][0].priority == tier
    for name, order in last.items():
        if limited:
            bounds[name] = min(bounds.get(name, order), order)
        elif partly:
            bounds.setdefault(name, (tier, _ENDLESS, ""))
    # Of the first tier something of each class is among what was read; of the last one only if there is a second of any.
    unseen = limited and read[-1][2] == 0 and tier != read[0][0].priority
    reach = Reach(tier, bounds, not partly and not unseen, partly)
    return [row for row, _, _ in read if _within(row, reach)], reach


def _within(row: ReadyTaskRow, reach: Reach) -> bool:
    if row.priority != reach.priority:
        return row.priority < reach.priority
    bound = reach.bounds.get(row.fairness_key or "")
    return reach.others if bound is None else (row.priority, row.available_at, row.task_id) <= bound


async def get(db: Database, task_ids: Sequence[str]) -> list[ReadyTaskRow]:
    """Those of the given tasks that are ready."""
    rows = await db.fetch(f"SELECT {_TASKS.names} FROM ready_tasks WHERE task_id = ANY ($1)", list(task_ids))
    return [_TASKS.read(row) for row in rows]


async def last_available(db: Database, shards: Sequence[int], after: int, limit: int) -> list[str]:
    """Ids of the tasks of these shards' queues that are available only after `after`, the latest first."""
    rows = await db.fetch(
        "SELECT task_id FROM ready_tasks WHERE shard = ANY ($1) AND available_at > $2 ORDER BY available_at DESC LIMIT $3",
        list(shards),
        after,
        limit,
    )
    return [row[0] for row in rows]
