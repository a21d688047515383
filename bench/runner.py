"""Runs one workload: the load generator as a process of its own, and /proc read at the borders of its measured window."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson

from bench.options import Options
from bench.procfs import Usage, machine_cpu, usage
from bench.profiling import Profile
from bench.rows import Result

LOAD_GENERATOR = "load generator"


class LoadError(Exception):
    """The load generator ended without a result."""


class _Window:
    """CPU and memory of the groups at the window's borders."""

    def __init__(self, groups: dict[str, list[int]]) -> None:
        self._groups = groups
        self._before: dict[str, Usage] = {}
        self._after: dict[str, Usage] = {}
        self._machine = (0.0, 0.0)
        self._busy_percent = 0.0

    def open(self) -> None:
        self._before = self._read()
        self._machine = machine_cpu()

    def close(self) -> None:
        self._after = self._read()
        busy, total = machine_cpu()
        elapsed = total - self._machine[1]
        self._busy_percent = 100 * (busy - self._machine[0]) / elapsed if elapsed else 0.0

    def _read(self) -> dict[str, Usage]:
        return {name: usage(pids) for name, pids in self._groups.items()}

    def report(self, seconds: float, completed: int) -> dict[str, Any]:
        """`groups` with CPU over the window (in all, in percent of one core, per completed workflow) and memory at its end."""
        groups = {}
        for name, after in self._after.items():
            cpu = after.cpu_seconds - self._before[name].cpu_seconds
            groups[name] = {
                "cpu_seconds": round(cpu, 3),
                "core_percent": round(100 * cpu / seconds, 2),
                "cpu_ms_per_workflow": round(1000 * cpu / completed, 4) if completed else None,
                "rss_mib": round(after.rss_mib, 1),
                "pss_mib": round(after.pss_mib, 1),
                "rss_mib_at_open": round(self._before[name].rss_mib, 1),
                "processes": after.processes,
            }
        return {"groups": groups, "machine_busy_percent": round(self._busy_percent, 1)}


def run_load(workload: str, options: Options, groups: dict[str, list[int]], profile_to: Path | None = None) -> Result:
    """Run a workload against `options.urls`; `groups` maps names to root processes to measure beside the load's own.

    With `profile_to`, the first node is profiled into that file. Raises `LoadError` if the load generator broke.
    """
    load = subprocess.Popen([sys.executable, "-m", "bench.load", workload], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert load.stdin is not None and load.stdout is not None
    window = _Window(groups | {LOAD_GENERATOR: [load.pid]})
    profile: Profile | None = None
    result: Result | None = None
    try:
        load.stdin.write(msgspec.json.encode(options))
        load.stdin.close()
        for line in load.stdout:
            message = orjson.loads(line)
            if message["event"] == "open":
                window.open()
                if profile_to is not None and groups.get("nodes"):
                    profile = Profile(groups["nodes"][0], message["seconds"], profile_to)
            elif message["event"] == "close":
                window.close()
            else:
                result = message["result"]
        code = load.wait()
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
        load.stdout.close()
    if result is None:
        raise LoadError(f"the load generator ended with exit code {code} and without a result")
    if profile is not None:
        print(profile.finish(), file=sys.stderr)
        result["profile"] = profile_to.name if profile_to else None
    return result | window.report(result["window_seconds"] or 1.0, result["completed"])
