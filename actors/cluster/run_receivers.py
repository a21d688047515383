"""Who applies messages to runs."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from actors.run.commands.base import Command
from actors.run.ids import RunKey
from actors.run.replies import Refused

_R = TypeVar("_R")


class Receivers(Protocol):
    """The runs hosted here (`actors.hosting.host`)."""

    def ask_run(
        self, run_key: RunKey, command: Command[_R], namespace: str | None = None, message_id: str | None = None
    ) -> asyncio.Future[_R | Refused]: ...
