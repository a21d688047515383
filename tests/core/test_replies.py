"""Each command says what it is answered with; its handler answers that, or refuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from actors.run.commands import RunCommand
from actors.run.commands.base import Command
from actors.run.decide import HANDLERS
from actors.run.replies import Refused, Reply, RunReply


def members(kind: Any) -> set[type]:
    """What a type may be: itself, or the members of a union."""
    return set(get_args(kind)) or {kind}


def answers(command: type[Command[Any]]) -> set[type]:
    """The replies a command names."""
    [of] = [base for base in command.__orig_bases__ if get_args(base)]  # type: ignore[attr-defined]
    return members(get_args(of)[0])


def handlers(command: type[Command[Any]]) -> Iterator[Any]:
    """The functions that decide a command, one or one per kind of task."""
    handler = HANDLERS[command]
    parts: list[Any] = [each for each in inspect.getclosurevars(handler).nonlocals.values() if inspect.isfunction(each)]
    yield from parts or [handler]


@pytest.mark.parametrize("command", get_args(RunCommand))
def test_a_command_is_answered_as_it_says(command: type[Command[Any]]) -> None:
    found = set().union(*[members(get_type_hints(handler)["return"]) for handler in handlers(command)])
    assert found - {Refused} == answers(command)


def test_every_command_has_a_handler_and_every_reply_a_command() -> None:
    assert set(HANDLERS) == set(get_args(RunCommand))
    named = set().union(*map(answers, HANDLERS))
    assert named | {Refused} == set(get_args(RunReply)) and all(issubclass(kind, Reply) for kind in named)
