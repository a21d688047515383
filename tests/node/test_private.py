"""What `dev` keeps from other users of the machine, and what root leaves alone (issue: local secrets and doors)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import nats.errors
import pytest

from node.embedded import EmbeddedError, EmbeddedNats, EmbeddedPostgres, unprivileged
from node.embedded.postgres_programs import binaries
from node.embedded.unprivileged import Account
from tests.support.services import clean_environment

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="about what root does")
NOBODY = pwd.getpwnam("nobody")

pytestmark = pytest.mark.proof

# Everything is imported before root is left behind: the interpreter may stand where the other user can not go.
UNPRIVILEGED_PROGRAM = """
import encodings.idna, os, sys, sysconfig
import node.cli, node.wiring, node.server, node.bootstrap, store.migrate, store.connections.pool
import uvloop, fastavro, asyncpg, nats, getpass, httptools, asyncio.base_subprocess
import nats.js.errors, concurrent.futures.thread, multiprocessing, email.message
sysconfig.get_path("scripts")
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))
os.environ["HOME"] = "/"
sys.argv = ["dw-server", *sys.argv[3:]]
node.cli.main()
"""


async def query(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def both(directory: Path) -> Iterator[tuple[EmbeddedPostgres, EmbeddedNats]]:
    postgres, nats_server = EmbeddedPostgres(directory), EmbeddedNats(directory)
    try:
        postgres.start()
        nats_server.start()
        yield postgres, nats_server
    finally:
        nats_server.stop()
        postgres.stop(immediately=True)


# -- secrets and doors -------------------------------------------------------------------------------------------------


async def test_nats_lets_in_only_who_knows_the_password(tmp_path: Path) -> None:
    with both(tmp_path) as (_, server):
        where = server.url.partition("@")[2]
        for url in (f"nats://{where}", f"nats://node:wrong@{where}", f"nats://node:@{where}"):
            with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
                await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=0)
        client = await nats.connect((server.root / "url").read_text().strip())
        await client.close()
        kept = server.url
        server.restart()
        assert server.url == kept


def test_every_file_of_the_services_is_closed_to_others(tmp_path: Path) -> None:
    """Whoever is neither we nor the user Postgres runs as reads nothing but Postgres' settings, which hold no secret."""
    for _ in range(2):
        with both(tmp_path) as (postgres, server):
            secrets = (server.root / "password", server.config_file, server.root / "url", postgres.root / "password")
            assert [mode(file) for file in secrets] == [0o600] * 4
            assert mode(server.root) == mode(postgres.data) == mode(postgres.socket_dir) == 0o700
            readable = [file.name for file in postgres.root.iterdir() if file.is_file() and mode(file) & 0o077]
            assert readable == ["postgresql.conf"]
            for file in secrets:  # as an earlier version, or a careless hand, left them
                file.chmod(0o644)
            server.root.chmod(0o755)


@as_root
def test_other_users_can_not_connect_to_postgres(tmp_path: Path) -> None:
    with both(tmp_path) as (postgres, _):
        psql = binaries() / "psql"
        stranger = Account(4242, 4242)
        if not stranger.can(psql, "--version"):
            pytest.skip("the programs can not be reached by another user")
        where = ("-U", "workflow", "-p", str(postgres.port), "-d", "durable_workflow", "-Atc", "select 1")
        assert not stranger.can(psql, "-h", postgres.socket_dir, *where)
        assert not stranger.can(psql, "-w", "-h", "127.0.0.1", *where)
        assert Account(0, 0).can(psql, "-h", postgres.socket_dir, *where)


def test_services_know_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DW_AUTH_TOKEN", "DW_NATS_TOKEN", "PGPASSWORD", "UNHEARD_OF"):
        monkeypatch.setenv(name, "a-secret-of-ours")
    with both(tmp_path) as (postgres, server):
        for pid in (postgres.pid, server.pid):
            names = {part.split("=")[0] for part in Path(f"/proc/{pid}/environ").read_text().split("\0") if part}
            assert names <= {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "LC_ALL"} | {"PG_OOM_ADJUST_FILE", "PGDATA"}


