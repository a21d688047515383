"""Published manifests of `/api/cluster/info` (control-plane Appendix A): one JSON file each, served as they stand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parent


def manifest(name: str) -> dict[str, Any]:
    """The manifest `name` (for example `auth_composition_contract`)."""
    document: dict[str, Any] = json.loads((_DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return document


def fixture_digest(example: Any) -> str:
    """The `sha256` of a fixture's example: over its UTF-8 compact JSON, keys in the order sent (control-plane 3.4)."""
    text = json.dumps(example, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
