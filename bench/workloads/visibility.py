"""Lists and searches over a million closed and ten thousand open runs with five search attributes each.

The database is filled first (`bench.filling`), which takes minutes. Then one list after the other, each kind in turn with other
values each time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bench.board import WrongAnswerError
from bench.filling import CUSTOMERS, SPREAD_MICROS, TYPES, fill
from bench.fleet import checked
from bench.http import HttpError, Pool
from bench.rows import Result, Row, at_most, plain
from bench.stage import Stage

LIST_P99_MS = 50.0
DEEP_PAGE = 1000
WALK = "Due < (reads the list down to what fits)"  # without target: no index helps
_DAY = 86_400_000_000

Filters = dict[str, str]


class _Kinds:
    """The kinds of lists by name, and the filters of the next of each."""

    def __init__(self, newest: int) -> None:
        self._newest = newest
        self._rng = random.Random(7)
        self.all: dict[str, Callable[[], Filters]] = {
            "no filter": dict,
            "workflow_type": lambda: {"workflow_type": self._type()},
            "status=running": lambda: {"status": "running"},
            "status=completed": lambda: {"status": "completed"},
            "status=failed": lambda: {"status": "failed"},
            "workflow_type, status=running": lambda: {"workflow_type": self._type(), "status": "running"},
            "WorkflowType AND Customer": lambda: _query(f'WorkflowType = "{self._type()}" AND Customer = "{self._customer()}"'),
            "Customer": lambda: _query(f'Customer = "{self._customer()}"'),
            "Region": lambda: _query(f'Region = "region-{self._rng.randrange(8)}"'),
            "Tags": lambda: _query(f'Tags = "tag-{self._rng.randrange(50)}"'),
            "Amount =": lambda: _query(f"Amount = {self._rng.randrange(10_000)}"),
            "Amount range (5 %)": lambda: _query(f"Amount BETWEEN {(low := self._rng.randrange(9_500))} AND {low + 500}"),
            WALK: lambda: _query(f'Due < "{self._moment()}"'),
            "Customer IN": lambda: _query(f'Customer IN ("{self._customer()}", "{self._customer()}")'),
            "StartTime range": lambda: _query(f"StartTime BETWEEN {self._range(_DAY)}"),
            "CloseTime range": lambda: _query(f"CloseTime BETWEEN {self._range(_DAY // 24)}"),
            "Status = cancelled": lambda: _query('Status = "cancelled"'),
            "WorkflowId STARTS_WITH": lambda: _query(f'WorkflowId STARTS_WITH "filled-{self._rng.randrange(16**5):05x}"'),
            "BusinessKey": lambda: _query(f'BusinessKey = "order-{4 * self._rng.randrange(250_000)}"'),
            "TaskQueue": lambda: _query(f'TaskQueue = "queue-{self._rng.randrange(10)}"'),
            "BuildId": lambda: _query(f'BuildId = "build-{self._rng.randrange(3)}"'),
        }

    def _type(self) -> str:
        return f"filled.type{self._rng.randrange(TYPES)}"

    def _customer(self) -> str:
        return f"cust-{self._rng.randrange(CUSTOMERS)}"

    def _moment(self, before: int = 0) -> str:
        micros = self._newest - before - self._rng.randrange(SPREAD_MICROS - before)
        return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat()

    def _range(self, width: int) -> str:
        begin = datetime.fromisoformat(self._moment(width))
        end = datetime.fromtimestamp(begin.timestamp() + width / 1_000_000, UTC)
        return f'"{begin.isoformat()}" AND "{end.isoformat()}"'


def _query(text: str) -> Filters:
    return {"query": text}


class Visibility:
    """One list at a time."""

    name = "visibility"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options, board, node = stage.options, stage.board, stage.nodes[0]
        if not options.dsn:
            raise SystemExit("visibility fills the database itself: it cannot be run against another server")
        newest = time.time_ns() // 1000
        began = board.clock()
        await fill(options.dsn, options.namespace, options.runs, newest)
        filled = board.clock() - began
        pool = Pool(node.address)
        kinds = _Kinds(newest)
        stopping = asyncio.Event()

        async def listed(kind: str, filters: Filters) -> dict[str, Any]:
            began = board.clock()
            found: dict[str, Any] = {}
            try:
                found = checked(await pool.request(node.wire.list_workflows(filters)), 200, "list")
            except (HttpError, WrongAnswerError) as error:
                board.fail(f"{kind}: {error}")
            board.note(kind, board.clock() - began)
            board.count("lists")
            return found

        async def deep() -> dict[str, Filters]:
            """The filters of page 1,000 of two lists, found page by page."""
            pages = {}
            for kind, filters in {"page 1,000": {}, "page 1,000, Region": _query('Region = "region-3"')}.items():
                page = await listed("pages before", filters)
                for _ in range(min(DEEP_PAGE - 2, options.runs // 1000)):
                    page = await listed("pages before", {**filters, "next_page_token": page.get("next_page_token") or ""})
                pages[kind] = {**filters, "next_page_token": page.get("next_page_token") or ""}
            return pages

        async def load(pages: dict[str, Filters]) -> None:
            while not stopping.is_set():
                for kind, make in kinds.all.items():
                    await listed(kind, make())
                for kind, filters in pages.items():
                    await listed(kind, filters)

        pages = await deep()
        stage.launch(load(pages))
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        pool.close()
        return {"runs": options.runs, "fill_seconds": round(filled, 1)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        times = result["times_ms"]
        return [
            plain("runs", result["runs"], ""),
            plain("filling", result["fill_seconds"], "s"),
            plain("lists", result["counts"].get("lists"), ""),
            *(at_most(f"{kind} p99", summary.get("p99"), "ms", LIST_P99_MS) for kind, summary in times.items() if kind != WALK),
            plain(f"{WALK} p99", times.get(WALK, {}).get("p99"), "ms"),
        ]
