"""The way to a run: asked directly when its shard is hosted here, by NATS when another node hosts it.

An owner that cannot be reached is no obstacle: the transition is executed here then, and the store's version check keeps it
right (architecture, rules 1 and 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskRun, Failed
from actors.errors import Unavailable, one_family
from actors.run import ids
from actors.run.commands import RunCommand
from actors.run.commands.base import Command
from actors.run.commands.worker import ReleaseClaim
from actors.run.ids import RunId, RunKey
from actors.run.replies import Done, Refused
from actors.run.times import Micros
from bus.ask import Ask
from bus.errors import HandlerFailed, OutcomeUnknown, Unreachable, fail
from store.errors import StoreUnavailable

_T = TypeVar("_T")
_R = TypeVar("_R")

ASK_SECONDS = 10.0
_LEASE_SECONDS = 1.0
_PAUSES_SECONDS = (0.05, 0.2, 0.5)
_UNKNOWN_TO_OLDER = (protocol.AskSchedule, protocol.AwaitStarts)
_RELEASE_SECONDS = 1.0
_RELEASE_TRIES = 300  # after that the lease has run out by itself


class Owners(Protocol):
    """Which node hosts which shard (`actors.cluster.placement`)."""

    def owner(self, shard: int) -> str | None: ...

    def owns(self, shard: int) -> bool: ...

    @property
    def lease_valid(self) -> bool: ...

    async def wait_lease(self, timeout_seconds: float) -> bool: ...


class Runs(Protocol):
    """The runs hosted here (`actors.hosting.host`)."""

    def ask_run(
        self,
        run_key: RunKey,
        command: Command[_R],
        namespace: str | None = None,
        message_id: str | None = None,
        key: str | None = None,
    ) -> asyncio.Future[_R | Refused]: ...

    def now(self) -> Micros: ...


class Router:
    """Finds the node of a shard and puts questions to it."""

    def __init__(self, node_id: str, owners: Owners, ask: Ask, runs: Runs, shards: int) -> None:
        """`runs`: those hosted here. `shards`: how many there are in the cluster."""
        self.node_id = node_id
        self.shards = shards
        self._owners = owners
        self._ask = ask
        self._runs = runs

    # -- which node ----------------------------------------------------------------------------------------------------

    def owns(self, shard: int) -> bool:
        """Whether this node hosts the shard."""
        return self._owners.owns(shard)

    async def confirm_lease(self) -> None:
        """Go on only as the process that has this node's id: one that was stopped may have been replaced meanwhile.

        Raises `Unavailable` when that is not known in time.
        """
        if not self._owners.lease_valid and not await self._owners.wait_lease(_LEASE_SECONDS):
            raise Unavailable("the lease of this node has ended")

    def elsewhere(self, shard: int) -> str | None:
        """The other live node that hosts the shard, None when it is this one or nobody."""
        if self._owners.owns(shard):
            return None
        owner = self._owners.owner(shard)
        return None if owner == self.node_id else owner

    def shard_of_workflow(self, namespace: str, workflow_id: str) -> int:
        """The shard of a workflow id, which all of its runs share."""
        return ids.shard_of(namespace, workflow_id, self.shards)

    def new_run_id(self, namespace: str, workflow_id: str) -> RunId:
        """A fresh run id in the shard of this workflow id."""
        run_key = ids.new_run_key(self.shard_of_workflow(namespace, workflow_id))
        return ids.new_run_id(self.now() // 1000, run_key)

    def now(self) -> Micros:
        """The present in microseconds, by the node's clock."""
        return self._runs.now()

    def shard_of_id(self, any_id: str) -> int | None:
        """The shard of any id of ours; None for an id that none of these shards minted."""
        run_key = ids.run_key_of(any_id)
        if run_key is None:
            return None
        shard = ids.shard_in(run_key)
        return shard if shard < self.shards else None

    # -- asking runs ---------------------------------------------------------------------------------------------------

    async def ask_task(self, namespace: str, task_id: str, command: Command[_R]) -> _R | Refused:
        """Have the run of a task decide a command. An id that is none of ours is `Refused("task_not_found")`.

        Raises `Unavailable` when the outcome is unknown.
        """
        if self.shard_of_id(task_id) is None:
            return Refused("task_not_found")
        await self.confirm_lease()
        return await self.ask_run(task_id, command, namespace)

    def ask_run(
        self, any_id: str, command: Command[_R], namespace: str | None = None, key: str | None = None
    ) -> asyncio.Future[_R | Refused]:
        """Have the run that minted `any_id` decide a command, here or on the node that hosts it.

        `key`: of a command that must be applied once (`actors.hosting.repeats`).
        """
        runs = self._runs
        run_key = ids.key_in(any_id)
        owner = self.elsewhere(ids.shard_in(run_key))
        if owner is None:
            return runs.ask_run(run_key, command, namespace, key=key)
        payload = protocol.encode(AskRun(run_key, cast(RunCommand, command), namespace, key))
        try:
            asked = self._ask.start_ask(owner, payload, ASK_SECONDS)
        except Unreachable:
            return runs.ask_run(run_key, command, namespace, key=key)
        future: asyncio.Future[_R | Refused] = asyncio.get_running_loop().create_future()

        def answered(done: asyncio.Future[bytes]) -> None:
            error = done.exception()
            if isinstance(error, Unreachable):
                _follow(runs.ask_run(run_key, command, namespace, key=key), future)
                return
            if future.done():
                return
            try:
                if error is not None:
                    raise Unavailable(str(error)) from error
                future.set_result(_reply(done.result()))
            except Exception as failure:
                fail(future, failure)

        asked.add_done_callback(answered)
        return future

    def release_claim(self, release: ReleaseClaim) -> asyncio.Future[None]:
        """End a lease that reached nobody, tried again until that is certain or the lease has run out by itself; then the
        future ends.
        """
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._release(release, released, 1)
        return released

    def _release(self, release: ReleaseClaim, released: asyncio.Future[None], tries: int) -> None:
        def answered(done: asyncio.Future[Done | Refused]) -> None:
            if done.exception() is None or tries >= _RELEASE_TRIES:
                released.set_result(None)
            else:
                asyncio.get_running_loop().call_later(_RELEASE_SECONDS, self._release, release, released, tries + 1)

        self.ask_run(release.task_id, release).add_done_callback(answered)

    async def certainly(self, once: Callable[[], Awaitable[_T]]) -> _T:
        """What `once` comes to, tried again for a while when its outcome is unknown: for commands that carry a key.

        Each try is made with a lease: an ask may take seconds, and a process that was stopped meanwhile has to end.
        Raises `Unavailable` when the outcome stays unknown, or there is no lease.
        """
        for pause in _PAUSES_SECONDS:
            await self.confirm_lease()
            try:
                return await once()
            except (Unavailable, StoreUnavailable):
                await asyncio.sleep(pause)
        await self.confirm_lease()
        with one_family():
            return await once()

    async def ask_node(self, node_id: str, question: protocol.Question, timeout_seconds: float = ASK_SECONDS) -> Any:
        """Put a question to another node, for at most `timeout_seconds`: the run's reply, which the asker knows the type of.

        None when it certainly did not get it; raises `Unavailable` when that is unknown.
        """
        response = await self.ask_node_whole(node_id, question, timeout_seconds)
        return None if response is None else _answered(response)

    async def ask_node_whole(
        self, node_id: str, question: protocol.Question, timeout_seconds: float = ASK_SECONDS
    ) -> protocol.Response | None:
        """The same, with the response as it came; one that says that nothing is known there either raises, too."""
        try:
            response = protocol.decode_response(await self._ask.ask(node_id, protocol.encode(question), timeout_seconds))
        except Unreachable:
            return None
        except OutcomeUnknown as error:
            if isinstance(error, HandlerFailed) and isinstance(question, _UNKNOWN_TO_OLDER):
                return None  # a version that does not know it: decided here, with its key
            raise Unavailable(str(error)) from error
        if isinstance(response, Failed):
            raise Unavailable(response.message)
        return response


def _reply(answer: bytes) -> Any:
    return _answered(protocol.decode_response(answer))


def _answered(response: protocol.Response) -> Any:
    if isinstance(response, Answer):
        return response.reply
    raise Unavailable(response.message if isinstance(response, Failed) else "not hosted there any more")


def _follow(source: asyncio.Future[_R], target: asyncio.Future[_R]) -> None:
    def done(source: asyncio.Future[_R]) -> None:
        if target.done():
            return
        error = source.exception()
        if error is not None:
            fail(target, error)
        else:
            target.set_result(source.result())

    source.add_done_callback(done)
