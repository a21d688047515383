"""Imports point downwards only (docs/architecture.md, "Layers")."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "api", "base", "bench", "bus", "durable_workflow_server", "node", "store", "tests")

# What a package may import of the project besides itself.
MAY_IMPORT = {
    "base": frozenset[str](),
    "durable_workflow_server": frozenset[str](),
    "store": frozenset({"base"}),
    "bus": frozenset({"base"}),
    "actors": frozenset({"base", "bus", "store"}),
    "api": frozenset({"actors", "base", "durable_workflow_server", "store"}),
    "node": frozenset({"actors", "api", "base", "bus", "store"}),
    "bench": frozenset({"node"}),
    "tests": frozenset(PACKAGES),
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module of the project that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in PACKAGES)


def modules(package: str) -> list[Path]:
    """The files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def offences(package: str, allowed: frozenset[str]) -> list[str]:
    """Imports of `package` that begin with neither it nor one of `allowed`."""
    prefix = package.replace("/", ".")
    names = [prefix, *allowed]
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(package)
        for line, name in imports(path)
        if not any(name == each or name.startswith(f"{each}.") for each in names)
    ]


def test_no_package_imports_one_above_it() -> None:
    assert not [each for package, allowed in MAY_IMPORT.items() for each in offences(package, allowed)]


def test_the_core_imports_only_itself() -> None:
    assert not offences("actors/run", frozenset())


def test_rules_of_schedules_know_only_the_ground_of_the_core() -> None:
    """Ids, times as text and JSON that is handed on; nothing of a run."""
    assert not offences("actors/schedule", frozenset({"actors.run.ids", "actors.run.opaque", "actors.run.times"}))


def test_dialects_and_queues_do_no_hosting() -> None:
    """Dialects know the core alone; what of a queue is pure is held by the core's rule for its own files."""
    assert not offences("actors/dialects", frozenset({"actors.run"}))


def test_the_http_plane_knows_no_endpoint() -> None:
    """Planes stand on it; of `api` it knows itself and the settings."""
    below = frozenset({"actors", "base", "durable_workflow_server", "store", "api.settings"})
    assert not offences("api/http", below)
    assert not offences("api/payloads", below | {"api.http"})


def test_planes_know_only_those_beneath_them() -> None:
    """Control reads what workers send as workers' commands are read; the system's pages show what both have."""
    below = frozenset({"actors", "base", "store", "api.settings", "api.http", "api.payloads"})
    assert not offences("api/worker", below)
    assert not offences("api/control", below | {"api.worker"})
    assert not offences("api/system", below | {"api.worker", "api.control"})


# Each folder of actors with those beneath it.
ROOMS = {
    "actors/run": frozenset[str](),
    "actors/dialects": frozenset({"actors.run"}),
    "actors/queue": frozenset({"actors.run"}),
    "actors/schedule": frozenset({"actors.run"}),
    "actors/visibility": frozenset({"actors.run"}),
    "actors/workers": frozenset({"actors.dialects", "actors.queue", "actors.run"}),
    "actors/publishing": frozenset({"actors.run", "actors.schedule"}),
    "actors/hosting": frozenset({"actors.publishing", "actors.queue", "actors.run", "actors.schedule"}),
    "actors/cluster": frozenset({"actors.hosting", "actors.queue", "actors.run", "actors.schedule"}),
    "actors/polling": frozenset({"actors.cluster", "actors.hosting", "actors.queue", "actors.run"}),
}


def test_rooms_of_the_actors_know_only_those_beneath_them() -> None:
    below = frozenset({"actors.clock", "actors.errors", "actors.periodic", "base", "bus", "store"})
    assert not [each for room, rooms in ROOMS.items() for each in offences(room, rooms | below)]


# What is banned in the core, but for these: an id made at the edge, times written as text, and the calendar.
EXCEPTIONS = {
    ("ids.py", "secrets"),
    ("times.py", "time"),
    ("updates.py", "datetime"),
    ("cron.py", "datetime"),
    ("zones.py", "datetime"),
}


def test_the_core_does_no_input_or_output() -> None:
    """No clock, no chance, no waiting: time and ids are handed in."""
    banned = {"asyncio", "datetime", "os", "random", "secrets", "socket", "threading", "time", "uuid"}
    found = []
    for path in [*modules("actors/run"), *modules("actors/dialects"), *modules("actors/schedule")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: await")
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            used = {name.split(".")[0] for name in names} & banned
            found += [f"{path.relative_to(ROOT)}: {name}" for name in used if (path.name, name) not in EXCEPTIONS]
    assert not found


def test_statements_of_the_database_stand_in_the_store() -> None:
    """Outside store/ nobody imports the driver."""
    found = [
        str(path.relative_to(ROOT))
        for package in ("actors", "api", "bus")
        for path in modules(package)
        if "asyncpg" in path.read_text(encoding="utf-8")
    ]
    assert not found


NOT_OF_IDS = {"tests/api/test_payloads.py", "tests/api/test_workflow_routes.py"}  # frames of Avro; an id made wrong
SLICE_OF_AN_ID = re.compile(r"\[(?:0?:10|10:|10:12|12:25|10:25|25:|:25)\]")


def test_only_the_module_of_ids_cuts_ids() -> None:
    """`ids.key_in`, `shard_of_id`, `kind_of`, `minted_at` know where the parts stand."""
    cutting = {
        str(path.relative_to(ROOT))
        for package in ("actors", "api", "bus", "node", "store", "tests")
        for path in modules(package)
        for line in path.read_text(encoding="utf-8").splitlines()
        if SLICE_OF_AN_ID.search(line) and "hexdigest()" not in line
    }
    assert cutting <= {"actors/run/ids.py", *NOT_OF_IDS}


def test_tests_import_helpers_and_not_tests() -> None:
    """What several test modules need has a module of its own, in the folder or in tests/support."""
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(?:from|import) tests\.[\w.]*\btest_", line)
    ]
    assert not found
