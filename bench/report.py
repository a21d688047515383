"""The benchmark's report: a short table with the targets beside the numbers, and everything as JSON."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.rows import Result, Row

VERDICTS = {None: "not measured", True: "ok", False: "MISSED"}


def table(title: str, rows: Iterable[Row]) -> str:
    """One workload's rows as aligned text."""
    lines = [title]
    for row in rows:
        value = "-" if row.value is None else f"{row.value:,.2f}"
        verdict = VERDICTS[row.met] if row.target else ""
        lines.append(f"  {row.label:<34}{value:>12} {row.unit:<13}{row.target:>10}  {verdict}".rstrip())
    return "\n".join(lines)


def failures(result: Result) -> str:
    """What went wrong, as text; empty if nothing did."""
    if not result["failure_count"]:
        return ""
    return "\n".join(
        [f"  {result['failure_count']} FAILURES, the first ones:", *(f"    {text}" for text in result["failures"])]
    )


def machine(data_dir: Path) -> dict[str, Any]:
    """What the numbers were measured on; `data_dir` tells the filesystem the database lay on."""
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "database_filesystem": _filesystem(data_dir),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: Path) -> str:
    """The type of the filesystem `path` is on: a commit is only worth measuring where fsync reaches a disk."""
    best = ("", "")
    target = str(path.resolve())
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if (target == mount or target.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
