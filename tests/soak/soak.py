"""The soak: clients that send mutated requests, and what became of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from api.routes import ROUTES
from tests.soak.judging import Fault, judge
from tests.soak.message import Request
from tests.soak.mutations import mutate
from tests.soak.state import WORKERS, SoakState
from tests.soak.valid import queue_of, weights
from tests.soak.valid import request as valid
from tests.soak.wire import Answer, Broken, Line

VALID_SHARE = 0.3
MOST_FAULTS = 200

_REGISTER = next(route for route in ROUTES if route.template == "/worker/register")
_READS = [route for route in ROUTES if route.method == "GET" and "{run_id}" in route.template]


@dataclass
class Report:
    """What happened. `faults` are told with the request as it was sent."""

    mutated: int = 0
    valid: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    valid_statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    reasons_5xx: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0
    leased: dict[str, int] = field(default_factory=dict)


class Soak:
    """`count` mutated requests, and valid ones between them, at `rate` a second; the same `seed` makes the same requests."""

    def __init__(self, port: int, seed: int, count: int, rate: float, clients: int) -> None:
        self.report = Report()
        self.world = SoakState()
        self.progress = [0.0]
        self._port = port
        self._seed = seed
        self._count = count
        self._rate = rate
        self._clients = clients
        self._begun = 0.0
        self._sent = 0

    async def run(self) -> Report:
        """Send everything; at the end every run that is still known must be there to be read."""
        await self._register()
        self._begun = time.monotonic()
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))
        self.report.leased = self.world.leased
        await self._read_runs()
        return self.report

    async def _register(self) -> None:
        line, rng = Line(self._port, random.Random(self._seed)), random.Random(self._seed)
        for worker in WORKERS:
            request = valid(_REGISTER, self.world, rng)
            request.body = {"worker_id": worker, "task_queue": queue_of(worker), "runtime": "external"}
            await self._ask(line, request)
        line.close()

    async def _read_runs(self) -> None:
        line, rng = Line(self._port, random.Random(self._seed)), random.Random(self._seed)
        for workflow_id, run_id in list(self.world.runs)[1:]:
            for route in _READS:
                request = valid(route, self.world, rng)
                request.params = {"workflow_id": workflow_id, "run_id": run_id}
                request.query = ""
                await self._ask(line, request, {200})
        line.close()

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        line = Line(self._port, rng)
        routes = weights()
        try:
            while self.report.mutated < self._count:
                await self._pace()
                route = rng.choices(ROUTES, routes)[0]
                request = valid(route, self.world, rng)
                if rng.random() < VALID_SHARE:
                    self.report.valid += 1
                else:
                    self.report.mutated += 1
                    self.progress[0] = self.report.mutated / self._count
                    mutate(request, rng)
                await self._ask(line, request)
        finally:
            line.close()

    async def _pace(self) -> None:
        due = self._begun + self._sent / self._rate
        self._sent += 1
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _ask(self, line: Line, request: Request, wanted: set[int] | None = None) -> None:
        report = self.report
        report.routes[f"{request.route.method} {request.route.template}"] += 1
        try:
            answers = await line.exchange(request)
        except (Broken, OSError) as error:
            line.close()
            self._fault(request, str(error), None)
            return
        for answer in answers:
            kinds = report.statuses if request.mutations else report.valid_statuses
            kinds[answer.status] += 1
            if answer.status < 300:
                report.accepted[f"{request.route.method} {request.route.template}"] += 1
            try:
                body = judge(request, answer)
                if wanted is not None and answer.status not in wanted:
                    raise Fault(f"status {answer.status}, not {wanted}")
                if answer.status >= 500:
                    report.reasons_5xx[f"{answer.status} {(body or {}).get('reason', answer.body[:120])!s}"] += 1
                self.world.learn(request.about, answer.status, request.route.template, body)
            except Fault as fault:
                self._fault(request, str(fault), answer)

    def _fault(self, request: Request, text: str, answer: Answer | None) -> None:
        report = self.report
        report.fault_count += 1
        if len(report.faults) < MOST_FAULTS:
            told = f"{text}\n  mutations: {request.mutations} framing: {request.framing}"
            told += f"\n  sent: {request.head()[:1500]!r} + {request.data[:1500]!r}"
            if answer is not None:
                told += f"\n  answer: {answer.status} {answer.headers} {answer.body[:600]!r}"
            report.faults.append(told)
