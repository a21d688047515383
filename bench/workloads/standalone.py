"""Throughput and cost of standalone activities, beside those of the standard workflow around the same activity."""

from __future__ import annotations

from bench.programs import AloneProgram, Program
from bench.rows import Result, Row, at_most, cpu_rows, plain, times_rows
from bench.workloads.standard import Standard

MOST_PERCENT_OF_STANDARD = 60.0


class Standalone(Standard):
    """The closed loop of the standard workflow, with the activity alone."""

    def __init__(self) -> None:
        super().__init__("standalone", nodes=1)

    def program(self, payload_bytes: int) -> Program:
        """The activity that gives its input back."""
        return AloneProgram(payload_bytes)

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        kinds = {"start_accepted": "start", "start_to_complete": "start to complete", "activity_wake": "activity task wake"}
        found = [
            plain("completed", result["completed_per_second"], "activities/s"),
            *times_rows(result, kinds),
            *cpu_rows(result),
        ]
        whole = others.get("standard", {}).get("groups", {}).get("nodes", {}).get("cpu_ms_per_workflow")
        alone = result["groups"].get("nodes", {}).get("cpu_ms_per_workflow")
        if whole and alone is not None:
            share = round(100 * alone / whole, 1)
            found.append(at_most("CPU nodes, of a standard workflow's", share, "%", MOST_PERCENT_OF_STANDARD))
        return found
