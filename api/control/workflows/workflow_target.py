"""What all commands and questions to a workflow id share: the name, the request's faults, a target that is not there.

The order of checks is the contract's: name, instance, run, body, admission (control-plane 5.7, 5.12).
"""

from __future__ import annotations

from typing import Any

from actors.run.replies import Refused
from actors.run.words import Reason
from api.control.workflows.lookup import named_instance
from api.http.errors import ValidationFailed, refusal
from api.http.input.fields import Fields, label
from api.http.request import Request
from api.http.response import Response

HISTORICAL: Reason = "historical_run_command_rejected"


def operation_name(request: Request, field: str) -> str:
    """The name of the signal, query or update in the URL; raises ValidationFailed on `field` when it cannot be one."""
    name = request.path[field]
    limit = request.services.settings.limits.request.max_operation_name_length
    if not name:
        raise ValidationFailed({field: [f"The {label(field)} field is required."]})
    if any(character < " " or character == "\x7f" for character in name):
        raise ValidationFailed({field: [f"The {label(field)} field must not contain control characters."]})
    if limit and len(name.encode("utf-8", "surrogatepass")) > limit:
        raise ValidationFailed({field: [f"The {label(field)} field must not be greater than {limit} bytes."]})
    return name


def run_id_of(request: Request) -> str | None:
    """The run the URL names, None on instance routes."""
    return request.path.get("run_id")


async def missing_target(request: Request, fields: Fields) -> Response | None:
    """The answer to a request with faults whose target is not there (404, 409), which comes first; None when all is well.

    Raises ValidationFailed for the faults noted in `fields` when the target is there.
    """
    if not fields.errors:
        return None
    instance = await named_instance(request)
    if instance is None:
        return target_refused(request, Refused("instance_not_found"))
    run_id = run_id_of(request)
    if run_id is not None and run_id != instance.current_run_id:
        return target_refused(request, Refused(HISTORICAL))
    raise ValidationFailed(fields.errors)


def target_refused(request: Request, refused: Refused) -> Response:
    """The answer to a command whose target is no workflow of the namespace, or not its current run."""
    named: dict[str, Any] = {"workflow_id": request.path["workflow_id"]}
    if refused.reason == "instance_not_found":
        return refusal(404, "instance_not_found", "Workflow not found.", **named)
    if refused.reason == HISTORICAL:
        text = "The run is not the current run of the workflow."
        return refusal(409, HISTORICAL, text, run_id=run_id_of(request), target_scope="run", **named)
    return refusal(409, refused.reason, f"Refused: {refused.reason}.", **{**refused.detail, **named})
