"""Faults that need nothing but a connection to the nodes' database: it stays open through them."""

from __future__ import annotations

import asyncpg


async def take_each_other_for_dead(connection: asyncpg.Connection) -> None:
    """Every node's lease has ended, as the others see it: each hosts everything until it hears of them again."""
    await connection.execute("UPDATE nodes SET expires_at = 0")


async def cut_off_commits(connection: asyncpg.Connection) -> None:
    """All other connections to this database are closed, whatever is in flight on them."""
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
