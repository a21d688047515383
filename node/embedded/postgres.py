"""A private Postgres 18 below one data directory.

The socket needs no password but can only be opened by the user that runs the server (and root); 127.0.0.1 asks for the password
that was drawn at the first start. Postgres refuses to run as root: started by root it runs as an unprivileged user
(`node.embedded.unprivileged`), who owns `data` and `socket`; all else here is ours, and we touch nothing inside these two.

A first start makes the data beside its place and moves it there when it is complete; the file `database` says that sessions
were let in. A start after a kill at any moment goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from base.observability.actions import said
from node.embedded import files
from node.embedded.postgres_programs import SETTINGS, binaries
from node.embedded.process import (
    DirectoryLock,
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
from node.embedded.ready import accepts_sessions
from node.embedded.unprivileged import Account, account_for, home_for, programs_for

log = logging.getLogger("dw.embedded")

DATABASE = "durable_workflow"
USER = "workflow"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
MAX_SOCKET_PATH_BYTES = 100


class EmbeddedPostgres:
    """One Postgres server on `data_dir`/postgres, kept between starts. All calls block."""

    name = "Postgres"

    def __init__(self, data_dir: Path | str, port: int = 0) -> None:
        """`port` 0 = a free one, kept over restarts."""
        self._data_dir = Path(data_dir).expanduser().absolute()
        self.port = port
        self._wanted_port = port
        self._programs = binaries()
        self._account = Account(os.geteuid(), os.getegid())
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_at_exit = False
        self._place(self._data_dir / "postgres")

    def _place(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.log_file = root / "postgres.log"
        self._settings_file = root / "postgresql.conf"
        self._complete_file = root / "database"
        self._password_file = root / "password"
        self._lock = DirectoryLock(root / "lock")
        self._cluster_name = "dw-" + hashlib.sha256(str(self.data).encode()).hexdigest()[:10]
        self.socket_dir = root / "socket"

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
        """Run the server and return its `dsn`; does nothing when it runs. Raises `DataDirectoryInUse`, `EmbeddedError`."""
        if self.pid is not None:
            return self.dsn
        self._process = None
        files.data_directory(self._data_dir)
        home = home_for(self._data_dir / "postgres")
        if home != self.root:
            self._place(home)
        self._lock.acquire()
        try:
            self._account = account_for(self.data)
            self._programs = programs_for(self._account, binaries())
            self._end_leftovers()
            self._remove_unfinished()
            self._choose_socket()
            try:
                self._run()
            except StartFailed as error:
                if self._complete_file.exists() or not self.data.exists():
                    raise
                # its first start was torn off by an earlier version: nobody was ever let in
                aside = self.root / f"unfinished-{secrets.token_hex(4)}"
                log.warning(
                    "the first start of Postgres did not end: begun anew, the rest is kept in %s (%s)",
                    aside,
                    error,
                    extra=said("postgres.begun_anew"),
                )
                self._end()
                self.data.rename(aside)
                self._run()
        except BaseException:
            self.stop()
            raise
        if not self._ended_at_exit:
            at_exit(self.stop)
            self._ended_at_exit = True
        return self.dsn

    def stop(self, *, immediately: bool = False) -> None:
        """End all sessions, write a checkpoint and stop; harder after 20 s. The data stays.

        `immediately`: without the checkpoint, the next start recovers from the log.
        """
        self._end(immediately=immediately)
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
        self._client("createdb", *(("--template", template) if template else ()), name)
        return self.dsn_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, ending its sessions."""
        self._client("dropdb", "--force", "--if-exists", name)

    # -- steps of start

    def _run(self) -> None:
        if not self.data.exists():
            self._initialise()
        # what is there belongs to its owner; a link or a file in its place is refused
        files.claim(self.data, 0o700, (self._account.uid, self._account.gid))
        self.port = remembered_port(self.root / "port", self._wanted_port or self.port)
        settings = SETTINGS.format(port=self.port, socket_dir=self.socket_dir, cluster_name=self._cluster_name)
        files.write(self._settings_file, settings, 0o644)
        self._launch()
        if not self._complete_file.exists() or not self._password():
            self._complete()

    def _choose_socket(self) -> None:
        """A directory for the socket: here, or in the temporary directory (its name is kept) when the path is too long."""
        here = self.root / "socket"
        if len(os.fsencode(here / ".s.PGSQL.65535.lock")) <= MAX_SOCKET_PATH_BYTES:
            self.socket_dir = here
            files.claim(here, 0o700, (self._account.uid, self._account.gid))
            return
        kept = (files.read(self.root / "socket-directory") or "").strip()
        if not kept or not _is_private(Path(kept), self._account.uid):
            kept = tempfile.mkdtemp(prefix=f"{self._cluster_name}-")
            files.claim(Path(kept), 0o700, (self._account.uid, self._account.gid))
            files.write(self.root / "socket-directory", kept + "\n")
        self.socket_dir = Path(kept)

    def _end_leftovers(self) -> None:
        """Stop a server of an earlier owner of this directory that was killed. We hold the lock: nobody needs it any more."""
        title = f"postgres: {self._cluster_name}: "

        def ours(argv: list[str]) -> bool:
            return argv[0].startswith(title) or (Path(argv[0]).name == "postgres" and str(self.data) in argv)

        def left() -> list[int]:
            return pids_where(ours, self._account.uid)

        for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            # only the postmaster takes these as a request to stop; orphaned children end by themselves
            postmasters = pids_where(lambda argv: ours(argv) and not argv[0].startswith(title), self._account.uid)
            signal_all(left() if number == signal.SIGKILL else postmasters, number)
            if wait_until(lambda: not left(), seconds if postmasters or number == signal.SIGQUIT else 2.0):
                return
        raise StartFailed(f"an earlier Postgres on {self.data} does not end")

    def _wait_for_children(self) -> None:
        title = f"postgres: {self._cluster_name}: "
        wait_until(lambda: not pids_where(lambda argv: argv[0].startswith(title), self._account.uid), 5.0)

    def _remove_unfinished(self) -> None:
        """Remove what an initialisation that was killed left behind."""
        for left in self.root.glob("new-*"):
            # the directory itself stands in ours, so its owner can only empty it; what was not handed over yet is empty
            self._account.can("/bin/rm", "-rf", "--", left)
            try:
                left.rmdir()
            except OSError as error:
                if left.exists():
                    log.info("%s is left for the next start: %s", left, error.strerror, extra=said("postgres.left_behind"))

    def _initialise(self) -> None:
        new = self.root / f"new-{secrets.token_hex(4)}"  # nothing that an orphan of a killed start could still write to
        files.claim(new, 0o700, (self._account.uid, self._account.gid))
        self._account.run(
            self._programs / "initdb", "--pgdata", new, "--username", USER,
            "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip
        for of_earlier_data in (self._complete_file, self._password_file):
            of_earlier_data.unlink(missing_ok=True)
        files.sync(self.root)
        new.rename(self.data)
        files.sync(self.root)

    def _complete(self) -> None:
        names = self._client("psql", "-d", "postgres", "-Atqc", "select datname from pg_database").split()
        if DATABASE not in names:
            self._client("createdb", DATABASE)
        if not self._password():
            password = secrets.token_urlsafe(24)
            self._client("psql", "-d", "postgres", "-qf", "-", text=f"alter role {USER} password '{password}'")
            files.write(self._password_file, password + "\n")
        files.write(self._complete_file, f"{DATABASE}\n")

    def _password(self) -> str:
        return (files.read(self._password_file) or "").strip()

    def _client(self, program: str, *arguments: str, text: str = "") -> str:
        """Run one of the client programs against this server."""
        where = ("-h", str(self.socket_dir), "-p", str(self.port), "-U", USER)
        return self._account.run(self._programs / program, *where, *arguments, text=text)

    def _launch(self) -> None:
        # names a killed server left; its process id may belong to another program by now
        stale = 'rm -f -- "$1"/postmaster.pid "$2"/.s.PGSQL.*'
        self._account.run("/bin/sh", "-c", stale, "sh", self.data, self.socket_dir)
        account = self._account
        with files.append(self.log_file) as output:
            process = self._process = spawn(
                [self._programs / "postgres", "-D", self.data, "-c", f"config_file={self._settings_file}"],
                death_signal=signal.SIGINT,
                output=output,
                user=None if account.is_us else account.uid,
                group=None if account.is_us else account.gid,
                cwd=Path("/"),
            )
        deadline = time.monotonic() + START_SECONDS
        pause = 0.01
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartFailed(f"Postgres on {self.data} did not start:\n{tail(self.log_file)}")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.3)  # each refusal is a line in its log

    def _is_ready(self) -> bool:
        return accepts_sessions(self.socket_dir / f".s.PGSQL.{self.port}", USER)

    def _end(self, *, immediately: bool = False) -> None:
        if self._process is not None:
            hard = (signal.SIGQUIT, 5.0)
            end(self._process, (hard,) if immediately else ((signal.SIGINT, STOP_SECONDS), hard))
            self._process = None
            self._wait_for_children()


def _is_private(directory: Path, uid: int) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and stat.S_IMODE(found.st_mode) == 0o700
