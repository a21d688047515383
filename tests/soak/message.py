"""Requests as values that can be mutated, and the bytes they are sent as."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from api.http.route import Route

CONTROL_FIELD = "X-Durable-Workflow-Control-Plane-Version"
WORKER_FIELD = "X-Durable-Workflow-Protocol-Version"


class Text(bytes):
    """JSON text, or what pretends to be, that is written as it is."""


class Members(list[tuple[Any, Any]]):
    """An object whose names may repeat."""


def written(value: Any) -> bytes:
    """A value as JSON text."""
    if isinstance(value, Text):
        return bytes(value)
    if isinstance(value, dict | Members):
        pairs = value.items() if isinstance(value, dict) else value
        return b"{%b}" % b",".join(json.dumps(name).encode() + b":" + written(item) for name, item in pairs)
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(written, value))
    return json.dumps(value).encode()


@dataclass
class Request:
    """One request. `params` are path segments as on the wire; `about` is the leased task it speaks of.

    `body`: a value, or bytes that are sent as they are, or None for no body. `expects`: whether an answer must come.
    """

    route: Route
    method: str
    params: dict[str, str]
    fields: list[tuple[str, str]]
    query: str = ""
    body: Any = None
    framing: str = "length"
    version: str = "HTTP/1.1"
    about: Any = None
    mutations: list[str] = field(default_factory=list)
    path: str | None = None

    @property
    def target(self) -> str:
        """The request target, in Latin-1 characters."""
        path = self.path
        if path is None:
            path = "/api" + self.route.template
            for name, value in self.params.items():
                path = path.replace(f"{{{name}}}", value)
        return f"{path}?{self.query}" if self.query else path

    @property
    def data(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        return self.body if type(self.body) is bytes else written(self.body)

    def head(self, *more: tuple[str, str]) -> bytes:
        """The head with `more` fields at its end."""
        lines = [f"{self.method} {self.target} {self.version}"]
        lines += [f"{name}: {value}" for name, value in [*self.fields, *more]]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"

    def plain(self) -> bytes:
        """The whole request, framed by its length."""
        if self.body is None:
            return self.head()
        return self.head(("Content-Length", str(len(self.data)))) + self.data
