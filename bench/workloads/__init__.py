"""The workloads by name. One small module each: how load is made, and which numbers and targets its report shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bench.rows import Result, Row
from bench.stage import Stage
from bench.workloads.child import Child
from bench.workloads.fanout import Fanout
from bench.workloads.idle import Idle
from bench.workloads.latency import Latency
from bench.workloads.longhistory import LongHistory
from bench.workloads.retention import Level, Retention
from bench.workloads.schedules import IdleSchedules, Schedules
from bench.workloads.signals import Signals
from bench.workloads.standalone import Standalone
from bench.workloads.standard import EVERY_CAP, Standard
from bench.workloads.starts import Starts
from bench.workloads.visibility import Visibility


class Workload(Protocol):
    """What the runner and the load generator need to know of a workload."""

    name: str
    nodes: int
    """Node processes it runs against."""

    async def run(self, stage: Stage) -> dict[str, Any]:
        """Make the load, with exactly one `stage.window`; returns numbers of its own to add to the result."""

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        """The report's rows; `others` are the results of the workloads run before, by name."""


_ALL: tuple[Workload, ...] = (
    Standard("standard", nodes=1),
    Standard("standard2", nodes=2),
    Standalone(),
    Standard("standard-caps", nodes=1),
    Latency(),
    Idle(),
    Fanout(),
    Signals(),
    Child(),
    LongHistory("longhistory", reads_all_pages=False),
    LongHistory("longhistory-pages", reads_all_pages=True),
    Starts("starts", attributes=False),
    Starts("starts-attributes", attributes=True),
    Schedules(),
    IdleSchedules(),
    Visibility(),
    Retention(),
    Level(),
)

# What the nodes of a workload are told beside the usual.
ENVIRONMENTS: dict[str, Mapping[str, str]] = {"standard-caps": EVERY_CAP}

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _ALL}
