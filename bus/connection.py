"""The node's one NATS connection: comes and goes by itself, never blocks or raises into a hot path."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, cast

import nats.errors
from nats.js import JetStreamContext

from base.observability.actions import said
from base.service import Service
from bus.subjects import Subjects
from bus.wire import FIRST_SID, MessageHandler, WireClient

_log = logging.getLogger("dw.bus")

_MAX_UNSENT = 32 * 1024 * 1024
_HANDSHAKE_SECONDS = 5.0
_BACKOFF_SECONDS = (0.05, 1.0)
_PING_SECONDS = 0.8  # two unanswered pings end a session: a hung server is noticed within 2.4 s, before anybody's lease ends


@dataclass(slots=True, frozen=True)
class BusOptions:
    """Where NATS is and how to log in (contract configuration-and-security 6.7: DW_NATS_*).

    `servers`: URLs (`nats://`, `tls://`), tried in turn. `replicas`: of the JetStream streams (1, 3 or 5).
    """

    servers: tuple[str, ...] = field(repr=False)
    prefix: str
    replicas: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds_file: str | None = None
    ca_file: str | None = None


class Bus(Service):
    """One connection to NATS under the name of a node.

    `start()` returns at once; the connection is made, and remade for ever, in the background. Publishing while there is
    none returns False and keeps nothing. Subscriptions survive reconnects. `session` counts connections: what was sent
    in an earlier session may be lost.
    """

    def __init__(self, options: BusOptions, node_id: str) -> None:
        super().__init__()
        if options.creds_file is not None and find_spec("nkeys") is None:
            raise ValueError("a NATS credentials file needs the package nkeys")
        self.node_id = node_id
        self.options = options
        self.subjects = Subjects(options.prefix)
        self.process = secrets.token_hex(6)  # tells apart two lives of one node id
        self.session = 0
        self.last_error: str | None = None
        self._client: WireClient | None = None
        self._handlers: dict[int, MessageHandler] = {}
        self._subscribed: dict[int, str] = {}
        self._next_sid = FIRST_SID
        self._out: list[bytes] = []
        self._flush_scheduled = False
        self._up: list[Callable[[], None]] = []
        self._down: list[Callable[[], None]] = []
        self._max_payload = 1024 * 1024

    # -- life ---------------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Begin connecting in the background. Never waits for NATS and never fails because it is away."""
        self._spawn(self._supervise(), name="bus")

    async def _stop(self) -> None:
        """Send what is buffered. The session is closed then, and disconnect callbacks run."""
        self._flush()
        client = self._client
        if client is not None:
            try:
                await client.flush(1)
            except (nats.errors.Error, OSError, TimeoutError):
                pass

    @property
    def connected(self) -> bool:
        """True while a session is up, as far as known here."""
        return self._client is not None and not self._client.lost.is_set()

    @property
    def max_payload(self) -> int:
        """Largest body in bytes the server accepts (of the last session; NATS' default before the first)."""
        return self._max_payload

    @property
    def clustered(self) -> bool:
        """True unless all of JetStream is the one server this session is connected to."""
        return self._client is None or self._client.clustered

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """Wait until a session is up; False after the time."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not self.connected:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call back after every connect, subscriptions already in place; at once if a session is up."""
        self._up.append(callback)
        if self.connected:
            callback()

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call back after every loss of a session."""
        self._down.append(callback)

    # -- messages -----------------------------------------------------------------------------------------------------------

    def publish(self, subject: str, body: bytes, reply: str = "") -> bool:
        """Publish on core NATS.

        False: certainly not sent (no session, body over `max_payload`, or the server reads too slowly).
        """
        if len(body) > self._max_payload:
            return False
        head = f"PUB {subject} {reply} {len(body)}\r\n" if reply else f"PUB {subject} {len(body)}\r\n"
        return self.send_command(b"%b%b\r\n" % (head.encode(), body))

    def send_command(self, command: bytes) -> bool:
        """Queue one complete protocol command for the write of this loop iteration. False: certainly not sent."""
        client = self._client
        if client is None or client.lost.is_set():
            return False
        self._out.append(command)
        if not self._flush_scheduled:
            if client.unsent() > _MAX_UNSENT:
                self._out.pop()
                return False
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)
        return True

    def _flush(self) -> None:
        # One write for all that gathered: a system call costs more than formatting ten messages.
        self._flush_scheduled = False
        out = self._out
        if out:
            self._out = []
            if self._client is not None:
                self._client.write(out[0] if len(out) == 1 else b"".join(out))

    def subscribe(self, subject: str, handler: MessageHandler) -> int:
        """Hand every message on `subject` (wildcards allowed) to the plain function `handler`, now and after every reconnect.

        The handler runs inside the read loop: it must be short and must not raise. Returns an id for `unsubscribe`.
        """
        sid = self._next_sid
        self._next_sid += 1
        self._handlers[sid] = _guarded(handler)
        self._subscribed[sid] = subject
        self.send_command(f"SUB {subject} {sid}\r\n".encode())
        return sid

    def unsubscribe(self, sid: int) -> None:
        """End a subscription."""
        if self._handlers.pop(sid, None) is not None:
            del self._subscribed[sid]
            self.send_command(f"UNSUB {sid}\r\n".encode())

    def jetstream(self) -> JetStreamContext | None:
        """The management API over the present session (for streams and consumers, not for messages); None without one."""
        client = self._client
        return None if client is None or client.lost.is_set() else client.jetstream(timeout=3)

    # -- connection ---------------------------------------------------------------------------------------------------------

    def _login(self) -> dict[str, Any]:
        options = self.options
        login: dict[str, Any] = {"user": options.username, "password": options.password, "token": options.token}
        if options.creds_file is not None:
            login["user_credentials"] = options.creds_file
        if options.ca_file is not None:
            login["tls"] = ssl.create_default_context(cafile=options.ca_file)
        return {name: value for name, value in login.items() if value is not None}

    async def _supervise(self) -> None:
        delay = _BACKOFF_SECONDS[0]
        client: WireClient | None = None
        try:
            while not self.stopping:  # nats-py swallows cancellation here and there, the loop has to look for itself
                client = WireClient(self._handlers)
                if await self._connect(client) and not self.stopping:
                    delay = _BACKOFF_SECONDS[0]
                    await client.lost.wait()
                    self._lost_session()
                client.abort()
                await self._close(client)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _BACKOFF_SECONDS[1])
        finally:
            if client is not None:
                if self._client is client:
                    self._lost_session()
                client.abort()
                await self._close(client)

    async def _connect(self, client: WireClient) -> bool:
        async def note(error: Exception) -> None:
            self.last_error = f"{type(error).__name__}: {error}"

        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS * max(1, len(self.options.servers))):
                await client.connect(
                    servers=list(self.options.servers),
                    name=self.node_id,
                    error_cb=note,
                    # A lost session is replaced by a fresh client: nothing stale can leak into the next.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=2,
                    ping_interval=cast(Any, _PING_SECONDS),  # any number will do
                    max_outstanding_pings=2,
                    inbox_prefix=self.subjects.api_inbox,
                    **self._login(),
                )
                subscribed = dict(self._subscribed)
                client.write("".join(f"SUB {subject} {sid}\r\n" for sid, subject in subscribed.items()).encode())
                await client.flush(2)
        except Exception as error:  # whatever nats-py trips over: the next try is a fresh client
            self.last_error = f"{type(error).__name__}: {error}"
            return False
        if client.lost.is_set():
            return False
        self._max_payload = client.max_payload
        self._client = client
        self.session += 1
        self.last_error = None
        for sid, subject in self._subscribed.items():  # those made during the handshake
            if sid not in subscribed:
                self.send_command(f"SUB {subject} {sid}\r\n".encode())
        _log.info("connected to NATS", extra=said("nats.connected"))
        _call_all(self._up)
        return True

    def _lost_session(self) -> None:
        self._client = None
        self._out.clear()
        if not self.stopping:
            _log.warning("connection to NATS lost", extra=said("nats.lost"))
        _call_all(self._down)

    async def _close(self, client: WireClient) -> None:
        try:
            async with asyncio.timeout(1):
                await client.close()
        except (OSError, nats.errors.Error, TimeoutError, AssertionError, AttributeError):
            # nats-py trips over its own half-made state when the handshake did not get far; the socket is aborted already.
            pass


def _guarded(handler: MessageHandler) -> MessageHandler:
    def guarded(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        try:
            handler(subject, reply, body, headers)
        except Exception:  # one bad message must not end the read loop of the whole node
            _log.exception(
                "a message on %s could not be handled", subject[:200], extra=said("nats.message_failed", subject=subject[:200])
            )

    return guarded


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _log.exception("a connection callback failed", extra=said("nats.callback_failed"))
