"""What an endpoint is given and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from actors.clock import Clock
from api.http.errors import ValidationFailed
from api.http.fields import Fields
from api.http.json_text import Members, Sparse
from api.http.offload import for_size

if TYPE_CHECKING:
    from actors.engine import Engine
    from actors.workers.registry import WorkerRegistry
    from api.http.namespace_cache import NamespaceCache
    from api.settings import Settings
    from store.commit.write_watch import WriteWatch
    from store.pool import Database

T = TypeVar("T")

Receive = Callable[[], Awaitable[Any]]

# A token that cannot be read counts as none, whatever it holds (control-plane 5.3).
_TOKEN = "next_page_token"

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller (configuration-and-security 2). `legacy_full_access` opens every route of both planes."""

    subject: str
    roles: tuple[str, ...]
    method: str
    legacy_full_access: bool = False
    claims: dict[str, Any] = field(default_factory=dict)


class Authenticator(Protocol):
    """Turns a request into a principal, or raises ApiError 401 or 500; `readiness` is the `auth` check of /api/ready."""

    def authenticate(self, headers: dict[bytes, bytes], body: bytes) -> Principal: ...

    def readiness(self) -> dict[str, Any]: ...


class CacheProbe(Protocol):
    """The coordination store behind the `cache` check of `/api/ready`: writes, reads back and deletes a random value."""

    async def __call__(self) -> str | None:
        """None when the round trip worked, else a text saying why not (no credentials, no addresses)."""
        ...


class Connection(Protocol):
    """The client's connection, where the HTTP server shows it (scope extension `dw.connection`)."""

    def gone(self) -> bool:
        """Whether the client has left, even if that is not known from `receive` yet."""
        ...

    def on_unread(self, call: Callable[[], None]) -> None:
        """`call` is called when the answer sent next turns out to have reached nobody."""
        ...


@dataclass(slots=True)
class Services:
    """Everything endpoints talk to. `draining` is set when the node shuts down: polls then answer empty.

    `db` reads by key and writes, `searches` reads lists, `probes` is for health and readiness (`store.pools`).
    `unfit`: why the schema of the database can not be served; every request that needs a credential is then answered 503.
    """

    settings: Settings
    db: Database
    searches: Database
    probes: Database
    engine: Engine
    auth: Authenticator
    namespaces: NamespaceCache
    workers: WorkerRegistry
    cache_probe: CacheProbe | None = None
    clock: Clock = field(default_factory=Clock)
    events_trouble: Callable[[], str | None] = lambda: None  # why the event stream stands still, if it does
    draining: bool = False
    writes: WriteWatch | None = None
    checks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    """The checks of health and readiness in flight, shared by all who ask meanwhile."""
    unfit: str | None = None


@dataclass(slots=True)
class Call:
    """One request that passed the pipeline. `namespace` is lower-cased; `path` holds percent-decoded parameters.

    `headers` are as ASGI gives them: names in lower case. `url_path` is the request's path as text. `text` is the body as
    sent, `body` what `parse_body` made of it.
    """

    services: Services
    namespace: str
    principal: Principal | None
    path: dict[str, str]
    query_string: bytes
    body: Members | Sparse
    receive: Receive
    protocol_version: str = ""
    connection: Connection | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    method: str = ""
    url_path: str = ""
    text: bytes = b""

    def fields(self) -> Fields:
        """A reader of the body's fields."""
        return Fields(self.body, source=self.text)

    async def read(self, reader: Callable[[Call], T]) -> T:
        """What `reader` makes of the request; of a long one beside the event loop."""
        return await for_size(self.text, reader, self)

    def query(self) -> dict[str, str]:
        """The query parameters, percent-decoded; the last of a repeated name wins. Raises ValidationFailed for NUL in one."""
        if not self.query_string:
            return {}
        found = dict(parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True))
        if b"%00" in self.query_string:
            faults = {
                name: [f"The {name} parameter must not contain control characters."]
                for name, value in found.items()
                if ("\x00" in name or "\x00" in value) and name != _TOKEN
            }
            if faults:
                raise ValidationFailed(faults)
        return found


@dataclass(slots=True)
class Answer:
    """What an endpoint answers: a body of JSON values, or one JSON object already serialized."""

    status: int
    body: dict[str, Any] | bytes
    headers: Headers = ()


Endpoint = Callable[[Call], Awaitable[Answer]]
