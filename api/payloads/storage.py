"""The payload storage of a namespace, as its policy and the server's configuration make it (operations 8)."""

from __future__ import annotations

from actors.payload_storage.location import LOCAL, Location, Policy, Unusable, location_of
from api.settings import StorageRules
from store.objects import Objects, ObjectsUnavailable


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


def objects(place: Location, rules: StorageRules) -> Objects:
    """What stores and reads there. Raises `ObjectsUnavailable`.

    Region and endpoint are the policy's where the profile names none: a policy sends no credentials to another place.
    """
    options: dict[str, str] = {}
    if place.driver != LOCAL:
        if place.profile not in rules.profiles:
            raise ObjectsUnavailable("the server has no credentials under this name")
        named = {"region": place.region, "endpoint": place.endpoint}
        options = {name: value for name, value in named.items() if value} | dict(rules.profiles[place.profile])
    return Objects(place.driver, place.bucket, place.prefix, options)
