"""Make a database ready for nodes: schema, default namespaces, settings. Contract: configuration-and-security 8.3."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TextIO

from base.observability.actions import said
from node.config import Config
from store.errors import SchemaUnfit

log = logging.getLogger("dw.node")

BUILT_IN_NAMESPACE = "default"


class BootstrapFailed(Exception):
    """Every attempt failed, or another one would be of no use; the message says why."""


async def bootstrap(config: Config, dsn: str) -> None:
    """One attempt: apply missing migrations, create missing namespaces and settings. Changes nothing when all is there.

    Raises what the store raises.
    """
    from store import migrate, schema  # noqa: PLC0415 - the console starts faster without it
    from store.connections.pool import Database  # noqa: PLC0415

    for name in await migrate.migrate(dsn):
        log.info("applied %s to the schema", name, extra=said("schema.applied", migration=name))
    database = Database(dsn, size=1)
    await database.start()
    try:
        await migrate.seed(
            database,
            shards=config.server.shards,
            namespaces=namespaces(config),
            retention_days=config.limits.history_retention_days,
        )
        log.info("%s", (await schema.look(database)).said, extra=said("schema.found"))
    finally:
        await database.stop()


def namespaces(config: Config) -> list[str]:
    """The namespaces that must exist: `default` and the configured default."""
    return list(dict.fromkeys((BUILT_IN_NAMESPACE, config.server.default_namespace)))


async def retrying(
    attempt: Callable[[], Awaitable[None]], retries: int, delay_seconds: float, errors: TextIO | None = None
) -> int:
    """Call `attempt` until it succeeds, `retries` times at most, and return the number of attempts made.

    One line on standard error (or `errors`) per failed attempt. Raises `BootstrapFailed` after the last one, and at once for a
    schema that this program must not touch.
    """
    out = errors or sys.stderr
    last = ""
    for number in range(1, retries + 1):
        try:
            await attempt()
            return number
        except SchemaUnfit as error:
            raise BootstrapFailed(f"bootstrap refused: {error}") from None
        except Exception as error:
            last = _reason(error)
        print(f"bootstrap attempt {number} of {retries} failed: {last}", file=out, flush=True)
        if number < retries:
            await asyncio.sleep(delay_seconds)
    raise BootstrapFailed(f"bootstrap failed after {retries} attempt{'s' if retries != 1 else ''}: {last}")


def run(config: Config, dsn: str) -> int:
    """Bootstrap with the retries of the configuration; the number of attempts it took. Raises `BootstrapFailed`."""
    return asyncio.run(retrying(lambda: bootstrap(config, dsn), config.bootstrap.retries, config.bootstrap.delay_seconds))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
