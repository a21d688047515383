"""The README's feature table names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_named_test_exists() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("## What works") : text.index("Not there yet")]
    named = {
        name for row in table.splitlines() if row.startswith("| ") for name in re.findall(r"`([a-z]+/test_[a-z0-9_]+)`", row)
    }
    assert len(named) > 30
    assert not {name for name in named if not (ROOT / "tests" / f"{name}.py").exists()}


def test_every_row_names_a_test() -> None:
    text = (ROOT / "README.md").read_text()
    rows = text[text.index("| feature |") : text.index("Not there yet")].strip().splitlines()[2:]
    assert rows and all("/test_" in row for row in rows)
