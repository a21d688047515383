"""How the parts of a node live together: order, retries, draining, stopping; and the HTTP server in front of them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from node.assembly import Assembly
from node.http.flood import Flood
from node.http.server import HttpServer, base_url, bind
from node.server import Node
from store.errors import StoreUnavailable
from tests.support.defaults import EDGE


class Part:
    """A part that writes down what happens to it, and fails to start so many times."""

    def __init__(self, name: str, diary: list[str], failures: int = 0, error: type[Exception] = StoreUnavailable) -> None:
        self.name, self.diary, self.failures, self.error = name, diary, failures, error

    async def start(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            self.diary.append(f"{self.name} failed")
            raise self.error("away")
        self.diary.append(f"{self.name} started")

    async def stop(self) -> None:
        self.diary.append(f"{self.name} stopped")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the request said; `/slow` takes its time, `/held` waits until the client goes."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    if scope["path"] == "/held":
        assert (await receive())["type"] == "http.disconnect"
        GONE.set()
        return
    answer = json.dumps({"path": scope["path"], "bytes": len(body)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


GONE = asyncio.Event()


def node_of(diary: list[str], *parts: Part, drain: Callable[[], Awaitable[None]] | None = None) -> Node:
    async def begin_drain() -> None:
        diary.append("drain")

    def given(part: Part) -> Callable[[], Part]:
        return lambda: part

    assembly = Assembly(app=echo, services=[(part.name, given(part)) for part in parts], begin_drain=drain or begin_drain)
    return Node(assembly, bind("127.0.0.1", 0), grace_seconds=2, limits=EDGE)


async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    diary: list[str] = []
    node = node_of(diary, Part("a", diary), Part("b", diary))
    await node.start()
    assert node.starting.done()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{node.url}/x")).json()["path"] == "/x"
    await node.stop()
    assert diary == ["a started", "b started", "drain", "b stopped", "a stopped"]
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(node.url)


async def test_requests_are_accepted_while_a_part_can_not_start_yet() -> None:
    diary: list[str] = []
    node = node_of(diary, Part("a", diary), Part("b", diary, failures=3), Part("c", diary))
    await node.start()
    assert not node.starting.done()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{node.url}/health")).status_code == 200
    await asyncio.wait_for(node.starting, 20)
    await node.stop()
    assert diary == [
        "a started", *["b failed"] * 3, "b started", "c started", "drain", "c stopped", "b stopped", "a stopped",
    ]  # fmt: skip


async def test_stopping_while_a_part_can_not_start_leaves_nothing_running() -> None:
    diary: list[str] = []
    node = node_of(diary, Part("a", diary), Part("b", diary, failures=1000), Part("c", diary))
    await node.start()
    await node.stop()
    assert [line for line in diary if line != "b failed"] == ["a started", "drain", "a stopped"]


async def test_a_fault_that_waiting_does_not_cure_is_raised() -> None:
    diary: list[str] = []
    node = node_of(diary, Part("a", diary), Part("b", diary, failures=1, error=ValueError))
    with pytest.raises(ValueError, match="away"):
        await node.start()
    await node.stop()
    assert diary == ["a started", "b failed", "drain", "a stopped"]


async def test_running_requests_are_finished_before_parts_stop() -> None:
    diary: list[str] = []
    node = node_of(diary, Part("a", diary))
    await node.start()
    async with httpx.AsyncClient() as client:
        running = asyncio.create_task(client.post(f"{node.url}/slow", content=b"abc"))
        await asyncio.sleep(0.1)
        await node.stop()
        assert (await running).json() == {"path": "/slow", "bytes": 3}
    assert diary[-1] == "a stopped"


async def test_trouble_while_stopping_does_not_keep_other_parts_running() -> None:
    diary: list[str] = []

    class Troubled(Part):
        async def stop(self) -> None:
            raise RuntimeError("no")

    async def drain() -> None:
        raise RuntimeError("no drain")

    node = node_of(diary, Part("a", diary), Troubled("b", diary), drain=drain)
    await node.start()
    await node.stop()
    assert diary == ["a started", "b started", "a stopped"]


# -- the HTTP server ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, int]]:
    bound = bind("127.0.0.1", 0)
    server = HttpServer(echo, bound, grace_seconds=1, limits=EDGE)
    await server.start()
    host, port = bound.getsockname()
    yield host, port
    await server.stop()


async def raw(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Send pieces one after the other and return everything that comes back until the server closes or is silent."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        answer = b""
        while True:
            try:
                part = await asyncio.wait_for(reader.read(65536), 0.5)
            except TimeoutError:
                return answer
            if not part:
                return answer
            answer += part
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(target: str = "/", headers: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode()


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([request()], b"200"),
        ([request("/" + "a" * 8100)], b"200"),
        ([request("/" + "a" * 8300)], b"414"),
        ([request(headers=f"x-a: {'a' * 16000}\r\n")], b"200"),
        ([request(headers=f"x-a: {'a' * 16500}\r\n")], b"431"),
        ([request(headers="".join(f"x-{n}: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" for n in range(800)))], b"431"),
        ([b"GET / HTTP/1.1\r\nx-a: ", *[b"a" * 8000] * 4], b"431"),
        ([b"GET /", *[b"a" * 8000] * 4], b"414"),
        ([b"GET / HTTP/1.1\r\nho", b"st: x\r\n", b"\r\n"], b"200"),
        ([b"nonsense\r\n\r\n"], b"400"),
    ],
)
async def test_bounds_of_a_request_head(served: tuple[str, int], pieces: list[bytes], status: bytes) -> None:
    answer = await raw(served, *pieces)
    assert answer.split(b" ", 2)[1:2] == [status], answer[:200]


async def test_a_long_body_is_no_long_head(served: tuple[str, int]) -> None:
    async with httpx.AsyncClient(base_url="http://{}:{}".format(*served)) as client:
        for size in (0, 10, 100_000, 1_000_000):
            assert (await client.post("/b", content=b"x" * size)).json()["bytes"] == size


async def test_pipelined_requests_are_answered_in_order(served: tuple[str, int]) -> None:
    answer = await raw(served, request("/slow") + request("/two") + request("/three"))
    assert [part.split('"')[3] for part in answer.decode().split("\r\n\r\n")[1:]] == ["/slow", "/two", "/three"]


async def test_answers_without_a_body_are_sent(served: tuple[str, int]) -> None:
    head = await raw(served, b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")
    closing = await raw(served, b"HEAD /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert closing.startswith(b"HTTP/1.1 200") and closing.endswith(b"\r\n\r\n")


async def test_a_client_that_asks_before_it_sends_its_body(served: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*served)
    writer.write(b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 200")
    writer.close()


async def pieces(scope: Any, receive: Any, send: Any) -> None:
    """Answers in pieces, or in one of the ways no answer may be."""
    start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/nothing":
        return
    if scope["path"] == "/raises":
        raise ValueError("no")
    if scope["path"] == "/injected":
        start["headers"] = [(b"x", b"a\r\nset-cookie: b")]
    if scope["path"] == "/short":
        start["headers"] = [(b"content-length", b"7")]
    await send(start)
    if scope["path"] in ("/pieces", "/raises-late"):
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    if scope["path"] == "/raises-late":
        raise ValueError("no")
    await send({"type": "http.response.body", "body": b"end"})


@pytest.fixture
async def odd() -> AsyncIterator[tuple[str, int]]:
    bound = bind("127.0.0.1", 0)
    server = HttpServer(pieces, bound, grace_seconds=1, limits=EDGE)
    await server.start()
    yield bound.getsockname()
    await server.stop()


async def test_answers_in_pieces(odd: tuple[str, int]) -> None:
    async with httpx.AsyncClient(base_url="http://{}:{}".format(*odd)) as client:
        for _ in range(2):
            assert (await client.get("/pieces")).content == b"x" * 300_000 + b"end"
        whole = await client.get("/whole")
        assert (whole.content, whole.headers["content-length"]) == (b"end", "3")


async def test_faults_of_the_application_are_no_answers(odd: tuple[str, int]) -> None:
    for path in ("/nothing", "/raises", "/injected", "/short"):
        answer = await raw(odd, request(path))
        assert answer.startswith(b"HTTP/1.1 500 ") and b"set-cookie" not in answer, path
    broken = await raw(odd, request("/raises-late"))
    assert not broken.endswith(b"0\r\n\r\n")


async def test_stopping_does_not_wait_for_half_requests() -> None:
    bound = bind("127.0.0.1", 0)
    server = HttpServer(echo, bound, grace_seconds=20, limits=EDGE)
    await server.start()
    address = bound.getsockname()
    ends = [await asyncio.open_connection(*address) for _ in range(3)]
    ends[1][1].write(b"GET / HTT")
    ends[2][1].write(request() + b"POST / HTTP/1.1\r\nhost: x\r\n")
    await ends[2][0].readuntil(b"}")
    begun = asyncio.get_running_loop().time()
    await server.stop()
    assert asyncio.get_running_loop().time() - begun < 10
    for reader, writer in ends:
        assert await reader.read() == b""
        writer.close()


def test_what_happens_often_is_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    flood = Flood(logging.getLogger("flood"), "oddities", interval_seconds=0.2)
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            flood.note(f"number {number}")
        assert [record.getMessage() for record in caplog.records] == ["oddities: 1 (1 since the start), the last: number 0"]
        flood.flush()
        time.sleep(0.25)
        flood.flush()
        flood.flush()
    assert [record.getMessage() for record in caplog.records][1:] == ["oddities: 99 (100 since the start), the last: number 99"]


async def test_no_headers_that_name_the_server(served: tuple[str, int]) -> None:
    head = (await raw(served, request())).split(b"\r\n\r\n")[0].lower()
    assert b"server:" not in head
    assert b"date:" not in head
    assert b"uvicorn" not in head


async def test_a_leaving_client_reaches_the_held_request(served: tuple[str, int]) -> None:
    GONE.clear()
    _, writer = await asyncio.open_connection(*served)
    writer.write(request("/held"))
    await asyncio.sleep(0.1)
    assert not GONE.is_set()
    writer.close()
    await asyncio.wait_for(GONE.wait(), 20)


def test_bind_reports_a_taken_port_and_shares_on_request() -> None:
    first = bind("127.0.0.1", 0, share=True)
    port = first.getsockname()[1]
    assert base_url(first) == f"http://127.0.0.1:{port}"
    second = bind("127.0.0.1", port, share=True)
    second.close()
    first.listen()
    with pytest.raises(OSError):
        bind("127.0.0.1", port)
    first.close()


def test_base_url_of_every_address() -> None:
    everywhere = bind("0.0.0.0", 0)
    assert base_url(everywhere).startswith("http://127.0.0.1:")
    everywhere.close()
