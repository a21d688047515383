"""Waiting for the end of an accepted update, wherever its run is hosted (control-plane 5.9)."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from actors.cluster.protocol import AwaitUpdate
from actors.cluster.router import Router
from actors.errors import Unavailable
from actors.hosting.host import Host
from actors.run.commands.control import ReadUpdate
from actors.run.replies import UpdateStatus
from store import runs
from store.connections.pool import Database
from store.errors import StoreError

_RETRY_SECONDS = 0.1
_LOOK_SECONDS = 1.0  # between looks at an update whose end may be recorded on another node
_MARGIN_SECONDS = 2.0


class UpdateWaiters:
    """Callers of this node and of others that wait for updates."""

    def __init__(self, db: Database, host: Host, router: Router) -> None:
        self._db = db
        self._host = host
        self._router = router
        self._left = asyncio.Event()

    def drain(self) -> None:
        """Shutting down: who waits is told that the update was accepted."""
        self._left.set()
        self._host.watchers.wake_all()

    async def find(self, namespace: str, workflow_id: str, run_id: str, update_id: str) -> UpdateStatus | None:
        """An update as it stands, in the run that accepted it or in one it was handed over to."""
        reply = await self._router.ask_run(run_id, ReadUpdate(update_id), namespace)
        if isinstance(reply, UpdateStatus):
            return reply
        chain = [item.run_id for item in await runs.of_instance(self._db, namespace, workflow_id)]  # a pruned run has none
        for later in chain[chain.index(run_id) + 1 :] if run_id in chain else ():
            reply = await self._router.ask_run(later, ReadUpdate(update_id), namespace)
            if isinstance(reply, UpdateStatus):
                return reply
        return None

    async def until_end(self, namespace: str, accepted: UpdateStatus, seconds: float) -> UpdateStatus:
        """The update once it has ended; as it was `accepted` when `seconds` pass first, or this node shuts down."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        shard = self._router.shard_of_workflow(namespace, accepted.workflow_id)
        while (left := deadline - loop.time()) > 0 and not self._left.is_set():
            owner = self._router.elsewhere(shard)
            if owner is None:
                now = await self.watch(namespace, accepted, left)
            else:
                now = await self._ask(owner, AwaitUpdate(namespace, accepted, left))
            if now.status != "accepted":
                # History tells the end of an update; what its acceptance told, is kept.
                return msgspec.structs.replace(
                    now,
                    accepted_at=accepted.accepted_at,
                    command_sequence=accepted.command_sequence,
                    command_id=accepted.command_id,
                )
            with contextlib.suppress(TimeoutError):  # its owner leaves, or could not be asked
                await asyncio.wait_for(self._left.wait(), min(_RETRY_SECONDS, max(deadline - loop.time(), 0.0)))
        return accepted

    async def watch(self, namespace: str, accepted: UpdateStatus, seconds: float) -> UpdateStatus:
        """`until_end` for an update of a run hosted here; ends early when it is not hosted here any more."""
        shard = self._router.shard_of_workflow(namespace, accepted.workflow_id)
        watch = self._host.watchers.watch(accepted.update_id)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    # Looked at after the watch began, so that an end in between is not missed.
                    with contextlib.suppress(Unavailable, StoreError):  # it is accepted, whatever becomes of the waiting
                        now = await self.find(namespace, accepted.workflow_id, accepted.run_id, accepted.update_id)
                        if now is not None and now.status != "accepted":
                            return now
                    if self._left.is_set() or self._router.elsewhere(shard) is not None:
                        return accepted
                    if watch.done():
                        await asyncio.sleep(_RETRY_SECONDS)
                    else:
                        await asyncio.wait({watch}, timeout=_LOOK_SECONDS)
        except TimeoutError:
            return accepted
        finally:
            watch.cancel()

    async def _ask(self, owner: str, question: AwaitUpdate) -> UpdateStatus:
        """Have the node that hosts the run watch it; a shutdown of this node ends that."""
        asked = asyncio.ensure_future(self._router.ask_node(owner, question, question.seconds + _MARGIN_SECONDS))
        left = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait({asked, left}, return_when=asyncio.FIRST_COMPLETED)
            reply = asked.result() if asked.done() else None
        except Unavailable:
            reply = None
        finally:
            asked.cancel()
            left.cancel()
        return reply if isinstance(reply, UpdateStatus) else question.accepted
