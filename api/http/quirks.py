"""What single clients need beyond the contract, each with the reason."""

from __future__ import annotations

_CLOSE = ((b"connection", b"close"),)

_USER_AGENT = b"user-agent"


def extra_headers(headers: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Header fields that an answer of the control plane has for the client with these request headers."""
    # The SDK's synchronous client cannot reuse a connection (sdk-expectations 1.5).
    return _CLOSE if headers.get(_USER_AGENT, b"").startswith(b"python-httpx/") else ()
