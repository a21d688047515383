"""Where the payloads of a namespace lie outside the database, and which URIs lie there (operations 8.1, 8.2). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

LOCAL, S3, GCS, AZURE = "local", "s3", "gcs", "azure"
DRIVERS = (LOCAL, S3, GCS, AZURE)

# The scheme that is written, then those that are read as well.
_SCHEMES = {S3: ("s3",), GCS: ("gs", "gcs"), AZURE: ("azure-blob", "azure")}

_CODEC = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SAFE = "-_.~"
_UNSAFE = frozenset({"", ".", ".."})


class Unusable(Exception):
    """A policy that payloads cannot be stored by; the text says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The storage policy of a namespace as it is stored. `config` holds names and places, never secrets."""

    driver: str
    enabled: bool
    threshold_bytes: int | None
    config: dict[str, str]

    @staticmethod
    def of(stored: Any) -> Policy | None:
        """The policy in a namespace's row, None for none."""
        if not isinstance(stored, dict):
            return None
        config = stored.get("config")
        return Policy(
            str(stored.get("driver")),
            stored.get("enabled") is not False,
            stored.get("threshold_bytes"),
            dict(config) if isinstance(config, dict) else {},
        )


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of an object store, or of the disk. `profile`: name of the credentials on the server, empty for the disk.

    `prefix` has no slash at its ends; on disk it is the absolute folder.
    """

    driver: str
    bucket: str
    prefix: str
    profile: str
    region: str | None = None
    endpoint: str | None = None

    def uri(self, key: str) -> str:
        """The URI of a key below the prefix."""
        if self.driver == LOCAL:
            return "file://" + quote(f"{self.prefix}/{key}")
        path = f"{self.prefix}/{key}" if self.prefix else key
        return f"{_SCHEMES[self.driver][0]}://{self.bucket}/{path}"

    def key_of(self, uri: str) -> str | None:
        """The key below the prefix that a URI names; None for one that lies elsewhere."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return None
        if parts.query or parts.fragment or "\\" in uri or "\x00" in uri:
            return None
        if self.driver == LOCAL:
            return self._key_on_disk(parts.scheme, parts.netloc, unquote(parts.path))
        if parts.scheme not in _SCHEMES[self.driver] or parts.netloc != self.bucket:
            return None
        return _below(parts.path.lstrip("/"), self.prefix)

    def _key_on_disk(self, scheme: str, host: str, path: str) -> str | None:
        if scheme != "file" or host not in ("", "localhost") or not path.startswith("/") or "\x00" in path:
            return None
        return _below(path[1:], self.prefix[1:])


def _below(path: str, prefix: str) -> str | None:
    """The part of a path below a prefix; None when it leads elsewhere, however it is written."""
    if prefix:
        if not path.startswith(f"{prefix}/"):
            return None
        path = path[len(prefix) + 1 :]
    decoded = unquote(path)
    return None if _UNSAFE & {*path.split("/"), *decoded.split("/")} or "\\" in decoded else path


def object_key(codec: str, sha256: str) -> str:
    """Where bytes with this digest lie below the prefix: the same bytes always in the same place."""
    return f"{quote(codec, safe=_SAFE)}/{sha256[:2]}/{sha256}"


def location_of(policy: Policy, namespace: str, root: str | None) -> Location:
    """Where a policy puts the payloads of its namespace. `root`: the server's own folder, None for none.

    Raises `Unusable`.
    """
    if not policy.enabled:
        raise Unusable("the policy is not enabled")
    config = policy.config
    if policy.driver == LOCAL:
        return Location(LOCAL, "", _folder(config, namespace, root), "")
    if policy.driver not in _SCHEMES:
        raise Unusable("there is no such driver")
    bucket = config.get("bucket") or (config.get("container") if policy.driver == AZURE else None)
    disk = config.get("disk")
    if not disk or not bucket:
        raise Unusable("config.disk and config.bucket are needed")
    if "/" in bucket:
        raise Unusable("config.bucket is no name of a bucket")
    return Location(
        policy.driver, bucket, _prefix(config.get("prefix", "")), disk, config.get("region"), config.get("endpoint")
    )


def _prefix(text: str) -> str:
    cleaned = text.strip("/")
    if not cleaned:
        return ""
    parts = cleaned.split("/")
    if _UNSAFE & set(parts):
        raise Unusable("config.prefix holds an unsafe part")
    return "/".join(quote(part, safe=_SAFE) for part in parts)


def _folder(config: dict[str, str], namespace: str, root: str | None) -> str:
    uri = config.get("uri")
    if uri is None:
        if root is None:
            raise Unusable("config.uri is needed: this server has no folder of its own for payloads")
        return f"{root.rstrip('/')}/{namespace}"
    parts = urlsplit(uri)
    path = unquote(parts.path).rstrip("/")
    folder = PurePosixPath(path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not folder.is_absolute() or ".." in folder.parts:
        raise Unusable("config.uri is no file:// path")
    if str(folder) in ("/", "//"):
        raise Unusable("config.uri is the root of the disk")
    return str(folder)


def is_codec(codec: str) -> bool:
    """Whether a codec's name can be part of a key."""
    return _CODEC.match(codec) is not None
