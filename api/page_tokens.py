"""Page tokens: base64 of a decimal number (control-plane 5.3, 6.1; worker-protocol 4.6)."""

from __future__ import annotations

import base64
import binascii


def encode(number: int) -> str:
    """The token of a position."""
    return base64.b64encode(str(number).encode()).decode()


def decode(token: str) -> int | None:
    """The position in a token, None when it is not readable."""
    try:
        digits = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return int(digits) if digits.isdigit() and len(digits) <= 18 else None
