"""What an endpoint answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Response:
    """An answer before it has the envelope of its plane: a body of JSON values, or one JSON object already serialized."""

    status: int
    body: dict[str, Any] | bytes
    headers: Headers = ()
