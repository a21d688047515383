"""Pages made from tables are as `make docs` makes them."""

from __future__ import annotations

import pytest

from node.config import table
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


def test_no_secret_has_a_default() -> None:
    assert not [
        entry.name for entry in table() if entry.kind.name == "secret" and isinstance(entry.default, str) and entry.default
    ]


def test_every_treatment_has_a_word_of_its_own_and_is_used() -> None:
    assert len({each.word for each in Treatment}) == len(Treatment)
    assert {entry.treatment for entry in table()} == set(Treatment)
    page = PAGES["configuration.md"]()
    assert all(f"- *{each.word}*: {each.meaning}" in page for each in Treatment)
