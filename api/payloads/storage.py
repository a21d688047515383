"""The store in which a namespace's payloads lie, with the server's own credentials (operations 8)."""

from __future__ import annotations

from actors.payload_storage.location import LOCAL, Location
from api.settings import StorageRules
from store.objects import Objects, ObjectsUnavailable


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
