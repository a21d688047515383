"""The raw HTTP client against real sockets: whole and broken answers, reuse of connections, ends of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.http import Address, HttpError, Pool, connect
from tests.bench.toy_server import ToyServer

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def answering(*pieces: bytes, close: bool = False) -> AsyncIterator[tuple[Address, Callable[[], int]]]:
    """A server that sends `pieces`, a moment apart, to every request; yields its address and a count of connections."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)
                if close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), lambda: connections
    finally:
        server.close()


async def test_answers_are_whole_however_the_bytes_come() -> None:
    whole = b"HTTP/1.1 201 Created\r\nContent-Length: 11\r\nX: y\r\n\r\nhello world"
    for cut in range(1, len(whole)):
        async with answering(whole[:cut], whole[cut:]) as (address, _):
            connection = await connect(address)
            assert await connection.request(REQUEST) == (201, b"hello world")
            connection.close()


async def test_a_connection_serves_many_requests_and_empty_bodies() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as (address, connections):
        connection = await connect(address)
        for _ in range(5):
            assert await connection.request(REQUEST) == (200, b"")
        assert connections() == 1
        connection.close()


async def test_one_request_at_a_time() -> None:
    async with answering() as (address, _):
        connection = await connect(address)
        first = connection.request(REQUEST)
        with pytest.raises(RuntimeError):
            connection.request(REQUEST)
        connection.close()
        with pytest.raises(HttpError):
            await first


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-something\r\n\r\n",
    ],
)
async def test_what_it_does_not_speak_is_refused(answer: bytes) -> None:
    async with answering(answer) as (address, _):
        connection = await connect(address)
        with pytest.raises(HttpError):
            await connection.request(REQUEST)
        with pytest.raises(HttpError):
            await connection.request(REQUEST)


async def test_a_lost_connection_fails_the_request() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", close=True) as (address, _):
        connection = await connect(address)
        with pytest.raises(HttpError, match="lost"):
            await connection.request(REQUEST)
        assert connection.closed


async def test_bytes_nobody_asked_for_are_an_error() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 X\r\n") as (address, _):
        connection = await connect(address)
        with pytest.raises(HttpError, match="nobody asked"):
            await connection.request(REQUEST)


async def test_the_pool_reuses_a_connection_and_replaces_a_closed_one() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (address, connections):
        pool = Pool(address)
        for _ in range(3):
            assert (await pool.request(REQUEST)).body == b"ok"
        assert connections() == 1
        await asyncio.gather(*(pool.request(REQUEST) for _ in range(4)))
        assert connections() == 4
        pool.close()
    async with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", close=True) as (
        address,
        connections,
    ):
        pool = Pool(address)
        for _ in range(3):
            assert (await pool.request(REQUEST)).body == b"ok"
        assert connections() == 3


async def test_nobody_listening() -> None:
    async with ToyServer() as server:
        address = Address.of(server.url)
    with pytest.raises(HttpError):
        await connect(address)


@pytest.mark.parametrize("url", ["https://x:1", "x:1", "http://", "http://x/path"])
def test_addresses_are_plain_http(url: str) -> None:
    with pytest.raises(ValueError):
        Address.of(url)
