"""`python -m tests.soak` (`make soak`): mutated requests over all routes against a running node.

Exit code 1 when an answer was not documented, memory grew, the log holds an error, or health was out of all bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.procfs import read_stat
from tests.soak.mutations import LIMIT_BYTES
from tests.soak.soak import Report, Soak
from tests.soak.valid import TOKENS
from tests.soak.watch import Memory, Prober, bad_lines, percentile, rss_mib, warnings
from tests.support.server import ServerProcess
from tests.support.services import TestServices

ENVIRONMENT = {
    "DW_AUTH_TOKEN": "soak-legacy",
    **{f"DW_{role.upper()}_TOKEN": token for role, token in TOKENS.items()},
    "DW_MAX_PAYLOAD_BYTES": str(LIMIT_BYTES),
    "DW_WORKER_POLL_TIMEOUT": "1",
    "DW_HTTP_BODY_SECONDS": "5",
    "DW_HTTP_HEAD_SECONDS": "5",
    "DW_HTTP_LINGER_SECONDS": "2",
    "DW_WORKFLOW_TASK_TIMEOUT": "10",
    "DW_ACTIVITY_TASK_TIMEOUT": "10",
}
GROWTH_MIB = 40.0
TARGET_MS = 25.0
HEALTH_MS = 250.0
"""What is asserted of health's p99, times the load of each core: the target counts on a quiet machine only."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    option = parser.add_argument
    option("--requests", type=int, default=120_000, help="mutated requests (default: %(default)s)")
    option("--seed", type=int, default=int(time.time()) % 1_000_000, help="of all that is random (default: the time)")
    option("--rate", type=float, default=400.0, help="requests a second at most, valid ones included (default: %(default)s)")
    option("--clients", type=int, default=64, help="connections (default: %(default)s)")
    option("--log", type=Path, help="directory for the node's log and the faults (default: a temporary one)")
    return parser.parse_args(given)


def soak(given: argparse.Namespace) -> list[str]:
    """Run, print what was measured, and return what is wrong with it."""
    print(f"seed {given.seed}, {given.requests} mutated requests", flush=True)
    log_dir = given.log or Path(tempfile.mkdtemp(prefix="dw-soak-"))
    log_dir.mkdir(parents=True, exist_ok=True)
    services = TestServices()
    try:
        services.start()
        server = ServerProcess(services.deployment(), log_dir, env=ENVIRONMENT)
        server.token = TOKENS["admin"]
        try:
            wrong = _against(server.start(), given)
        finally:
            code = server.stop()
    finally:
        services.stop()
    if code:
        wrong.append(f"the node ended with {code}")
    log = server.log_file.read_text()
    for text, count in warnings(log).most_common(12):
        print(f"  warning {count} x {text}")
    if bad := bad_lines(log):
        wrong.append(f"{len(bad)} bad lines in {server.log_file}, first: {bad[:3]}")
    return wrong


def _against(server: ServerProcess, given: argparse.Namespace) -> list[str]:
    before, begun, cpu = rss_mib(server.pid), time.monotonic(), read_stat(server.pid)
    prober = Prober(server.port)
    try:
        report, memory = asyncio.run(_load(server, given))
    finally:
        health = prober.stop()
    took = time.monotonic() - begun
    ended = read_stat(server.pid)
    warm, end = memory.around(0.3, 0.37), memory.around(0.93, 1.0)
    _show(report, took)
    if cpu is not None and ended is not None:
        print(f"  node CPU {ended.cpu - cpu.cpu:.0f} s ({(ended.cpu - cpu.cpu) / took:.0%})")
    p50, p99 = percentile(health, 0.5), percentile(health, 0.99)
    print(f"  health: {len(health)} asked, p50 {p50:.1f} ms, p99 {p99:.1f} ms (target {TARGET_MS}), max {health[-1]:.1f} ms")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(f"  load average {load:.1f} for each core")
    print(f"  memory: {before:.0f} MiB at the start, {warm:.0f} after a third, {end:.0f} at the end")
    deciles = [f"{memory.around(part / 10 - 0.05, part / 10 + 0.05):.0f}" for part in range(11)]
    print(f"  memory by tenths of the work: {' '.join(deciles)} MiB")
    wrong = [f"{report.fault_count} answers are not documented"] if report.fault_count else []
    if report.faults:
        told = server.log_file.parent / "faults.txt"
        told.write_text("\n\n".join(report.faults))
        wrong += [f"see {told}", *report.faults[:5]]
    if p99 > HEALTH_MS * max(1.0, load):
        wrong.append(f"health p99 is {p99:.0f} ms")
    if end - warm > GROWTH_MIB:
        wrong.append(f"memory grew by {end - warm:.0f} MiB after the first third")
    if missing := {kind for kind in ("workflow", "activity") if not report.leased.get(kind)}:
        wrong.append(f"no task was leased of {sorted(missing)}")
    return wrong


async def _load(server: ServerProcess, given: argparse.Namespace) -> tuple[Report, Memory]:
    soaking = Soak(server.port, given.seed, given.requests, given.rate, given.clients)
    memory, done = Memory(server.pid), asyncio.Event()
    watching = asyncio.create_task(memory.watch(done, soaking.progress))
    try:
        return await soaking.run(), memory
    finally:
        done.set()
        await watching


def _show(report: Report, took: float) -> None:
    total = report.mutated + report.valid
    print(f"  {report.mutated} mutated and {report.valid} valid requests in {took:.0f} s ({total / took:.0f}/s)")
    print(f"  answers to mutated: {dict(sorted(report.statuses.items()))}")
    print(f"  answers to valid:   {dict(sorted(report.valid_statuses.items()))}")
    print(f"  5xx: {dict(report.reasons_5xx)}, leases: {report.leased}, faults: {report.fault_count}")
    print(f"  routes: {len(report.routes)} asked, never accepted: {sorted(report.routes.keys() - report.accepted.keys())}")


def main() -> int:
    """The command."""
    wrong = soak(arguments())
    for text in wrong:
        print(f"WRONG: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
