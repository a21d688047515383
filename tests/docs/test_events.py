"""The catalogue of events is what the core records in the examples of all its features, no more and no less."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

from actors.run.events.catalogue import GROUPS
from actors.run.events.catalogue import KEYS_OF as CATALOGUE
from actors.run.events.keys import KEYS
from actors.run.events.types import EventType

ROOT = Path(__file__).parents[2]


def test_the_catalogue_is_what_is_recorded(tmp_path: Path) -> None:
    found = tmp_path / "events.json"
    examples = sorted(str(path) for path in (ROOT / "tests" / "core").glob("test_examples_*.py"))
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.docs.recorder", "--recorded-events", str(found)]
    command = [sys.executable, "-m", "pytest", *options, *examples]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    recorded = {name: set(keys) for name, keys in json.loads(found.read_text(encoding="utf-8")).items()}
    missing = {name: sorted(keys - CATALOGUE.get(name, set())) for name, keys in recorded.items()}
    unknown = {name: sorted(keys - recorded.get(name, set())) for name, keys in CATALOGUE.items()}
    assert {name: keys for name, keys in missing.items() if keys} == {}, "recorded, and not in actors/run/events/catalogue.py"
    assert {name: keys for name, keys in unknown.items() if keys} == {}, (
        "in actors/run/events/catalogue.py, and recorded by no example"
    )
    assert set(recorded) == set(CATALOGUE)


def test_every_type_stands_in_the_catalogue_once() -> None:
    names = [event.name for events in GROUPS.values() for event in events]
    assert sorted(names) == sorted(get_args(EventType))


def test_every_key_has_a_meaning() -> None:
    assert set(KEYS) == {key for keys in CATALOGUE.values() for key in keys}
    assert all(KEYS.values())


def test_the_contract_names_every_event() -> None:
    text = (ROOT / "docs" / "contract" / "engine-semantics.md").read_text(encoding="utf-8")
    assert not [name for name in CATALOGUE if name not in text]
