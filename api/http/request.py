"""One request, from its head to what an endpoint reads of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from actors.payload_storage.reference import faults_of
from api.http.errors import ValidationFailed
from api.http.input.fields import Fields
from api.http.input.json_text import Members, Sparse
from api.http.input.offload import for_size
from api.http.input.singletons import fields_of
from api.http.response import Response
from api.http.storage_place import usable_location

if TYPE_CHECKING:
    from api.http.services import Services
    from durable_workflow_server.auth import Principal

T = TypeVar("T")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]

# A token that cannot be read counts as none, whatever it holds (control-plane 5.3).
_TOKEN = "next_page_token"

_LONGEST_ID = 255  # characters kept of a request id


class Connection(Protocol):
    """The client's connection, where the HTTP server shows it (scope extension `dw.connection`)."""

    def gone(self) -> bool:
        """Whether the client has left, even if that is not known from `receive` yet."""
        ...

    def on_unread(self, call: Callable[[], None]) -> None:
        """`call` is called when the answer sent next turns out to have reached nobody."""
        ...


@dataclass(slots=True, init=False, eq=False)
class Request:
    """One request. The first fields are those of its head, as the ASGI scope has them; the pipeline fills in the others
    stage by stage, and an endpoint finds all of them set.
    """

    services: Services
    method: str
    url_path: str
    """The path of the URL as text, undecoded."""
    http_version: str
    query_string: bytes
    sent: list[tuple[bytes, bytes]]
    """The header fields in the order sent, names in lower case."""
    headers: dict[bytes, bytes]
    """The same by name (`api.http.input.singletons.fields_of`)."""
    receive: Receive
    connection: Connection | None
    client: tuple[str, int] | None
    """Address and port of the connection's other end."""

    path: dict[str, str]
    """The parameters of the route, percent-decoded once a method was found for the path."""
    text: bytes
    """The body as sent, empty when the method has none."""
    body: Members | Sparse
    """What `parse_body` made of it."""
    principal: Principal | None
    """Who calls, None on a public route."""
    protocol_version: str
    """The accepted version of the plane's header, empty on a route without."""
    namespace: str
    """Lower-cased; it exists, unless the route asks for none."""
    compressible: bool
    """Whether the answer may be compressed: not before the body was accepted."""

    def __init__(self, services: Services, scope: Scope, receive: Receive) -> None:
        self.services = services
        self.method = scope["method"]
        self.url_path = scope["path"]
        self.http_version = scope["http_version"]
        self.query_string = scope["query_string"]
        self.sent = scope["headers"]
        self.headers = fields_of(self.sent)
        self.receive = receive
        self.connection = scope.get("extensions", {}).get("dw.connection")
        self.client = scope.get("client")
        self.path = scope.get("path_params", {})
        self.text = b""
        self.body = {}
        self.principal = None
        self.protocol_version = ""
        self.namespace = ""
        self.compressible = False

    @property
    def request_id(self) -> str | None:
        """What the client calls this request (`X-Request-Id`); it is recorded with commands and logged, not echoed."""
        value = self.headers.get(b"x-request-id", b"").decode("latin-1").strip()
        return value[:_LONGEST_ID] or None

    def fields(self) -> Fields:
        """A reader of the body's fields."""
        return Fields(self.body, source=self.text, reference_faults=self._reference_faults)

    def _reference_faults(self, reference: Any, codec: str) -> dict[str, str]:
        """What is wrong with a reference to a payload outside, where the namespace keeps them now."""
        services = self.services
        location = usable_location(services.namespaces.policy(self.namespace), self.namespace, services.settings.storage)
        return faults_of(reference, codec, location, services.clock.now())

    async def read(self, reader: Callable[[Request], T]) -> T:
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


Endpoint = Callable[[Request], Awaitable[Response]]
