"""What a run that is not in memory is asked without its history being read."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from api.http import page_tokens
from tests.support.server import ServerProcess
from tests.support.services import TestServices
from tests.wire.caller import caller_on, reason_of


async def test_bad_input_is_refused_without_reading_the_history(services: TestServices, tmp_path: Path) -> None:
    """Whether the caller has the lease says the state alone: the history may even be lost."""
    server = ServerProcess(services.deployment(), tmp_path)
    try:
        server.start()
        async with caller_on(server) as caller:
            worker = await caller.register()
            await caller.start()
            task = await caller.poll(worker)
        server.restart()
        database = await asyncpg.connect(server.place.dsn)
        await database.execute("DELETE FROM history")
        await database.close()
        async with caller_on(server) as caller:
            wrong = {"type": "do_magic"}
            faulty = await caller.complete(task, wrong)
            assert faulty.status_code == 422 and "commands.0.type" in faulty.json()["errors"], faulty.text
            other = await caller.complete(task, wrong, lease_owner="other")
            assert reason_of(other) == (409, "lease_owner_mismatch")
            page = await caller.workflow_call("history", task, next_history_page_token="!!")
            assert reason_of(page) == (400, "invalid_page_token")
            assert (await caller.workflow_call("heartbeat", task)).status_code == 200
            readable = await caller.workflow_call("history", task, next_history_page_token=page_tokens.encode(1))
            assert readable.status_code == 503, "the history is lost"
    finally:
        server.stop()