def test_directories_that_are_not_ours_keep_their_permissions(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "project" / "data"
    data_dir.parent.mkdir(mode=0o750)
    for _ in range(2):
        with both(data_dir) as (postgres, _):
            assert asyncio.run(query(postgres.dsn, "select 1")) == 1
            home = postgres.root
        assert (mode(closed), mode(data_dir.parent)) == (0o700, 0o750)
    if ROOT:
        assert home.parent == unprivileged.SHARED
        assert (data_dir / "postgres").resolve() == home
        shutil.rmtree(home)


@as_root
def test_programs_out_of_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = binaries().parents[1]
    closed = tmp_path / "closed"
    shutil.copytree(package.parent / f"{package.name}.libs", closed / f"{package.name}.libs")
    unused = shutil.ignore_patterns("pginstall", "include", "*.a")
    shutil.copytree(package, closed / package.name, symlinks=True, ignore=unused)
    closed.chmod(0o700)
    monkeypatch.setattr(unprivileged, "SHARED", tmp_path / "shared")
    monkeypatch.setattr("node.embedded.postgres.binaries", lambda: closed / package.name / binaries().parent.name / "bin")
    for _ in range(2):
        with both(tmp_path / "data") as (postgres, _):
            assert asyncio.run(query(postgres.dsn, "select 1")) == 1
    assert mode(closed) == 0o700
    assert len(list((tmp_path / "shared").glob("programs-*"))) == 1


# -- root and the files of others --------------------------------------------------------------------------------------


class Victims:
    """Files of root that nothing may happen to, and links to them made by the user Postgres runs as."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o755)
        self._directory = directory
        self._files: list[Path] = []

    def link(self, at: Path, *, hard: bool = False) -> None:
        file = self._directory / f"victim-{len(self._files)}"
        file.write_text("4222\n")
        file.chmod(0o640)
        self._files.append(file)
        if at.is_symlink() or at.exists():
            at.unlink()
        if hard:
            at.hardlink_to(file)
        else:
            at.symlink_to(file)
            os.lchown(at, NOBODY.pw_uid, NOBODY.pw_gid)

    def check(self) -> None:
        for file in self._files:
            found = file.stat()
            assert (file.read_text(), found.st_uid, stat.S_IMODE(found.st_mode)) == ("4222\n", 0, 0o640), file


@as_root
@pytest.mark.parametrize("hard", [False, True], ids=["symbolic", "hard"])
def test_root_follows_no_link_in_a_directory_that_the_database_user_owned(tmp_path: Path, hard: bool) -> None:
    """An earlier version let the database user own all of `postgres`."""
    victims = Victims(tmp_path / "root")
    data_dir = tmp_path / "data"
    with both(data_dir) as (postgres, _):
        home = postgres.root
    for name in ("port", "lock", "password", "postgres.log", "postgresql.conf", "database"):
        victims.link(home / name, hard=hard)
    for name in ("postgresql.conf", "postmaster.pid"):
        victims.link(home / "data" / name, hard=hard)
    victims.link(home / "socket" / ".s.PGSQL.1", hard=hard)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    with both(data_dir) as (postgres, _):
        assert asyncio.run(query(postgres.tcp_dsn, "select 1")) == 1
        victims.check()
    victims.check()
    assert home.stat().st_uid == 0


@as_root
@pytest.mark.parametrize("name", ["data", "socket", "."])
def test_root_refuses_links_in_the_place_of_directories(tmp_path: Path, name: str) -> None:
    data_dir, victim = tmp_path / "data", tmp_path / "victim"
    victim.mkdir(mode=0o755)
    (victim / "postgresql.conf").write_text("mine\n")
    home = data_dir / "postgres"
    data_dir.mkdir(mode=0o755)
    if name != ".":
        home.mkdir()
    link = home / name if name != "." else home
    link.symlink_to(victim)
    os.lchown(link, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(EmbeddedError, match="is not a directory"):
        EmbeddedPostgres(data_dir).start()
    assert victim.stat().st_uid == 0
    assert [(file.name, file.read_text()) for file in victim.iterdir()] == [("postgresql.conf", "mine\n")]


@as_root
def test_root_works_in_no_directory_of_another_user(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    os.chown(foreign, NOBODY.pw_uid, NOBODY.pw_gid)
    for service in (EmbeddedPostgres(foreign), EmbeddedNats(foreign)):
        with pytest.raises(EmbeddedError, match="belongs to user nobody"):
            service.start()
    assert list(foreign.iterdir()) == []
    everybody = tmp_path / "everybody"
    everybody.mkdir()
    everybody.chmod(0o1777)
    with pytest.raises(EmbeddedError, match="written by everybody"):
        EmbeddedNats(everybody).start()


def test_a_socket_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """A long data directory puts the socket into the temporary directory, where everybody can put something first."""
    data_dir = tmp_path / ("long" * 40)
    server = EmbeddedPostgres(data_dir)
    try:
        server.start()
        first = server.socket_dir
        assert mode(first) == 0o700
        assert server.restart() == server.dsn
        assert server.socket_dir == first
        server.stop()
        first.chmod(0o777)
        server.start()
        assert server.socket_dir != first
        assert asyncio.run(query(server.dsn, "select 1")) == 1
    finally:
        server.stop()
        for left in {first, server.socket_dir}:
            shutil.rmtree(left, ignore_errors=True)


@as_root
def test_dev_runs_as_a_user_without_rights(tmp_path: Path) -> None:
    account = Account(NOBODY.pw_uid, NOBODY.pw_gid)
    if not account.can(binaries() / "postgres", "--version"):
        pytest.skip("the programs can not be reached by another user")
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    os.chown(own, account.uid, account.gid)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", UNPRIVILEGED_PROGRAM, str(account.uid), str(account.gid),
             "dev", "--port", "0", "--data-dir", str(own / "data")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(), cwd="/",
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert line.startswith("Ready: "), errors
        assert process.returncode == 0, errors
    assert {path.stat().st_uid for path in (own / "data").rglob("*")} == {account.uid}
