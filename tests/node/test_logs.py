"""Log lines for people and as JSON, and what a node that is told `DW_LOG_FORMAT=json` writes."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from base.observability.actions import said
from node import logs
from node.config import Config
from tests.conftest import MakeCluster


def line(level: int, text: str, *arguments: object, exc_info: Any = None, **extra: object) -> dict[str, Any]:
    """What a record looks like as JSON."""
    record = logging.getLogger("dw.store").makeRecord("dw.store", level, __file__, 1, text, arguments, exc_info, extra=extra)
    written = logs.JsonFormatter("node-1").format(record)
    assert "\n" not in written
    found: dict[str, Any] = json.loads(written)
    return found


def test_a_line_has_its_action_and_fields() -> None:
    found = line(logging.ERROR, "a write of run %s was refused: %s", "r-1", "no", **said("commit.refused", run_id="r-1"))
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "error",
        "logger": "dw.store",
        "message": "a write of run r-1 was refused: no",
        "node": "node-1",
        "action": "commit.refused",
        "run_id": "r-1",
    }


def test_unknown_fields_are_left_out_and_faults_are_text() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        found = line(logging.ERROR, "oh", exc_info=sys.exc_info(), **said("request.failed", request_id=None))
    assert "request_id" not in found
    assert "RuntimeError: broken" in found["exception"]


@pytest.mark.parametrize("odd", ["\ud800", 1 << 80, {1, 2}, b"x"])
def test_whatever_is_logged_is_a_line(odd: object) -> None:
    assert line(logging.INFO, "%s", odd, part=odd)["level"] == "info"


def test_the_form_is_a_variable() -> None:
    assert Config.read({}, host_name="h").server.log_format == "text"
    assert Config.read({"DW_LOG_FORMAT": "JSON"}, host_name="h").server.log_format == "json"
    assert Config.read({"DW_LOG_FORMAT": "xml"}, host_name="h").invalid == {"DW_LOG_FORMAT": "text | json"}


@pytest.mark.cluster
def test_a_node_logs_objects_when_told_to(cluster: MakeCluster) -> None:
    node = cluster(1, env={"DW_LOG_FORMAT": "json"})[0]
    node.stop()
    lines = [json.loads(text) for text in node.log_file.read_text().splitlines() if text.startswith("{")]
    actions = {each["action"] for each in lines if "action" in each}
    assert {"node.listening", "nats.connected", "node.stopped"} <= actions
    assert {each["node"] for each in lines} == {node.node_id}
