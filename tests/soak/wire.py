"""One connection of a client: requests in every framing, and what comes back."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from tests.soak.message import Request
from tests.soak.mutations import LIMIT_BYTES

PATIENCE_SECONDS = 30.0
UPDATE_SECONDS = 3.0
"""An update is waited for as long as its request says: nobody stays that long."""
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Framings that promise no more than one answer and the end of the connection, and those that promise not even that.
LAST = {
    "short length",
    "long length",
    "both framings",
    "bad chunk",
    "garbage behind",
    "expect odd",
    "bare newlines",
    "no length",
}
LEAVING = {"cut", "abort", "half closed"}


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kept(self) -> bool:
        """Whether the connection goes on."""
        return self.headers.get("connection", "").lower() != "close"


class Broken(Exception):
    """The connection ended, or nothing came, where an answer was due."""


class Line:
    """A connection that is made again when it has ended."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._port = port
        self._rng = rng
        self._ahead = b""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(self, request: Request) -> list[Answer]:
        """Send a request as its framing says; the answers that came. Raises Broken when one is missing."""
        await self._open()
        framing = request.framing
        if framing in LEAVING:
            return await self._leave(request, framing)
        odd = framing != "length" or bool(request.mutations)
        await self._send(request, framing)
        if request.route.operation == "update" and not await self._begins():
            self.close()
            return []
        found = [await self._answer(request.method)]
        if framing == "pipelined" and found[-1].kept:
            found.append(await self._answer(request.method))
        if framing in LAST or request.version != "HTTP/1.1" or not found[-1].kept:
            self.close()
        elif odd:
            # Whatever was odd about it, the connection is at the beginning of a request again.
            await self._write(HEALTH)
            health = await self._answer("GET")
            if health.status != 200 or not health.body.startswith(b'{"status"'):
                raise Broken(f"the connection is out of step: {health.status} {health.body[:200]!r}")
        return found

    def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        self._ahead = b""

    async def _open(self) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    async def _write(self, data: bytes) -> None:
        assert self._writer is not None
        if self._writer.is_closing():
            return
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            pass  # what came before it may still be read

    async def _leave(self, request: Request, framing: str) -> list[Answer]:
        """Send a part of a request, or all of it, and go without an answer."""
        assert self._writer is not None
        data = request.plain()
        await self._write(data if framing != "cut" else data[: self._rng.randrange(len(data) + 1)])
        if framing == "half closed":
            self._writer.write_eof()
        elif framing == "abort":
            if self._rng.random() < 0.5:
                await asyncio.sleep(self._rng.random() * 0.02)
            self._writer.transport.abort()
        self.close()
        return []

    async def _send(self, request: Request, framing: str) -> None:
        data, rng = request.data, self._rng
        if framing in ("length", "pipelined"):
            await self._write(request.plain() * (2 if framing == "pipelined" else 1))
        elif framing in ("pieces", "singly"):
            whole = request.plain()
            size = 1 if framing == "singly" and len(whole) < 2000 else max(1, len(whole) // rng.randint(2, 9))
            for at in range(0, len(whole), size):
                await self._write(whole[at : at + size])
                if at % 16 == 0:
                    await asyncio.sleep(0)
        elif framing in ("chunked", "trailers", "extensions", "bad chunk"):
            await self._write(request.head(("Transfer-Encoding", "chunked")) + self._chunks(data, framing))
        elif framing in ("expect", "expect odd"):
            expectation = "100-continue" if framing == "expect" else "x-much"
            await self._write(request.head(("Content-Length", str(len(data))), ("Expect", expectation)))
            await asyncio.sleep(0.01 if rng.random() < 0.5 else 0)
            await self._write(data)
        elif framing in ("short length", "long length"):
            length = rng.randint(0, len(data)) if framing == "short length" else len(data) + rng.choice([1, 100])
            await self._write(request.head(("Content-Length", str(length))) + data)
        elif framing == "no length":
            await self._write(request.head() + data)
        elif framing == "both framings":
            both = [("Content-Length", str(len(data))), ("Transfer-Encoding", "chunked")]
            await self._write(request.head(*rng.sample(both, 2)) + self._chunks(data, "chunked"))
        elif framing == "garbage behind":
            await self._write(request.plain() + rng.choice([b"\x00" * 50, b"GARBAGE\r\n\r\n", b"}" * 9000, b"\r\n\r\nGET"]))
        elif framing == "oversize":
            size = LIMIT_BYTES + rng.choice([1, LIMIT_BYTES // 2])
            await self._write(request.head(("Content-Length", str(size))) + b'{"a":"' + b"x" * (size - 8) + b'"}')
        elif framing == "bare newlines":
            await self._write(request.plain().replace(b"\r\n", b"\n"))

    def _chunks(self, data: bytes, framing: str) -> bytes:
        size = self._rng.choice([1, 7, 1000]) if len(data) < 3000 else 4000
        extension = b";a=b" if framing == "extensions" else b""
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
        if framing == "bad chunk":
            return (
                body
                + self._rng.choice([b"zz\r\n", b"-1\r\n", b"5\r\nab\r\n0\r\n\r\n", b"f" * 40 + b"\r\n", b"0\nx"])
                + b"\r\n\r\n"
            )
        trailer = b"Authorization: Bearer soak-admin\r\nX-Namespace: nowhere\r\nX-T: 1\r\n" if framing == "trailers" else b""
        return body + b"0\r\n" + trailer + b"\r\n"

    async def _begins(self) -> bool:
        """Whether an answer begins in time."""
        assert self._reader is not None
        try:
            async with asyncio.timeout(UPDATE_SECONDS):
                self._ahead = await self._reader.read(1)
            return True
        except TimeoutError:
            return False
        except ConnectionError:
            return True  # to be noticed by who reads on

    async def _answer(self, method: str) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._read(method)
        except TimeoutError:
            self.close()
            raise Broken(f"no answer within {PATIENCE_SECONDS} s") from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise Broken(f"the connection ended: {error!r}") from None

    async def _read(self, method: str) -> Answer:
        assert self._reader is not None
        while True:
            ahead, self._ahead = self._ahead, b""
            head = ahead + await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            if status >= 200:
                break
        fields = (line.partition(":") for line in lines[1:-2])
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if method == "HEAD":
            return Answer(status, headers, b"")
        if "content-length" in headers:
            return Answer(status, headers, await self._reader.readexactly(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, await self._read_chunks(self._reader))
        return Answer(status, headers, await self._reader.read())  # to the end of the connection

    @staticmethod
    async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
        found = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            found.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(found)
