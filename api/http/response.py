"""What an endpoint answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Response:
    """An answer before it has the envelope of its plane: a body of JSON values, or one JSON object already serialized.

    In pieces, it is sent as they come and gets no envelope; an error between two of them ends the connection.
    """

    status: int
    body: dict[str, Any] | bytes | AsyncGenerator[bytes, None]
    headers: Headers = ()
