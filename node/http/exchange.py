"""One request and its answer, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from base.observability.actions import said
from node.http import refusals

log = logging.getLogger("dw.http")

STATUS_LINES = {status: refusals.status_line(status) for status in range(200, 600)}
JOINED_BYTES = 64 * 1024
"""Up to this size head and body are copied into one buffer; a longer body is written behind its head."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WITHOUT_BODY = (204, 304)


class Wire(Protocol):
    """The connection that a request came on, as the request knows it."""

    write_paused: bool

    def write(self, data: bytes) -> None: ...

    async def drained(self) -> None: ...

    def regulate(self) -> None: ...

    def answered(self, exchange: Exchange, keep_alive: bool) -> None: ...

    def ended(self, task: asyncio.Task[None]) -> None: ...

    def leaves(self) -> bool: ...

    def abort(self) -> None: ...


class Exchange:
    """A request that is being received, and answered. Head and body of an answer are one write.

    `more_body`: the request has not arrived whole. `gone`: nobody is there to be answered, or the request is refused.
    """

    __slots__ = (
        "_body", "_chunked", "_connection", "_event", "_expects", "_given", "_message", "_open", "_silent", "complete",
        "gone", "keep_alive", "more_body", "scope", "size", "started", "task",
    )  # fmt: skip

    def __init__(self, connection: Wire, scope: dict[str, Any], keep_alive: bool, expects: bool) -> None:
        """`expects`: the client waits for a 100 before it sends its body."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.more_body = True
        self.size = 0  # bytes of the body the application has not taken
        self.gone = False
        self.started = False
        self.complete = False
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._expects = expects
        self._body: list[bytes] = []
        self._given = False
        self._event: asyncio.Event | None = None
        self._message: Any = None  # the start of the answer, held back until its body comes
        self._chunked = False
        self._silent = False  # an answer without a body, whatever the application sends
        self._open = 0  # bytes of the announced length that were not sent yet

    # -- from the connection -------------------------------------------------------------------------------------------

    def feed(self, body: bytes) -> None:
        """A piece of the body came. Behind an answer it is thrown away."""
        if self.complete or self.gone:
            return
        self._body.append(body)
        self.size += len(body)
        if self._event is not None:
            self._event.set()

    def end(self) -> None:
        """The body is complete."""
        self.more_body = False
        if self._event is not None:
            self._event.set()

    def leave(self) -> None:
        """There is nobody to answer."""
        self.gone = True
        if self._event is not None:
            self._event.set()

    async def run(self, app: Any) -> None:
        """Let the application answer."""
        connection = self._connection
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Exception:
            log.exception("unexpected error in the application", extra=said("http.application_failed"))
            self._fail()
        else:
            if not self.complete and not self.gone:
                log.error("the application ended without a complete answer", extra=said("http.answer_cut"))
                self._fail()
        finally:
            if self.task is not None:
                connection.ended(self.task)

    def _fail(self) -> None:
        if self.complete or self.gone:
            return
        if self.started:
            self._connection.abort()
            return
        self.complete = True
        self._connection.write(refusals.FAULT.answer)
        self._connection.answered(self, keep_alive=False)

    # -- ASGI ----------------------------------------------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """The body so far; `http.disconnect` when the client left or the answer is complete."""
        while not (self.gone or self.complete):
            if self._body or not (self.more_body or self._given):
                pieces, self._body, self.size = self._body, [], 0
                self._given = not self.more_body
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                if self.more_body:
                    self._connection.regulate()
                return {"type": "http.request", "body": body, "more_body": self.more_body}
            if self._expects:
                self._expects = False
                if self.more_body:
                    self._connection.write(CONTINUE)
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            await self._event.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Takes the messages of an answer. Raises RuntimeError for what is no answer."""
        if self.gone:
            return
        if message["type"] == "http.response.start":
            if self._message is not None:
                raise RuntimeError("the answer was started before")
            self._message = message
            return
        if self._message is None or self.complete:
            raise RuntimeError("there is no answer to be sent")
        if self.started and self._connection.write_paused:
            await self._connection.drained()
        self._send_body(message.get("body", b""), message.get("more_body", False))

    def _send_body(self, body: bytes, more: bool) -> None:
        if self.gone:
            return
        connection = self._connection
        head = b"" if self.started else self._head(len(body), more)
        if self._silent:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self._open -= len(body)
            if self._open < 0 or (self._open and not more):
                raise RuntimeError("the body has not the length that was announced")
        self.started = True
        if len(body) > JOINED_BYTES:
            connection.write(head)
            connection.write(body)
        else:
            connection.write(head + body)
        if not more:
            self.complete = True
            if self._event is not None:
                self._event.set()
            connection.answered(self, self.keep_alive)

    def _head(self, size: int, more: bool) -> bytes:
        """The head of the answer; `size` of its first piece of body, `more` pieces follow."""
        status: int = self._message["status"]
        lines = [STATUS_LINES[status]]
        length: int | None = None
        closes = False
        for name, value in self._message["headers"]:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                closes = True
        if closes or self.more_body or self._connection.leaves():
            self.keep_alive = False
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        if status in WITHOUT_BODY or self.scope["method"] == "HEAD":
            self._silent = True
        elif length is not None:
            self._open = length
        elif not more:
            self._open = size
            lines.append(b"content-length: %d\r\n" % size)
        elif self.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            raise RuntimeError("an answer in pieces needs a length")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        return head + b"\r\n"
