"""Create, update, pause, resume and delete of schedules (control-plane 11, operations 1.8, 1.9)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from actors.schedule.commands import CreateSchedule, DeleteSchedule, PauseSchedule, ResumeSchedule, UpdateSchedule
from actors.schedule.replies import Acted, Refused
from actors.schedule.state import SKIP, Definition
from api.control.schedules.fields import Wanted, read_note, read_schedule_id, read_wanted
from api.control.schedules.reading import named
from api.control.schedules.views import refused
from api.http.attribution import CommandContext
from api.http.request import Request
from api.http.response import Response


def _read_create(request: Request) -> tuple[str, CreateSchedule]:
    fields = request.fields()
    schedule_id = read_schedule_id(fields)
    paused = fields.boolean("paused")
    wanted = read_wanted(fields, request.services.settings, whole=True)
    context = CommandContext(request, schedule_id)
    definition = Definition(
        spec=wanted.spec or {},
        action=wanted.action or {},
        overlap_policy=wanted.overlap_policy or SKIP,
        jitter_seconds=wanted.jitter_seconds or 0,
        max_runs=wanted.max_runs,
        memo=_given(wanted.memo),
        search_attributes=_given(wanted.search_attributes),
        catchup_window_seconds=wanted.catchup_window_seconds or 0,
    )
    command = CreateSchedule(
        record_id="",
        definition=definition,
        paused=paused,
        note=wanted.note,
        attribution=context.of("schedule.create"),
        pause_attribution=context.of("schedule.pause") if paused else None,
    )
    return schedule_id, command


def _given(value: Any | UnsetType) -> Any:
    return None if value is UNSET else value


async def create(request: Request) -> Response:
    """POST /api/schedules."""
    schedule_id, command = await request.read(_read_create)
    engine, namespace = request.services.engine.schedules, request.namespace
    command = msgspec.structs.replace(command, record_id=engine.new_record_id(namespace, schedule_id))
    reply = await engine.create(namespace, schedule_id, command)
    return _answer(request, schedule_id, reply, 201, namespace=namespace)


def _read_update(request: Request) -> tuple[str, UpdateSchedule]:
    schedule_id = named(request)
    wanted: Wanted = read_wanted(request.fields(), request.services.settings, whole=False)
    command = UpdateSchedule(
        spec=wanted.spec,
        action=wanted.action,
        overlap_policy=wanted.overlap_policy,
        jitter_seconds=wanted.jitter_seconds,
        max_runs=wanted.max_runs,
        memo=wanted.memo,
        search_attributes=wanted.search_attributes,
        note=wanted.note,
        catchup_window_seconds=wanted.catchup_window_seconds,
        attribution=CommandContext(request, schedule_id).of("schedule.update"),
    )
    return schedule_id, command


async def update(request: Request) -> Response:
    """PUT /api/schedules/{schedule_id}: changes what is said, and leaves the rest."""
    schedule_id, command = await request.read(_read_update)
    reply = await request.services.engine.schedules.update(request.namespace, schedule_id, command)
    return _answer(request, schedule_id, reply)


def _read_noted(request: Request, command: str) -> tuple[str, str | None, bytes]:
    """The schedule id, the note, and who asks."""
    schedule_id, fields = named(request), request.fields()
    note = read_note(fields)
    fields.check()
    return schedule_id, note, CommandContext(request, schedule_id).of(command)


async def pause(request: Request) -> Response:
    """POST /api/schedules/{schedule_id}/pause."""
    schedule_id, note, context = await request.read(lambda asked: _read_noted(asked, "schedule.pause"))
    command = PauseSchedule(note, context)
    return _answer(request, schedule_id, await request.services.engine.schedules.pause(request.namespace, schedule_id, command))


async def resume(request: Request) -> Response:
    """POST /api/schedules/{schedule_id}/resume."""
    schedule_id, note, context = await request.read(lambda asked: _read_noted(asked, "schedule.resume"))
    command = ResumeSchedule(note, context)
    return _answer(
        request, schedule_id, await request.services.engine.schedules.resume(request.namespace, schedule_id, command)
    )


async def delete(request: Request) -> Response:
    """DELETE /api/schedules/{schedule_id}: its audit history stays."""
    schedule_id = named(request)
    command = DeleteSchedule(CommandContext(request, schedule_id).of("schedule.delete"))
    return _answer(
        request, schedule_id, await request.services.engine.schedules.delete(request.namespace, schedule_id, command)
    )


def _answer(request: Request, schedule_id: str, reply: Acted | Refused, status: int = 200, **more: Any) -> Response:
    if isinstance(reply, Refused):
        return refused(reply, request.namespace, schedule_id)
    return Response(status, {"schedule_id": schedule_id, "outcome": reply.outcome, **more})
