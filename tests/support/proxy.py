"""A link between a node and one of its services that a test can let stand still: nothing passes and nothing is closed."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from node.embedded import free_port
from tests.support.services import Deployment

_CHUNK = 65_536


class Link:
    """Carries bytes to `target`, a Unix socket or a port of this machine, from one of the same kind, inside `async with`."""

    def __init__(self, target: Path | int, listen: Path | int) -> None:
        self.listen = listen
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def stall(self) -> None:
        """From now on nothing passes; who connects is not refused, and hears nothing."""
        self._flowing.clear()

    def resume(self) -> None:
        """What was held up passes, and everything after it."""
        self._flowing.set()

    def lose(self) -> None:
        """The connections there are hang for ever; new ones work, as with an address that another machine took over."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Link:
        if isinstance(self.listen, Path):
            self._server = await asyncio.start_unix_server(self._connected, str(self.listen))
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        flowing = self._flowing
        try:
            await flowing.wait()
            if isinstance(self._target, Path):
                there_reader, there_writer = await asyncio.open_unix_connection(str(self._target))
            else:
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(there_writer)
            await asyncio.gather(self._carry(reader, there_writer, flowing), self._carry(there_reader, writer, flowing))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in writers:
                each.transport.abort()
            self._connections.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        while data := await reader.read(_CHUNK):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
        await flowing.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()
        raise ConnectionResetError  # one end closed: so does the other


class Links:
    """The links of one node: `place` leads it to Postgres and NATS through them."""

    def __init__(self, place: Deployment, directory: Path) -> None:
        """`directory`: empty, and short enough for a Unix socket."""
        socket = place.postgres_socket()
        self.postgres = Link(socket, directory / socket.name)
        url, _, port = place.nats_url.rpartition(":")
        self.nats = Link(int(port), free_port())
        self.place = place.through(directory, f"{url}:{self.nats.listen}")

    async def __aenter__(self) -> Links:
        await self.postgres.__aenter__()
        await self.nats.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.postgres.__aexit__(*error)
        await self.nats.__aexit__(*error)
