"""The start of a run that a schedule wants: by the same rules as the start of any other (operations 1.6, control-plane 5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from actors.payload_storage.reference import faults_of
from actors.run.commands.control import StartRun
from actors.run.opaque import embed
from actors.schedule.messages import StartOccurrence
from actors.visibility.values import typed
from api.control.workflows.start import read_start
from api.http.errors import ValidationFailed
from api.http.input import json_text
from api.http.input.fields import Fields
from api.http.storage_place import usable_location

if TYPE_CHECKING:
    from api.http.services import Services


class ScheduledStarts:
    """Makes starts of what schedules want; what those rules refuse by now (a limit was lowered) is a text."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, occurrence: StartOccurrence) -> StartRun | str:
        """The start, with the ids that the schedule chose; a text for clients when there can be none."""
        services, namespace = self._services, occurrence.namespace
        if not services.namespaces.known(namespace) and not await services.namespaces.exists(namespace):
            return "The namespace does not exist."

        def reference_faults(reference: Any, codec: str) -> dict[str, str]:
            location = usable_location(services.namespaces.policy(namespace), namespace, services.settings.storage)
            return faults_of(reference, codec, location, services.clock.now())

        wanted: dict[str, Any] = {
            "workflow_id": occurrence.workflow_id,
            "workflow_type": occurrence.workflow_type,
            "duplicate_policy": occurrence.duplicate_policy,
            "task_queue": occurrence.task_queue,
            "input": occurrence.input,
            "execution_timeout_seconds": occurrence.execution_timeout_seconds,
            "run_timeout_seconds": occurrence.run_timeout_seconds,
            "memo": occurrence.memo,
            "search_attributes": occurrence.search_attributes,
        }
        text = orjson.dumps({name: value for name, value in wanted.items() if value is not None}, embed)
        try:
            fields = Fields(json_text.members(text), source=text, reference_faults=reference_faults)
            start = read_start(fields, namespace, services.settings)
        except ValidationFailed as failed:
            return str(failed.body["message"])
        if start.search_attributes:
            types = await services.attribute_types.of(namespace)
            start = msgspec.structs.replace(start, search_attributes=typed(start.search_attributes, types))
        return msgspec.structs.replace(start, run_id=occurrence.run_id)
