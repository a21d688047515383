"""Private Postgres and NATS servers that a node or a test starts itself, with their data below one directory."""

from __future__ import annotations

from node.embedded.files import EmbeddedError
from node.embedded.nats import EmbeddedNats
from node.embedded.postgres import EmbeddedPostgres
from node.embedded.process import DataDirectoryInUse, StartFailed, free_port

__all__ = ["DataDirectoryInUse", "EmbeddedError", "EmbeddedNats", "EmbeddedPostgres", "StartFailed", "free_port"]
