"""Directories for embedded services."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that another run of pytest does not close to the user Postgres runs as."""
    with tempfile.TemporaryDirectory(prefix="dw-test-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)
