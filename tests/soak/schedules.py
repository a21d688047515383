"""Valid bodies of requests to schedules."""

from __future__ import annotations

import random
from typing import Any

SCHEDULES = [f"schedule-{number}" for number in range(6)]
_POLICIES = ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


def body(template: str, queue: str, arguments: Any, rng: random.Random) -> dict[str, Any]:
    """The body for a route of schedules; `arguments`: of the runs to start."""
    last = template.rpartition("/")[2]
    policy = {"overlap_policy": rng.choice(_POLICIES)}
    if last == "backfill":
        return {
            "start_time": "2026-05-01T00:00:00Z",
            "end_time": f"2026-05-01T0{rng.randint(1, 9)}:00:00Z",
            **_some(policy, rng),
        }
    if last == "trigger":
        return _some(policy, rng)
    if last in ("pause", "resume"):
        return _some({"note": "n"}, rng)
    wanted = {
        "spec": {
            "cron_expressions": [rng.choice(["0 3 * * *", "*/30 9-17 * * MON-FRI", "@hourly", "0 0 L * ?"])],
            "intervals": [{"every": rng.choice(["PT1H", "P1D", "PT10S"]), "offset": "PT5M"}],
            "timezone": rng.choice(["UTC", "Europe/Berlin"]),
            "calendars": [{"hour": 1}],
        },
        # Nobody ends most of the runs: they end by themselves.
        "action": {"workflow_type": "job", "task_queue": queue, "input": arguments, "run_timeout_seconds": 5},
    }
    optional: dict[str, Any] = {
        **policy,
        "jitter_seconds": 3,
        "max_runs": 50,
        "catchup_window_seconds": 60,
        "note": "n",
        "memo": {"a": [1]},
        "search_attributes": {"customer": "c1", "total": 3},
    }
    if template == "/schedules":
        return {"schedule_id": rng.choice(SCHEDULES), "paused": rng.random() < 0.2, **wanted, **_some(optional, rng)}
    return _some({**wanted, **optional}, rng)


def _some(optional: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    return {name: optional[name] for name in rng.sample(sorted(optional), rng.randint(0, min(4, len(optional))))}
