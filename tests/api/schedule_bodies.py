"""Bodies of requests to schedules: good ones, and one bad value after the other for every field (control-plane 11)."""

from __future__ import annotations

import json
from typing import Any

SPEC = {"cron_expressions": ["0 3 * * *"], "timezone": "UTC"}
ACTION = {"workflow_type": "parcels.audit", "task_queue": "parcels", "input": [1]}
GOOD: dict[str, Any] = {"spec": SPEC, "action": ACTION}

_NO_OBJECT: list[Any] = [7, "x", True, [1], 1.5]
_NO_TEXT: list[Any] = [7, True, [], {}, 1.5]
_NO_COUNT: list[Any] = ["x", True, 1.5, [1], {"a": 1}, 10**30, 1e400, "1.5"]
_NO_INTERVAL: list[Any] = ["PT1H", 7, [], None, True]
_NO_POLICY: list[Any] = ["Skip", "allow", 7, True, ["skip"], {}]


def _each(field: str, key: str, values: list[Any]) -> list[tuple[dict[str, Any], str]]:
    return [({field: value}, key) for value in values]


def _spec(spec: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    return {"spec": spec}, f"spec.{key}" if key else "spec"


def _action(action: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    return {"action": {**ACTION, **action}}, f"action.{key}"


# Bad in a create and in an update: the changed fields, and the one field that is told.
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    *_each("spec", "spec", [*_NO_OBJECT, {}, [], {"cron_expressions": []}, {"intervals": None}, {"timezone": "UTC"}]),
    _spec({"cron_expressions": "0 3 * * *"}, "cron_expressions"),
    _spec({"cron_expressions": {"0": "0 3 * * *"}}, "cron_expressions"),
    _spec({"cron_expressions": ["0 3 * * *"] * 257}, "cron_expressions"),
    *(_spec({"cron_expressions": ["@daily", value]}, "cron_expressions.1") for value in (*_NO_TEXT, None)),
    *(
        _spec({"cron_expressions": [text]}, "cron_expressions.0")
        for text in (
            "",
            " ",
            "x",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "5/10 * * * *",
            "0 0 32 * *",
            "5-1 * * * *",
            "@never",
        )
    ),
    _spec({"intervals": {"every": "PT1H"}}, "intervals"),
    _spec({"intervals": "PT1H"}, "intervals"),
    _spec({"intervals": [{"every": "PT1H"}] * 257}, "intervals"),
    *(_spec({"intervals": [value]}, "intervals.0") for value in _NO_INTERVAL),
    *(
        _spec({"intervals": [{"every": value}]}, "intervals.0.every")
        for value in (None, "", " ", "x", "PT0S", "P", "-PT1H", "1h", "P" + "0" * 63 + "1D", *_NO_TEXT)
    ),
    *(
        _spec({"intervals": [{"every": "PT1H", "offset": value}]}, "intervals.0.offset")
        for value in ("x", "P", "-PT1H", *_NO_TEXT)
    ),
    _spec({"intervals": [{}]}, "intervals.0.every"),
    *(_spec({**SPEC, "timezone": value}, "timezone") for value in ("Mars/Base", "+02:00", "x" * 65, *_NO_TEXT)),
    *_each("action", "action", _NO_OBJECT),
    *(_action({"workflow_type": value}, "workflow_type") for value in ("x" * 256, "a\0", *_NO_TEXT)),
    *(_action({"task_queue": value}, "task_queue") for value in ("x" * 256, "a\0", *_NO_TEXT)),
    *(_action({"input": value}, "input") for value in (7, "x", True, 1.5)),
    _action({"input": {"codec": "json", "blob": "[]"}}, "input.codec"),
    _action({"input": {"codec": "AVRO", "blob": "[]"}}, "input.codec"),
    _action({"input": {"codec": "avro", "blob": 7}}, "input.blob"),
    _action({"input": {"codec": "avro", "external_storage": {"uri": "s3://x", "codec": "avro"}}}, "input.external_storage"),
    *(
        _action({name: value}, name)
        for name in (
            "execution_timeout_seconds",
            "run_timeout_seconds",
            "workflow_execution_timeout",
            "workflow_run_timeout",
        )
        for value in (0, -1, 10**12, *_NO_COUNT)
    ),
    *_each("overlap_policy", "overlap_policy", _NO_POLICY),
    *_each("jitter_seconds", "jitter_seconds", [-1, 3601, *_NO_COUNT]),
    *_each("max_runs", "max_runs", [0, -1, 10**9 + 1, *_NO_COUNT]),
    *_each("catchup_window_seconds", "catchup_window_seconds", [-1, 366 * 86_400 + 1, *_NO_COUNT]),
    *_each("note", "note", ["x" * 1001, "a\0", *_NO_TEXT]),
    *_each("memo", "memo", [*_NO_OBJECT, {"": 1}, {"a b": 1}, {"k" * 65: 1}, {"k": "a\0"}]),
    *_each("search_attributes", "search_attributes", [*_NO_OBJECT, {"1a": 1}, {"a-b": 1}, {"A" * 129: 1}, {"": 1}]),
    *_each("search_attributes", "search_attributes", [{"A": "x" * 2049}, {"A": {}}, {"A": [1]}, {"A": 10**20}]),
    *_each("search_attributes", "search_attributes", [{"A": ["x" * 2049]}, {"A": "a\0"}, {f"A{n}": n for n in range(101)}]),
]

# Bad in a create alone.
BAD_CREATES: list[tuple[dict[str, Any], str]] = [
    *_each("schedule_id", "schedule_id", ["x" * 129, "a b", "a/b", ".", "..", "ä", "a\0", *_NO_TEXT]),
    *_each("paused", "paused", ["x", 2, 1.5, [1], {"a": 1}]),
    *_each("spec", "spec", [None]),
    *_each("action", "action", [None]),
    *_each("action", "action.workflow_type", [{}, [], {"workflow_type": None}, {"workflow_type": " "}]),
]

BAD_BACKFILLS: list[tuple[dict[str, Any], str]] = [
    *(
        ({name: value}, name)
        for name in ("start_time", "end_time")
        for value in (
            None,
            "",
            "yesterday",
            "2026-13-01",
            "2026-05-01T25:00:00Z",
            "1969-12-31T23:59:59Z",
            "10000-01-01",
            "9" * 65,
            *_NO_TEXT,
        )
    ),
    *_each("overlap_policy", "overlap_policy", _NO_POLICY),
]
BACKFILL = {"start_time": "2026-04-29T00:00:00Z", "end_time": "2026-05-01T00:00:00Z"}
BAD_TRIGGERS = _each("overlap_policy", "overlap_policy", _NO_POLICY)
BAD_NOTES = _each("note", "note", ["x" * 1001, "a\0", *_NO_TEXT])


def written(body: dict[str, Any]) -> bytes:
    """A body as JSON text, with a number in it that no float can hold where Python has infinity."""
    return json.dumps(body).replace("Infinity", "1e400").encode()
