"""`dw-server events republish`: ask the running nodes to publish events to the event stream again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

COUNT_SECONDS = 120.0
LOOK_SECONDS = 1.0


class RepublishRefused(Exception):
    """Nothing was asked for; the message says why."""


def parse_since(text: str) -> datetime:
    """An ISO 8601 time; without an offset it is UTC. Raises `RepublishRefused` for anything else and for the future."""
    try:
        since = datetime.fromisoformat(text)
    except ValueError:
        raise RepublishRefused(f"--since: {text!r} is not an ISO 8601 time such as 2026-05-01T09:00:00Z") from None
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    if since > datetime.now(UTC):
        raise RepublishRefused(f"--since: {text} lies in the future")
    return since.astimezone(UTC)


async def republish(dsn: str, since: datetime, namespace: str | None, *, wait: bool, say: Callable[[str], None]) -> None:
    """Ask for all events recorded since then, of one namespace or of all, and tell with `say` what happens.

    `wait`: until the nodes are done. Raises `RepublishRefused`.
    """
    from store.errors import StoreError  # noqa: PLC0415 - the console starts faster without it

    try:
        await _republish(dsn, since, namespace, wait=wait, say=say)
    except StoreError as error:
        raise RepublishRefused(f"the database does not answer: {error}") from error


async def _republish(dsn: str, since: datetime, namespace: str | None, *, wait: bool, say: Callable[[str], None]) -> None:
    from actors.publishing.repetition import bound  # noqa: PLC0415
    from store import namespaces, schema  # noqa: PLC0415
    from store.cluster import republishing  # noqa: PLC0415
    from store.connections.pool import Database  # noqa: PLC0415

    database = Database(dsn, size=1, timeout_seconds=COUNT_SECONDS)
    await database.start()
    try:
        fault = (await schema.look(database)).fault
        if fault is not None:
            raise RepublishRefused(fault)
        if namespace is not None and await namespaces.get(database, namespace) is None:
            raise RepublishRefused(f"there is no namespace {namespace!r}")
        start = int(since.timestamp() * 1_000_000)
        runs = await republishing.runs_since(database, start, namespace)
        await republishing.ask(database, start, bound, namespace)
        whose = "all namespaces" if namespace is None else f"namespace {namespace}"
        say(f"asked for the events of {whose} recorded since {since.isoformat().replace('+00:00', 'Z')}: {runs} runs")
        if not wait:
            say("the running nodes publish them in the background, within seconds and then at a bounded pace")
            return
        while left := len(await republishing.jobs(database)):
            say(f"{left} shards are not done yet")
            await asyncio.sleep(LOOK_SECONDS)
        say("done")
    finally:
        await database.stop()
