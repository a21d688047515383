"""Accepting connections, also when there are no descriptors left.

uvloop's own server closes itself for good at the first failing accept. Here what fails is tried again: idle connections make
room for new ones, and a client that finds no room waits in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from node.http.connection import Connection
from node.http.edge import Edge

BACKLOG = 2048
ACCEPTED_AT_ONCE = 64
NOT_SENT_BYTES = 128 * 1024
ROOM = 16
"""How many idle connections make room at a time."""
RETRY_SECONDS = 0.2
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts on a bound socket from `start` to `stop`."""

    def __init__(self, edge: Edge, bound: socket.socket) -> None:
        self._edge = edge
        self._socket = bound
        self._reading = False
        self._stopped = False
        self._retry: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Listen."""
        self._edge.on_room = self._try_again
        # What is not sent yet waits here, where it is counted, rather than in the kernel.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
        self._socket.listen(BACKLOG)
        self._read()

    def stop(self) -> None:
        """Accept nothing any more."""
        self._stopped = True
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
        self._socket.close()

    def _read(self) -> None:
        self._retry = None
        if not self._reading and not self._stopped:
            self._reading = True
            self._edge.loop.add_reader(self._socket.fileno(), self._accept)

    def _try_again(self) -> None:
        """A connection was lost: one that waits may come in."""
        if self._retry is not None:
            self._retry.cancel()
            self._read()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._edge.loop.remove_reader(self._socket.fileno())

    def _accept(self) -> None:
        edge = self._edge
        most = edge.most_connections()
        for _ in range(ACCEPTED_AT_ONCE):
            if len(edge.connections) + len(self._opening) >= most:
                self._wait_for_room(f"{len(edge.connections)} connections are open")
                return
            try:
                accepted, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._wait_for_room(error.strerror or str(error))
                    return
                continue  # the client that came has left already
            accepted.setblocking(False)
            self._open(accepted)

    def _open(self, accepted: socket.socket) -> None:
        edge = self._edge
        task = edge.loop.create_task(edge.loop.connect_accepted_socket(lambda: Connection(edge), accepted))
        self._opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[Any]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._edge.crowded.note(f"a connection could not be opened: {error}")

    def _wait_for_room(self, why: str) -> None:
        """Let idle connections go, and try again when they are gone or others are."""
        self._edge.crowded.note(why)
        self._pause()
        self._edge.make_room(ROOM)
        self._retry = self._edge.loop.call_later(RETRY_SECONDS, self._read)
