"""Names that callers may not use for what is theirs."""

from __future__ import annotations

from actors.run.words import STANDALONE_TYPE
from api.http.input.fields import Fields, label


def workflow_type_in(fields: Fields, name: str = "workflow_type", *, required: bool = True) -> str:
    """The type of a workflow that is to be started, "" when it is absent or faulty; that of host runs is not for callers."""
    value = fields.text(name, required=required, blank_is_fault=not required) or ""
    if value == STANDALONE_TYPE:
        fields.fault(name, f"The {label(name)} field must not be {STANDALONE_TYPE}.")
    return value
