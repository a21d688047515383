"""HTTP spoken in bytes: a socket that sends what it is told, also what no library would, and reads answers one by one."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from tests.support.server import TOKEN, ServerProcess

SECONDS = 30.0
BASE = {
    "Host": "localhost",
    "Authorization": f"Bearer {TOKEN}",
    "X-Durable-Workflow-Control-Plane-Version": "2",
    "X-Durable-Workflow-Protocol-Version": "1.1",
}
JSON = {"Content-Type": "application/json"}

Fields = dict[str, str] | list[tuple[str, str]]


def head(method: str, path: str, *more: Fields, version: str = "HTTP/1.1", base: Fields = BASE) -> bytes:
    """The head of a request: `base` and `more` fields in order, none of them replaced."""
    lines = [f"{method} {path} {version}"]
    for fields in (base, *more):
        lines += [f"{name}: {value}" for name, value in (fields.items() if isinstance(fields, dict) else fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def request(method: str, path: str, body: Any = None, *more: Fields, base: Fields = BASE) -> bytes:
    """A whole request; a body that is no bytes is sent as JSON, with its length."""
    if body is None:
        return head(method, path, *more, base=base)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(method, path, JSON, {"Content-Length": str(len(data))}, *more, base=base) + data


def chunks(*pieces: bytes, trailer: bytes = b"") -> bytes:
    """A body in chunks, to the end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


def chunked_request(method: str, path: str, body: Any, *more: Fields, trailer: bytes = b"", size: int = 7) -> bytes:
    """A whole request whose body comes in chunks of `size` bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return head(method, path, JSON, {"Transfer-Encoding": "chunked"}, *more) + chunks(*pieces, trailer=trailer)


@dataclass(frozen=True)
class Answer:
    """One answer as it came. `interim` are the statuses of informational answers before it."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: tuple[int, ...] = ()

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Raw:
    """One connection to a server on this machine. Nothing is sent or read but what is asked for."""

    def __init__(self, server: ServerProcess | int, *, receive_buffer: int = 0, seconds: float = SECONDS) -> None:
        """`receive_buffer`: bytes the kernel takes in for us; `seconds`: how long anything is waited for."""
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(seconds)
        self.socket.connect(("127.0.0.1", server if isinstance(server, int) else server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes, pause: float = 0.0) -> Raw:
        """Send pieces, each in a packet of its own, with pauses in between."""
        for piece in pieces:
            self.socket.sendall(piece)
            if pause:
                time.sleep(pause)
        return self

    def send_singly(self, data: bytes) -> Raw:
        """Send every byte on its own."""
        return self.send(*(data[at : at + 1] for at in range(len(data))))

    def send_until_refused(self, piece: bytes, seconds: float) -> float:
        """Send `piece` again and again until the server breaks the connection or the time is over; how long that took."""
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < seconds:
                self.socket.sendall(piece)
        except ConnectionError:
            pass
        return time.monotonic() - begun

    def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer. Raises AssertionError when the connection ends before or within it, TimeoutError when none comes."""
        interim: list[int] = []
        while True:
            status, headers = self._answer_head()
            if status >= 200:
                break
            interim.append(status)
        if to_head or status in (204, 304):
            body = b""
        elif "content-length" in headers:
            body = self._take(int(headers["content-length"]))
        else:
            body = self._to_end()
        return Answer(status, headers, body, tuple(interim))

    def answers(self) -> list[Answer]:
        """All answers until the server ends the connection."""
        found = []
        while self._buffer or self._fill():
            found.append(self.answer())
        return found

    def ended(self) -> bool:
        """Whether the server ends the connection (or broke it) without another byte."""
        try:
            return not self._buffer and not self._fill()
        except ConnectionError:
            return True

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, and the connection is kept."""
        self.socket.settimeout(seconds)
        try:
            return not self._buffer and self._fill() and False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(SECONDS)

    def _answer_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            assert self._fill(), f"the connection ended within an answer: {self._buffer!r}"
        first, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = first.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        fields = (line.partition(":") for line in lines[1:])
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert self._fill(), "the connection ended within an answer's body"
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _to_end(self) -> bytes:
        while self._fill():
            pass
        body, self._buffer = self._buffer, b""
        return body

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)


def ask(server: ServerProcess, *data: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    with Raw(server) as raw:
        return raw.send(*data).answer()
