"""A scene for every test of the SDK, on one server per module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sdk.harness import SdkHarness, scene_on
from tests.support.server import ServerProcess


@pytest.fixture
async def scene(server: ServerProcess) -> AsyncIterator[SdkHarness]:
    """A task queue of the test's own, with a client and workers."""
    async with scene_on(server) as made:
        yield made
