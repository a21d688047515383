"""Messages to all other nodes that something changed.

Lost ones are harmless (everything has its own periodic look).
"""

from __future__ import annotations

from collections.abc import Callable

from bus.connection import Bus
from bus.subjects import token, untoken

BroadcastHandler = Callable[[str, bytes], None]


class Broadcast:
    """Core NATS publish and subscribe by topic; a node does not hear itself."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._own = token(bus.node_id)

    def broadcast(self, topic: str, payload: bytes) -> bool:
        """Send `payload` to all other nodes. False: certainly not sent."""
        return self._bus.publish(self._bus.subjects.broadcast(topic, self._bus.node_id), payload)

    def on_broadcast(self, topic: str, handler: BroadcastHandler) -> int:
        """Call the plain, short function `handler(node_id of the sender, payload)`. Returns an id for `Bus.unsubscribe`."""

        def receive(subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
            sender = subject.rpartition(b".")[2].decode()
            if sender != self._own:
                handler(untoken(sender), body)

        return self._bus.subscribe(self._bus.subjects.broadcast(topic, "*"), receive)
