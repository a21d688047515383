"""What a run answers that retention pruned: as a closed one does, and nothing is stored (contract operations 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from actors.run.commands.base import Command
from actors.run.commands.control import ReadForQuery
from actors.run.decide import decide
from actors.run.dialect import Dialect
from actors.run.replies import Refused, RunReply
from actors.run.rules import Rules
from actors.run.state import RunState
from actors.run.times import Micros
from actors.run.transition import Transition


class _Asked(Protocol):
    command: Command[Any]
    namespace: str | None
    message_id: str | None


class _Host(Protocol):
    @property
    def rules(self) -> Rules: ...

    @property
    def dialect(self) -> Dialect: ...

    def now(self) -> Micros: ...


def replies(state: RunState, batch: Sequence[_Asked], host: _Host) -> list[RunReply]:
    """The answers to `batch`, in order. What came as a message is refused, and so discarded."""
    tx = Transition(state, [], host.now(), host.rules, host.dialect)
    answers: list[RunReply] = []
    for asked in batch:
        if asked.message_id is not None:
            answers.append(Refused("run_not_active"))
        elif isinstance(asked.command, ReadForQuery) or asked.namespace not in (None, state.namespace):
            answers.append(Refused("task_not_found"))
        else:
            answers.append(decide(tx, asked.command))
    return answers
