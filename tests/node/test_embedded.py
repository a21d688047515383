"""The embedded services: kept data, restarts and crashes on the same address, no orphans, one owner per directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest

from node.embedded import DataDirectoryInUse, EmbeddedNats, EmbeddedPostgres, StartFailed, free_port
from node.embedded.process import pids_where
from tests.support.services import clean_environment

OWNER_PROGRAM = """
import sys, threading, time
from node.embedded import EmbeddedNats, EmbeddedPostgres
postgres, nats = EmbeddedPostgres(sys.argv[1]), EmbeddedNats(sys.argv[1])
if sys.argv[2] == "thread":
    starter = threading.Thread(target=lambda: (postgres.start(), nats.start()))
    starter.start()
    starter.join()
else:
    postgres.start(), nats.start()
print(postgres.pid, nats.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dw-test-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def nats_server(directory: Path) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(directory)
    server.start()
    yield server
    server.stop()


async def query(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_answers_on_socket_and_on_loopback_with_password(postgres: EmbeddedPostgres) -> None:
    assert str(await query(postgres.dsn, "show server_version")).startswith("18.")
    assert await query(postgres.tcp_dsn, "select current_database()") == "durable_workflow"
    without_password = f"postgresql://workflow:wrong@127.0.0.1:{postgres.port}/durable_workflow"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(without_password, "select 1")


async def test_postgres_settings(postgres: EmbeddedPostgres) -> None:
    for name, value in {
        "synchronous_commit": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "jit": "off",
        "max_connections": "100",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "data_checksums": "on",
    }.items():
        assert await query(postgres.dsn, f"show {name}") == value, name


def test_postgres_files_are_private(postgres: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(postgres.data.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE((postgres.root / "password").stat().st_mode) == 0o600


@pytest.mark.parametrize("way", ["restart", "stop and start", "kill and start"])
async def test_postgres_keeps_address_and_data(postgres: EmbeddedPostgres, way: str) -> None:
    dsn = postgres.dsn
    await query(dsn, "create table if not exists kept (way text)")
    await query(dsn, f"insert into kept values ('{way}')")
    before = postgres.pid
    if way == "restart":
        postgres.restart()
    elif way == "stop and start":
        postgres.stop()
        assert postgres.pid is None
        with pytest.raises(OSError):
            await query(dsn, "select 1")
        postgres.start()
    else:
        postgres.kill()
        postgres.start()
    assert postgres.pid != before
    assert postgres.dsn == dsn
    assert await query(dsn, f"select count(*) from kept where way = '{way}'") == 1


async def test_postgres_restart_takes_about_a_second_with_open_sessions(postgres: EmbeddedPostgres) -> None:
    sessions = [await asyncpg.connect(postgres.dsn) for _ in range(5)]
    begun = time.monotonic()
    await asyncio.to_thread(postgres.restart)
    assert time.monotonic() - begun < 30
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await sessions[0].fetchval("select 1")
    for session in sessions:
        session.terminate()


async def test_postgres_databases(postgres: EmbeddedPostgres) -> None:
    first = postgres.create_database("first")
    await query(first, "create table t as select 7 as x")
    second = postgres.create_database("second", "first")
    assert await query(second, "select x from t") == 7
    postgres.drop_database("first")
    postgres.drop_database("second")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await query(second, "select 1")


def test_stale_process_id_file_of_a_live_foreign_process(postgres: EmbeddedPostgres) -> None:
    """After a crash of the machine the recorded process id may be anybody's."""
    postgres.stop()
    file = postgres.data / "postmaster.pid"
    file.write_text(f"{os.getpid()}\n{postgres.data}\n0\n{postgres.port}\n{postgres.socket_dir}\n127.0.0.1\n0 0\nready   \n")
    postgres.start()
    assert postgres.pid is not None
    assert file.read_text().splitlines()[0] == str(postgres.pid)


async def test_nats_keeps_address_and_streams(nats_server: EmbeddedNats) -> None:
    url = nats_server.url
    client = await nats.connect(url)
    assert client.max_payload == 8 * 1024 * 1024
    await client.jetstream().add_stream(name="kept", subjects=["kept.>"])
    await client.jetstream().publish("kept.a", b"x" * 100_000)
    await client.close()
    for crash in (False, True):
        (nats_server.kill if crash else nats_server.stop)()
        nats_server.start()
        assert nats_server.url == url
        client = await nats.connect(url)
        assert (await client.jetstream().stream_info("kept")).state.messages == 1
        await client.close()
    nats_server.stop()
    nats_server.wipe()
    nats_server.start()
    client = await nats.connect(url)
    assert await client.jetstream().streams_info() == []
    await client.close()


def test_second_owner_of_a_directory_is_refused(postgres: EmbeddedPostgres, nats_server: EmbeddedNats, directory: Path) -> None:
    for second in (EmbeddedPostgres(directory), EmbeddedNats(directory)):
        with pytest.raises(DataDirectoryInUse, match=str(os.getpid())):
            second.start()
    assert postgres.pid is not None
    assert nats_server.pid is not None


def test_a_taken_port_is_replaced_unless_it_was_asked_for(tmp_path: Path, nats_server: EmbeddedNats) -> None:
    other = EmbeddedNats(tmp_path)
    other.root.mkdir()
    (other.root / "port").write_text(f"{nats_server.port}\n")
    other.start()
    assert other.port != nats_server.port
    other.stop()
    with pytest.raises(StartFailed, match=r"did not start|address already in use"):
        EmbeddedNats(tmp_path, port=nats_server.port).start()
    wanted = free_port()
    exact = EmbeddedNats(tmp_path, port=wanted)
    assert exact.start().endswith(f"@127.0.0.1:{wanted}")
    exact.stop()


def test_long_data_directory(tmp_path: Path) -> None:
    """A socket path has room for about a hundred bytes only."""
    server = EmbeddedPostgres(tmp_path / ("long" * 40))
    server.start()
    try:
        assert asyncio.run(query(server.dsn, "select 1")) == 1
    finally:
        server.stop()
        shutil.rmtree(server.socket_dir)


@pytest.mark.parametrize("thread", ["main", "thread"])
def test_children_die_with_a_killed_owner_and_the_next_owner_starts(tmp_path: Path, thread: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(tmp_path), thread], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    assert owner.stdout is not None
    children = [int(part) for part in owner.stdout.readline().split()]
    time.sleep(0.3)
    assert all(_alive(pid) for pid in children), "the end of the starting thread must not stop the services"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    postgres, nats_server = EmbeddedPostgres(tmp_path), EmbeddedNats(tmp_path)
    try:
        # at once, while the old ones may still be on their way out
        postgres.start()
        nats_server.start()
        assert asyncio.run(query(postgres.dsn, "select 1")) == 1
        assert not any(_alive(pid) for pid in children)
    finally:
        nats_server.stop()
        postgres.stop()
    assert _processes_below(tmp_path) == []


def test_leftover_postgres_is_ended_also_when_its_postmaster_hangs(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(tmp_path), "main"], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    assert owner.stdout is not None
    postmaster = int(owner.stdout.readline().split()[0])
    os.kill(postmaster, signal.SIGSTOP)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    threading.Timer(1.0, os.kill, (postmaster, signal.SIGCONT)).start()
    server = EmbeddedPostgres(tmp_path)
    server.start()
    try:
        assert not _alive(postmaster)
        assert asyncio.run(query(server.dsn, "select 1")) == 1
    finally:
        server.stop()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes_below(directory: Path) -> list[int]:
    return pids_where(lambda argv: any(part.startswith(str(directory)) for part in argv))
