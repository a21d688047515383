"""`python -m bench`: run workloads and report. Exit code 1 if any answer, result or event order was wrong, else 0.

Missed targets are shown, and with `--strict` give exit code 2.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import orjson

from bench.cluster import ClusterError, raise_file_limit, running
from bench.options import Options
from bench.report import failures, machine, table
from bench.rows import Result
from bench.runner import LoadError, run_load
from bench.workloads import ENVIRONMENTS, WORKLOADS, Workload
from node.embedded import EmbeddedError

RESULTS = Path(__file__).parent / "results"


def _arguments(given: list[str] | None) -> argparse.Namespace:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the server with verified workflows.")
    option = parser.add_argument
    option("workloads", nargs="*", metavar="WORKLOAD", help=f"any of {', '.join(WORKLOADS)} (default: all, in this order)")
    option("--json", type=Path, default=RESULTS / "latest.json", help="where the report goes (default: %(default)s)")
    option("--against", action="append", default=[], metavar="URL", help="load a running server instead; repeatable")
    option("--data-dir", type=Path, help="make the databases below this directory (default: the temporary directory)")
    option("--profile", action="store_true", help="profile the first node in the window with py-spy, if installed")
    option("--strict", action="store_true", help="exit code 2 if a target is missed or not measured")
    option("--token", default=defaults.token)
    option("--namespace", default=defaults.namespace)
    option("--duration", type=float, default=defaults.duration, help="measured seconds (default: %(default)s)")
    option("--warmup", type=float, default=defaults.warmup, help="seconds of load before (default: %(default)s)")
    option("--in-flight", type=int, default=defaults.in_flight, help="standard: open workflows (default: %(default)s)")
    option("--workers", type=int, default=defaults.workers, help="workers, a queue each (default: %(default)s)")
    option("--polls", type=int, default=defaults.polls, help="polls per worker and family (default: %(default)s)")
    option("--rate", type=float, default=defaults.rate, help="latency: starts per second (default: %(default)s)")
    option("--parked", type=int, default=defaults.parked, help="idle: polls held (default: %(default)s)")
    option("--replay", type=float, default=defaults.replay, help="fanout: replay time, x the SDK's (default: %(default)s)")
    option("--signal-rate", type=float, default=defaults.signal_rate, help="signals: per second (default: %(default)s)")
    option("--history-events", type=int, default=defaults.history_events, help="longhistory: events (default: %(default)s)")
    option("--runs", type=int, default=defaults.runs, help="visibility: runs to search (default: %(default)s)")
    option("--expired", type=int, default=defaults.expired, help="retention: runs to prune (default: %(default)s)")
    option("--schedules", type=int, default=defaults.schedules, help="schedules: due at a time (default: %(default)s)")
    option("--idle-schedules", type=int, default=defaults.idle_schedules, help="schedules-idle (default: %(default)s)")
    option("--payload-bytes", type=int, default=defaults.payload_bytes, help="text per payload (default: %(default)s)")
    option("--patience", type=float, default=defaults.patience, help="seconds a workflow may take (default: %(default)s)")
    arguments = parser.parse_args(given)
    unknown = [name for name in arguments.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}")
    positive = (
        "duration",
        "in_flight",
        "workers",
        "polls",
        "rate",
        "parked",
        "payload_bytes",
        "patience",
        "signal_rate",
        "history_events",
        "runs",
        "expired",
        "schedules",
        "idle_schedules",
    )
    for name in positive:
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    return arguments


def _options(arguments: argparse.Namespace) -> Options:
    names = {field.name for field in msgspec.structs.fields(Options)} - {"urls", "dsn"}
    return Options(urls=tuple(arguments.against), **{name: getattr(arguments, name) for name in names})


def _run(workload: Workload, options: Options, arguments: argparse.Namespace) -> Result:
    if options.urls:
        return run_load(workload.name, options, {})
    profile_to = arguments.json.parent / f"profile-{workload.name}.txt" if arguments.profile else None
    more = ENVIRONMENTS.get(workload.name)
    with running(workload.nodes, options.token, arguments.data_dir, more) as cluster:
        return run_load(
            workload.name, msgspec.structs.replace(options, urls=cluster.urls, dsn=cluster.dsn), cluster.groups, profile_to
        )


def main(given: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    arguments = _arguments(given)
    options = _options(arguments)
    raise_file_limit()
    about = machine(arguments.data_dir or Path(tempfile.gettempdir()))
    print(f"{about['cores']} cores, {about['cpu']}; database on {about['database_filesystem']}", flush=True)
    results: dict[str, Result] = {}
    reports: list[dict[str, Any]] = []
    for name in arguments.workloads or WORKLOADS:
        workload = WORKLOADS[name]
        try:
            result = _run(workload, options, arguments)
        except (ClusterError, EmbeddedError, LoadError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        rows = workload.rows(result, results)
        results[name] = result
        reports.extend({"workload": name, **row._asdict()} for row in rows)
        title = f"{name}: {result['verified_in_all']} workflows verified, window {result['window_seconds']:g} s"
        print(table(f"{title}, machine {result['machine_busy_percent']:g}% busy", rows))
        print(failures(result), end="\n" if result["failure_count"] else "", flush=True)
    document = {"machine": about, "options": msgspec.to_builtins(options), "rows": reports, "workloads": results}
    document["options"].pop("token")
    document["options"].pop("dsn")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    print(f"report: {arguments.json}")
    if any(result["failure_count"] for result in results.values()):
        return 1
    return 2 if arguments.strict and any(row["target"] and not row["met"] for row in reports) else 0


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)  # so that every child is ended
    sys.exit(main())
