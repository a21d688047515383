"""Where the payloads of a namespace lie, as its policy and the server's configuration have it (operations 8)."""

from __future__ import annotations

from actors.payload_storage.location import LOCAL, Location, Policy, Unusable, location_of
from api.settings import StorageRules


def location(policy: Policy, namespace: str, rules: StorageRules) -> Location:
    """Where the payloads of a namespace lie. Raises `Unusable`."""
    found = location_of(policy, namespace, rules.root)
    if found.driver != LOCAL and found.profile not in rules.profiles:
        raise Unusable(f"the server has no credentials under the name {found.profile}")
    return found


def usable_location(policy: Policy | None, namespace: str, rules: StorageRules) -> Location | None:
    """The same, None where payloads cannot be stored outside."""
    if policy is None:
        return None
    try:
        return location(policy, namespace, rules)
    except Unusable:
        return None
