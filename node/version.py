"""The version of this product, also in pyproject.toml."""

from __future__ import annotations

VERSION = "0.2.0"
