"""JSON that a run hands on without understanding it: kept as text, so that no depth and no number is too much for it.

In commands, states and messages a value of type `bytes` is the JSON text of a value, checked by whoever took it in.
"""

from __future__ import annotations

from typing import Any

import orjson


def embed(value: Any) -> orjson.Fragment:
    """The `default` of orjson for what may hold such text."""
    if isinstance(value, bytes):
        return orjson.Fragment(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def text_of(value: Any) -> bytes:
    """The JSON text of a value that may be text already."""
    return value if isinstance(value, bytes) else orjson.dumps(value, embed)
