"""The table of log actions holds exactly what the code logs (`base.observability.actions`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from base.observability.actions import ACTIONS, FIELDS, LOGGERS, ROOMS
from base.observability.metrics import INSTRUMENTS

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "base", "api", "bus", "node", "store")
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}

BY_NAME = {action.name: action for action in ACTIONS}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every file of the server, by its path, and what it holds."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: str) -> str:
    """The logger of the innermost folder that has one."""
    return ROOMS[max((folder for folder in ROOMS if path.startswith(f"{folder}/")), key=len)]


def lines() -> Iterator[tuple[str, ast.Call]]:
    """Every call that writes a line, and where it stands."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in LEVELS:
                continue
            if ast.unparse(node.func.value) in ("log", "_log", "self._log"):
                yield path, node


def said(path: str, call: ast.Call) -> ast.Call:
    """The `said(...)` of a line."""
    given = next((word.value for word in call.keywords if word.arg == "extra"), None)
    if isinstance(given, ast.Name):  # made on a line of its own
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        made = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == given.id]
        given = max((node for node in made if node.lineno < call.lineno), key=lambda node: node.lineno).value
    assert isinstance(given, ast.Call) and ast.unparse(given.func) == "said", f"{path}:{call.lineno}: no action"
    return given


def test_each_room_has_one_logger() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger" and path != "node/logs.py":
                assert ast.literal_eval(node.args[0]) == room_of(path), path
    assert set(ROOMS.values()) == set(LOGGERS)


def test_every_line_has_an_action_of_the_table_and_every_action_is_logged() -> None:
    used = set()
    for path, call in lines():
        given = said(path, call)
        action = BY_NAME[ast.literal_eval(given.args[0])]
        assert isinstance(call.func, ast.Attribute)
        assert (action.logger, action.level) == (room_of(path), LEVELS[call.func.attr]), f"{path}:{call.lineno}"
        names = {word.arg for word in given.keywords if word.arg is not None}
        assert names <= set(action.fields), f"{path}:{call.lineno}: {names}"
        used.add(action.name)
    assert used == set(BY_NAME)
    assert len(BY_NAME) == len(ACTIONS)


def test_fields_are_explained() -> None:
    assert {field for action in ACTIONS for field in action.fields} | {"action", "node"} == set(FIELDS)


def test_instruments_have_names_of_their_own() -> None:
    assert len({instrument.name for instrument in INSTRUMENTS}) == len(INSTRUMENTS)
