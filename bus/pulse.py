"""Who is heard on NATS.

Every node says hello twice a second. One that is not heard for a while, though this node is connected itself, is stopped or
hangs, or its link does: it is silent, mostly before its lease ends, and nothing is to be waited for from it. What it hosts may
be done elsewhere meanwhile: runs are fenced by their version (architecture, rules 1 and 7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from base.observability.actions import said
from bus.connection import Bus

_log = logging.getLogger("dw.bus")

_BEAT_SECONDS = 0.5
_SILENT_SECONDS = 2.0
_LATE_SECONDS = 1.0  # a beat so late says that this process was stopped, not the others
_GRACE_SECONDS = 1.0  # more for those whose connection was away together with ours


class Pulse:
    """Says hello while connected and notices who does not."""

    def __init__(self, bus: Bus, say_hello: Callable[[], None], on_silent: Callable[[str], None]) -> None:
        """`on_silent(node id)` is called once for each silence."""
        self._say_hello = say_hello
        self._on_silent = on_silent
        self._heard: dict[str, float] = {}  # loop time of the last word
        self._silent: set[str] = set()
        self._beaten = 0.0
        self._timer: asyncio.TimerHandle | None = None
        bus.on_connect(self._connected)
        bus.on_disconnect(self._disconnected)

    def is_silent(self, node_id: str) -> bool:
        """True for a node that should be heard and is not."""
        return node_id in self._silent

    @property
    def all_heard(self) -> bool:
        """Whether every known node is heard."""
        return not self._silent

    def expect(self, node_id: str) -> None:
        """This node is alive as far as others know: it should be heard soon."""
        self._heard.setdefault(node_id, asyncio.get_running_loop().time())

    def hear(self, node_id: str) -> None:
        """It said something."""
        self._heard[node_id] = asyncio.get_running_loop().time()
        if node_id in self._silent:
            self._silent.discard(node_id)
            _log.info("node %s is heard again", node_id, extra=said("peer.heard", peer=node_id))

    def forget(self, node_id: str) -> None:
        """It is gone: nothing is expected of it."""
        self._heard.pop(node_id, None)
        self._silent.discard(node_id)

    def _connected(self) -> None:
        self._disconnected()
        loop = asyncio.get_running_loop()
        self._silent.clear()
        self._heard = dict.fromkeys(self._heard, loop.time() + _GRACE_SECONDS)
        self._beaten = loop.time()
        self._timer = loop.call_later(_BEAT_SECONDS, self._beat)

    def _disconnected(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._beaten > _LATE_SECONDS:
            self._heard = {node_id: max(heard, now) for node_id, heard in self._heard.items()}
        self._beaten = now
        self._timer = loop.call_later(_BEAT_SECONDS, self._beat)
        self._say_hello()
        for node_id, heard in list(self._heard.items()):
            if now - heard > _SILENT_SECONDS and node_id not in self._silent:
                self._silent.add(node_id)
                _log.info("node %s is not heard", node_id, extra=said("peer.silent", peer=node_id))
                self._on_silent(node_id)
