"""CPU time and memory of process trees, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ProcessStat(NamedTuple):
    """One process: `cpu` is its own time plus that of children it has waited for, in seconds."""

    pid: int
    parent: int
    cpu: float


class Usage(NamedTuple):
    """A group of process trees at one moment. `pss_mib` shares shared memory out fairly; 0 where the kernel does not say."""

    cpu_seconds: float
    rss_mib: float
    pss_mib: float
    processes: int


def read_stat(pid: int) -> ProcessStat | None:
    """A process's line in /proc, or None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold blanks and parentheses
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return ProcessStat(pid, int(fields[1]), ticks / TICKS_PER_SECOND)


def all_processes() -> dict[int, ProcessStat]:
    """Every process of this machine (or container) by id."""
    found = (read_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {stat.pid: stat for stat in found if stat is not None}


def trees(roots: Iterable[int], processes: dict[int, ProcessStat]) -> set[int]:
    """The ids of the roots that live and of all processes below them."""
    members = {pid for pid in roots if pid in processes}
    frontier = set(members)
    while frontier:
        frontier = {stat.pid for stat in processes.values() if stat.parent in frontier} - members
        members |= frontier
    return members


def _memory_kib(path: str, key: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def usage(roots: Iterable[int]) -> Usage:
    """What the process trees under `roots` have used of CPU so far, and their memory now."""
    processes = all_processes()
    members = trees(roots, processes)
    return Usage(
        cpu_seconds=sum(processes[pid].cpu for pid in members),
        rss_mib=sum(_memory_kib(f"/proc/{pid}/status", "VmRSS:") for pid in members) / 1024,
        pss_mib=sum(_memory_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in members) / 1024,
        processes=len(members),
    )


def machine_cpu() -> tuple[float, float]:
    """(busy, total) CPU seconds of the whole machine since boot, over all its cores."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / TICKS_PER_SECOND, sum(fields) / TICKS_PER_SECOND
