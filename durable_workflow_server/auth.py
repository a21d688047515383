"""The protocol of a provider of authentication and authorization (contract configuration-and-security 4).

`DW_AUTH_PROVIDER=package.module:Class` names a class that a node makes one object of at its start, without arguments. The
object is asked about every request but health and readiness, and nothing else lets a request in. Each of its two methods may be
`async def`, which must not block, or plain, which may: plain ones run in threads of their own, several at a time.

Any exception but `AuthError` is answered 500, no answer in `DW_AUTH_PROVIDER_TIMEOUT_SECONDS` 503; neither lets anybody in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

ACTION = "server.route.access"
"""The only action there is today; a provider denies those it does not know."""

__all__ = ["ACTION", "AuthError", "AuthProvider", "AuthRequest", "Headers", "Principal"]


class Headers(Mapping[str, str]):
    """The header fields of a request. Names are looked up in any case; fields that stand several times are joined with `, `."""

    __slots__ = ("_fields",)

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        """`fields`: names in lower case."""
        found: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        self._fields = found

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __repr__(self) -> str:  # values may be credentials
        return f"Headers({list(self._fields)})"


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """A request as it came: `path` undecoded, `query` with all values of each name, `body` as the bytes sent.

    `client_host`: the address of the connection's other end, None where there is none; proxy headers are not believed.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]] = field(repr=False)
    headers: Headers
    body: bytes = field(repr=False)
    client_host: str | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. Roles are trimmed, blank and repeated ones dropped; the first one is shown in a 403.

    `method`: how the caller proved it, any word. `claims` are JSON and no secrets: subject, roles, tenant and claims are kept
    in the history of the commands that the caller gives. Raises TypeError or ValueError for a value of another type.
    """

    subject: str
    roles: Sequence[str] = ()
    method: str = "none"
    tenant: str | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    legacy_full_access: bool = False

    def __post_init__(self) -> None:
        roles: Any = self.roles
        if isinstance(roles, str | bytes) or not all(isinstance(role, str) for role in roles):
            raise TypeError("roles must be a list of texts")
        object.__setattr__(self, "roles", tuple(dict.fromkeys(role.strip() for role in roles if role.strip())))
        texts = (self.subject, self.method, "" if self.tenant is None else self.tenant)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.claims, dict):
            raise TypeError("subject, method and tenant must be texts, claims a dict")
        if not self.subject.strip() or not self.method.strip():
            raise ValueError("subject and method must not be blank")


class AuthError(Exception):
    """Why a request is not decided on: `status` 401, 500 or 503, the machine's word for it, and a text the caller is shown."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.message = message

    @classmethod
    def unauthenticated(cls, message: str = "The credentials are missing or wrong.") -> AuthError:
        """401 `unauthorized`: the caller is not who it says, or says nothing."""
        return cls(401, "unauthorized", message)

    @classmethod
    def configuration(cls, message: str = "Authentication is not configured.") -> AuthError:
        """500 `server_error`: the provider can not work as it is configured."""
        return cls(500, "server_error", message)

    @classmethod
    def unavailable(cls, message: str = "Authentication is temporarily unavailable; the request can be repeated.") -> AuthError:
        """503 `service_unavailable`: what the provider needs can not be reached; clients try again."""
        return cls(503, "service_unavailable", message)


class AuthProvider(Protocol):
    """What a class named by `DW_AUTH_PROVIDER` has. Subclassing is a choice; the two methods are not."""

    def authenticate(self, request: AuthRequest) -> Principal | Awaitable[Principal | None] | None:
        """Who sent the request; None is nobody (401). Raises `AuthError`."""
        ...

    def authorize(self, principal: Principal, action: str, resource: Mapping[str, Any]) -> bool | Awaitable[bool]:
        """Whether `principal` may do `action` (`ACTION`) to `resource`; only `True` itself lets the request in.

        `resource`: route, operation, namespace and ids of the request (contract configuration-and-security 3.3); what a request
        does not have is absent. Nothing of it is known to exist.
        """
        ...
