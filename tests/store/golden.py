"""Whole commit statements, to read and to paste into psql: `python -m tests.store.golden` writes them after a change."""

from __future__ import annotations

from pathlib import Path

from store.commit import schedule_writes
from store.commit.statement import statement

FOLDER = Path(__file__).with_name("golden")

# file -> creations, messages between runs, update requests, keys of commands, permits
VARIANTS = {
    "changes.sql": (False, False, False, False, False),
    "changes_with_all_rows.sql": (False, True, True, True, True),
    "creations.sql": (True, False, False, False, False),
    "creations_with_all_rows.sql": (True, True, True, True, True),
}


SCHEDULES = "schedules.sql"


def text(name: str) -> str:
    """What a file holds."""
    if name == SCHEDULES:
        return f"{schedule_writes.statement()};\n"
    return f"{statement(*VARIANTS[name])};\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in (*VARIANTS, SCHEDULES):
        (FOLDER / name).write_text(text(name), encoding="utf-8")
