"""Request fields that stand more than once: what is read as one value must be one, or two readers see two requests."""

from __future__ import annotations

from api.http.errors import ApiError

ACCEPT_ENCODING = b"accept-encoding"

SINGLETONS = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"expect",
        b"x-correlation-id",
        b"x-durable-workflow-control-plane-version",
        b"x-durable-workflow-protocol-version",
        b"x-namespace",
        b"x-request-id",
        b"x-signature",
    }
)


def fields_of(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The fields by name; of a repeated one the last, except that lists (`Accept-Encoding`) are joined."""
    fields = dict(headers)
    if len(fields) != len(headers) and ACCEPT_ENCODING in fields:
        fields[ACCEPT_ENCODING] = b", ".join(value for name, value in headers if name == ACCEPT_ENCODING)
    return fields


def check_singletons(headers: list[tuple[bytes, bytes]], own: frozenset[bytes]) -> None:
    """Raises ApiError 400 `repeated_header` for a field the server reads as one value that stands twice.

    `own` are the names the configuration gives to such fields, in lower case.
    """
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and (name in SINGLETONS or name in own):
            text = name.decode("latin-1")
            raise ApiError(400, "repeated_header", f"The header {text} stands more than once.", header=text)
        seen.add(name)
