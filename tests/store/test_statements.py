"""Statements are put together from parts: whole ones are kept to be read, and no part is left over or unfilled."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

import store
from store.columns import Json, JsonText, Table, columns_of
from store.commit import given
from store.commit.statement import statement
from store.commit.writes import PermitRow, ReadyTaskRow, RunIdentity, RunRow
from store.sql import filled, parts
from tests.store.build import RunFixture, ready_task
from tests.store.golden import FOLDER, SCHEDULES, VARIANTS, text

FILES = sorted(path for path in Path(store.__file__).parent.rglob("*.sql") if path.parent.name != "migrations")
SWITCHES = list(itertools.product((False, True), repeat=5))


@pytest.mark.parametrize("name", [*VARIANTS, SCHEDULES])
def test_whole_statements_are_kept_to_be_read(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == text(name), "run `python -m tests.store.golden`, read what it changed"


@pytest.mark.parametrize("switches", SWITCHES)
def test_every_variant_is_filled_and_numbers_its_arrays_through(switches: tuple[bool, bool, bool, bool, bool]) -> None:
    sql = statement(*switches)
    assert not re.search(r"[{}]", sql)
    numbers = list(dict.fromkeys(int(number) for number in re.findall(r"\$(\d+)::", sql)))
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_what_a_row_is_given_agrees_with_its_columns() -> None:
    run = RunFixture(workflow_id="w", key="k" * 15).stored(3, 5)
    names = [column.name for column in given.CHANGE.columns]
    row = dict(zip(names, given.CHANGE.row(7, run.change()), strict=True))
    assert (row["i"], row["run_id"], row["version"], row["status"]) == (7, run.run_id, 3, "waiting")
    assert (row["first_sequence"], row["last_sequence"], row["search_attributes"]) == (6, 6, None)
    names = [column.name for column in given.CREATE.columns]
    row = dict(zip(names, given.CREATE.row(1, given.SUCCESSOR, run.create()), strict=True))
    assert (row["i"], row["kind"], row["run_key"], row["workflow_id"]) == (1, 2, run.key, "w")
    assert row["search_attributes"] == '{"Region":"north"}'
    names = [column.name for column in given.READY.columns]
    task = ready_task("t", priority=9)
    row = dict(zip(names, given.READY.row(4, task), strict=True))
    assert row == {"i": 4, **dataclasses.asdict(task)}


@pytest.mark.parametrize("row", [RunRow, RunIdentity, ReadyTaskRow, PermitRow])
def test_each_column_of_a_row_is_stored(row: type) -> None:
    whole = text("creations_with_all_rows.sql")
    table = {ReadyTaskRow: "ready_tasks", PermitRow: "admission_permits"}.get(row, "runs")
    inserted = re.search(rf"INSERT INTO {table} \(([^)]*)\)", whole)
    assert inserted and {column.name for column in columns_of(row)} <= set(re.split(r",\s*", inserted[1]))


def test_a_table_reads_what_it_writes() -> None:
    @dataclasses.dataclass
    class Thing:
        name: str
        facts: Json | None
        raw: JsonText | None

    things = Table(Thing)
    assert [column.kind for column in things.columns] == ["text", "json", "json text"]
    for thing in (Thing("a", {"b": [1]}, b'{"c": 1e400}'), Thing("a", None, None)):
        assert things.read(things.arguments(thing)) == thing
    assert things.arguments(Thing("a", {"b": 1}, b"{ }")) == ("a", '{"b":1}', "{ }")
    assert (things.names, things.parameters) == ("name, facts, raw", "$1, $2, $3")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_part_of_a_file_is_named_described_and_used(path: Path) -> None:
    raw = path.read_text(encoding="utf-8")
    assert raw.count("-- name: ") == len(parts(path)) > 0
    assert not re.search(r"-- name: \w+\n(?!--)", raw), "a part without a description"
    module = "".join(each.read_text(encoding="utf-8") for each in path.parent.glob("*.py"))
    assert [name for name in parts(path) if f'"{name}"' not in module] == []


def test_a_word_without_a_value_is_an_error() -> None:
    assert filled("SELECT {x}", x="1") == "SELECT 1"
    with pytest.raises(KeyError):
        filled("SELECT {x}")
