"""Response compression: negotiation and the two encodings (configuration-and-security 9.4)."""

from __future__ import annotations

import math
import zlib
from functools import lru_cache

THRESHOLD_BYTES = 1024
_LEVEL = 6
_GZIP = 31  # window bits that make zlib write the gzip format
_RAW = -15  # raw deflate, no zlib header


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(value) else min(1.0, max(0.0, value))


@lru_cache(maxsize=256)
def negotiate(accept_encoding: bytes) -> str | None:
    """The encoding to answer with for an `Accept-Encoding` header: `gzip`, `deflate` or None (as is)."""
    qualities: dict[str, float] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if not name:
            continue
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        qualities[name] = quality
    rest = qualities.get("*", 0.0)
    gzip = qualities.get("gzip", rest)
    deflate = qualities.get("deflate", rest)
    if gzip > 0 and gzip >= deflate:
        return "gzip"
    return "deflate" if deflate > 0 else None


def compress(body: bytes, encoding: str) -> bytes:
    """`body` in `encoding`: `gzip` (gzip format) or `deflate` (raw deflate stream)."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _RAW)
    return packer.compress(body) + packer.flush()
