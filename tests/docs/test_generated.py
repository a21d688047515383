"""Pages made from tables are as `make docs` makes them."""

from __future__ import annotations

import re

import pytest

from node.config import Config, table
from node.config.audit import audit
from node.config.entry import Treatment
from tests.docs.generate import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs` and commit what it changed"


def test_every_variable_stands_in_the_page_once() -> None:
    lines = (DOCS / "configuration.md").read_text(encoding="utf-8").splitlines()
    listed = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert sorted(listed) == sorted(entry.name for entry in table())


@pytest.mark.parametrize("name", PAGES)
def test_pages_name_no_place_of_this_machine(name: str) -> None:
    assert str(DOCS.parent) not in PAGES[name]()


def test_the_example_of_an_environment_sets_nothing_and_names_what_has_an_effect() -> None:
    lines = (DOCS.parent / ".env.example").read_text(encoding="utf-8").splitlines()
    assert all(not line or line.startswith("# ") for line in lines)
    listed = [line[2:].split("=", 1) for line in lines if re.match(r"# [A-Z0-9_]+=", line)]
    rows = {entry.name: entry for entry in table() if entry.without_effect is None}
    assert sorted(name for name, _ in listed) == sorted(rows)
    assert not [name for name, value in listed if value and rows[name].kind.name == "secret"]
    # what it shows as default is the default
    filled = {name: value for name, value in listed if value and name != "DB_CONNECTION"}
    assert Config.read(filled, host_name="host") == Config.read({}, host_name="host")
    assert audit(dict.fromkeys(rows, "")).ok


def test_no_secret_has_a_default() -> None:
    assert not [
        entry.name for entry in table() if entry.kind.name == "secret" and isinstance(entry.default, str) and entry.default
    ]


def test_every_treatment_has_a_word_of_its_own_and_is_used() -> None:
    assert len({each.word for each in Treatment}) == len(Treatment)
    assert {entry.treatment for entry in table()} == set(Treatment)
    page = PAGES["configuration.md"]()
    assert all(f"- *{each.word}*: {each.meaning}" in page for each in Treatment)
