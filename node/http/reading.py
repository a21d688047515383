"""Bytes become requests: strictly, within bounds, and whatever a client offers besides (RFC 9112, RFC 9110)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from node.http import refusals
from node.http.exchange import Exchange
from node.http.refusals import Refusal, Refused
from node.http.watched import EXTENSION, Watched

if TYPE_CHECKING:
    from node.http.edge import Edge

HIGH_WATER_BYTES = 64 * 1024
"""A body of which the application has not taken so much is not read on."""
AHEAD_BYTES = 8 * 1024
"""How much is parsed at a time where a request may begin: what is pipelined costs memory as a request, not as bytes."""
CHUNK_BYTES = 24
"""What the framing of one chunk may cost: its size, four line ends, little else."""
CONNECTION_FIELDS = (b"connection", b"proxy-connection")

# what a connection waits for
IDLE, HEAD, BODY, ANSWER, LINGER, CLOSE = range(6)


class _Behind(Exception):
    """Stops the parser at what is sent behind the last request that is served."""


class Reading(Watched):
    """The part of a connection that parses what comes. What is done with it is up to `node.http.connection`."""

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self.edge = edge
        self.phase = -1
        self._limits = edge.limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._server: Any = None
        self._client: Any = None
        # requests that wait for their turn, and that whose body is still coming
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._last = False  # the newest request is the last of its connection
        self._held = b""  # what came behind a request that waits for its turn
        # the request being parsed
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_open = False
        self._head_bytes = 0  # of the head, in all pieces but the first
        self._fed = 0
        self._chunked = False
        self._framing_bytes = 0
        self._offered = False
        self._resumed = False

    # -- what the connection does --------------------------------------------------------------------------------------

    def regulate(self) -> None:
        """Read on, or stop reading."""
        raise NotImplementedError

    def _arm(self) -> None:
        raise NotImplementedError

    def _begin(self, scope: dict[str, Any], keep_alive: bool, expects: bool) -> None:
        """The head of a request is complete (`Exchange`)."""
        raise NotImplementedError

    def _refuse(self, refusal: Refusal) -> None:
        """Nothing of what comes is served any more."""
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    # -- parsing -------------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Read requests from `data`, but not far beyond the one being answered: the rest is held until its turn comes."""
        while data and self._parser is not None:
            if self._queue:
                self._held = data
                break
            piece = data if self._incoming is not None else data[:AHEAD_BYTES]
            data = data[len(piece) :]
            self._fed = size = len(piece)
            in_head = self._head_open
            if in_head:
                self._head_bytes += size
            elif self._chunked:
                self._framing_bytes += size
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as offer:
                data = self._resume() + piece[offer.args[0] :] + data
                continue
            except httptools.HttpParserError as error:
                self._broken(error)
                break
            if in_head and self._head_open and self._head_bytes > self._limits.target_bytes + self._limits.header_bytes:
                # a head that came in several pieces and does not end
                long_target = len(self._url) > self._limits.target_bytes
                self._spoil(refusals.TARGET_TOO_LONG if long_target else refusals.HEAD_TOO_LARGE)
            elif self._chunked:
                self._framing_bytes = max(0, self._framing_bytes)
                if self._framing_bytes > self._limits.header_bytes:
                    self._spoil(refusals.FRAMING_TOO_LARGE)
        self._arm()

    def _resume(self) -> bytes:
        """Go on behind the head of a request that offered an upgrade: the offer is ignored (RFC 9110, 7.8).

        llhttp stops there and takes what follows for another protocol, so a new parser is told how the body is framed: it is
        to be fed what is returned here, and then what follows the head.
        """
        framing = [line for line in self._headers if line[0] in (b"content-length", b"transfer-encoding")]
        if self._last:
            framing.append((b"connection", b"close"))
        self._parser = httptools.HttpRequestParser(self)
        self._offered = False
        self._resumed = True
        return b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % line for line in framing)

    def on_message_begin(self) -> None:
        # Whoever asks again has read what came before.
        self._unread = None
        self._url = b""
        self._headers = []
        self._head_open = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self._head_open:
            self._headers.append((name, value))
        elif name in CONNECTION_FIELDS:
            # Other fields behind a body are dropped; these llhttp would obey.
            raise Refused(refusals.TRAILING_CONNECTION)

    def on_headers_complete(self) -> None:
        self._head_open = False
        if self._resumed:
            self._resumed = False
            return
        if self._last or self.phase >= LINGER:
            raise _Behind
        fields = dict(self._headers)
        version = self._check_head(fields)
        parser = self._parser
        method = parser.get_method()
        if parser.should_upgrade():
            if method == b"CONNECT":
                raise Refused(refusals.NO_TUNNEL)
            self._offered = True
        keep_alive = version == "1.1" and parser.should_keep_alive()
        path, query = _split(self._url)
        self._last = not keep_alive
        self._begin(
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": version,
                "server": self._server,
                "client": self._client,
                "scheme": "http",
                "method": method.decode("ascii"),
                "root_path": "",
                "path": (unquote(path) if b"%" in path else path.decode("ascii")),
                "raw_path": path,
                "query_string": query,
                "headers": self._headers,
                "state": {},
                "extensions": {EXTENSION: self},
            },
            keep_alive,
            version == "1.1" and fields.get(b"expect", b"").lower() == b"100-continue",
        )

    def _check_head(self, fields: dict[bytes, bytes]) -> str:
        """The version of the request whose head is complete. Raises Refused for a head that is not served."""
        limits = self._limits
        if len(self._url) > limits.target_bytes:
            raise Refused(refusals.TARGET_TOO_LONG)
        if (self._head_bytes or self._fed > limits.header_bytes) and sum(
            len(name) + len(value) + 4 for name, value in self._headers
        ) > limits.header_bytes:
            raise Refused(refusals.HEAD_TOO_LARGE)
        version: str = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(refusals.UNKNOWN_VERSION)
        if b"host" not in fields:
            if version == "1.1":
                raise Refused(refusals.NO_HOST)
        elif len(fields) != len(self._headers) and [name for name, _ in self._headers].count(b"host") > 1:
            raise Refused(refusals.NO_HOST)
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if version == "1.0":
                raise Refused(refusals.CHUNKED_OLD)
            if coding.lower() != b"chunked":
                raise Refused(refusals.UNKNOWN_CODING)
            self._chunked = True
            self._framing_bytes = 0
        return version

    def on_chunk_header(self) -> None:
        self._framing_bytes -= CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        if self._chunked:
            self._framing_bytes -= len(body)
        incoming = self._incoming
        if incoming is not None:
            incoming.feed(body)
            if incoming.size > HIGH_WATER_BYTES:
                self.regulate()

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._chunked = False
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.end()
        if self.phase == LINGER:
            # everything is here, nothing is left that could make the answer get lost
            self._close()

    def _broken(self, error: httptools.HttpParserError) -> None:
        """What came is no request that could be served."""
        if self.phase >= LINGER or (self._last and self._incoming is None):
            # nothing behind the last request counts
            self._parser = None
            self.regulate()
            return
        cause = error.__context__
        if isinstance(cause, Refused):
            self._spoil(cause.refusal)
        elif isinstance(cause, ValueError) or not isinstance(error, httptools.HttpParserCallbackError):
            self._spoil(refusals.malformed(f"This is no HTTP request: {error}."))
        else:
            self.edge.note_fault(cause)
            self._refuse(refusals.FAULT)

    def _spoil(self, refusal: Refusal) -> None:
        self.edge.note_malformed(self._client, refusal.text)
        self._refuse(refusal)


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target. Raises ValueError for what is none."""
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*":
        return target, b""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserError:
        raise ValueError("the target is no path") from None
    return url.path or b"/", url.query or b""
