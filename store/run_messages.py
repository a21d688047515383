"""Messages between actors: inserted by the sender's commit, deleted by the commit that applies them (architecture, rule 4).

Those to and from schedules lie apart, under a shard below zero: programs from before schedules read the mailboxes of their
shards and would not get past a message they do not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.columns import listed
from store.commit.given import SENT
from store.commit.writes import MessageRow
from store.connections.pool import Database

_COLUMNS = listed(SENT.columns[1:])


def apart(shard: int) -> int:
    """Where messages to and from schedules lie for a shard; of such a place, the shard."""
    return -1 - shard


async def discard(db: Database, message_ids: Sequence[str]) -> int:
    """Delete messages no commit will ever apply (their receiver is gone); how many were there."""
    return await db.execute("DELETE FROM mailbox WHERE mail_id = ANY ($1)", list(message_ids))


async def pending(db: Database, shards: Sequence[int], limit: int) -> list[MessageRow]:
    """Up to `limit` messages addressed to these shards, by message id; those of schedules are among them."""
    both = [*shards, *map(apart, shards)]
    rows = await db.fetch(f"SELECT {_COLUMNS} FROM mailbox WHERE shard = ANY ($1) ORDER BY mail_id LIMIT $2", both, limit)
    return [MessageRow(*row) for row in rows]


async def existing(db: Database, message_ids: Sequence[str]) -> set[str]:
    """Which of these messages nobody has applied yet."""
    return {row[0] for row in await db.fetch("SELECT mail_id FROM mailbox WHERE mail_id = ANY ($1)", list(message_ids))}
