"""Every default stands in `node/config` and nowhere else: a second one is sooner or later another one."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from actors.queue.query_broker import QueryRules
from actors.run.rules import Limits, RequestLimits, Rules, StructuralLimits
from api.settings import AttributionSettings, AuthSettings, RepairPolicy, Settings
from bus.connection import BusOptions
from node.config import table
from node.config.server import PROJECT_ROOT
from node.http.limits import EdgeLimits

ROOMS = ("actors", "api", "bus", "node", "store")
TOLD = (Limits, RequestLimits, StructuralLimits, Rules, QueryRules, EdgeLimits, Settings, AuthSettings, RepairPolicy)

# Smaller numbers mean too many things.
DISTINCTIVE = 20

# Defaults that have the number of a variable by chance, or as part of a message between nodes.
OTHERS = {
    ("actors/queue/poll.py", "history_page_size"): "told by the poll",
    ("actors/run/commands/worker.py", "history_page_size"): "a field of commands between nodes",
    ("actors/run/commands/worker.py", "page_size"): "a field of commands between nodes",
    ("actors/schedule/commands.py", "at_most"): "starts of one transition",
    ("bus/events.py", "duplicate_window_seconds"): "how long the stream knows an event again",
    ("bus/events.py", "queue_messages"): "messages kept while NATS is away",
    ("bus/events.py", "queue_bytes"): "the same in bytes",
    ("store/commit/group.py", "max_batch"): "writes of one statement",
    ("store/visibility/listing.py", "limit"): "a page of a list",
}


def defaults_of(room: str) -> Iterator[tuple[str, str, object]]:
    """File, name and value of each default of a parameter or a field that is written as a number."""
    for path in sorted((PROJECT_ROOT / room).rglob("*.py")):
        file = path.relative_to(PROJECT_ROOT).as_posix()
        if file.startswith("node/config/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: list[tuple[str, ast.expr | None]] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args]
                found += zip(
                    [each.arg for each in given][len(given) - len(node.args.defaults) :], node.args.defaults, strict=True
                )
                found += zip([each.arg for each in node.args.kwonlyargs], node.args.kw_defaults, strict=True)
            elif isinstance(node, ast.ClassDef):
                fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
                found += [(ast.unparse(each.target), each.value) for each in fields]
            yield from ((file, name, number(value)) for name, value in found if value is not None)


def number(value: ast.expr) -> object:
    """What an expression of constants comes to, or the default of a `field(...)`; None for anything else."""
    if isinstance(value, ast.Call):
        value = next((each.value for each in value.keywords if each.arg == "default"), value)
    if not all(
        isinstance(each, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop) for each in ast.walk(value)
    ):
        return None
    return eval(compile(ast.Expression(value), "a default", "eval"), {})


def test_no_default_of_a_variable_is_repeated() -> None:
    known: dict[object, str] = {
        row.default: row.name for row in table() if type(row.default) is int and row.default >= DISTINCTIVE
    }
    repeated = {
        (file, name): known[value]
        for room in ROOMS
        for file, name, value in defaults_of(room)
        if isinstance(value, int | float) and value in known
    }
    assert set(repeated) - set(OTHERS) == set(), repeated
    assert set(OTHERS) - set(repeated) == set(), "no longer there"


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.__name__)
def test_what_parts_are_told_has_no_default_of_its_own(told: type[Any]) -> None:
    fields = dataclasses.fields(told)
    own = [each.name for each in fields if each.default is not dataclasses.MISSING]
    own += [each.name for each in fields if each.default_factory is not dataclasses.MISSING]
    assert own == (["budget_fan_out"] if told is Rules else [])


@pytest.mark.parametrize("told", [BusOptions, AttributionSettings])
def test_absent_is_the_only_default_there(told: type[Any]) -> None:
    given = [each.default for each in dataclasses.fields(told) if each.default is not dataclasses.MISSING]
    assert set(given) <= {None}
