"""The feature table of docs/features.md names tests that exist, and the README says the same of what is missing."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")


def test_every_named_test_exists() -> None:
    table = TEXT[: TEXT.index("Not there yet")]
    named = {
        name for row in table.splitlines() if row.startswith("| ") for name in re.findall(r"`([a-z]+/test_[a-z0-9_]+)`", row)
    }
    assert len(named) > 30
    assert not {name for name in named if not (ROOT / "tests" / f"{name}.py").exists()}


def test_every_row_names_a_test() -> None:
    rows = TEXT[TEXT.index("| feature |") : TEXT.index("Not there yet")].strip().splitlines()[2:]
    assert rows and all("/test_" in row for row in rows)


def test_the_readme_names_what_is_missing() -> None:
    def missing(text: str) -> str:
        return " ".join(text[text.index("Not there yet") :].split("\n\n", maxsplit=1)[0].split())

    assert missing((ROOT / "README.md").read_text(encoding="utf-8")) == missing(TEXT)
