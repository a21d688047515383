"""A first start that is killed at any moment leaves nothing that a later start can not go on from."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import nats
import pytest

from node.embedded import EmbeddedNats, EmbeddedPostgres
from node.embedded.process import pids_where
from tests.support.services import clean_environment

SCALE = int(os.environ.get("DW_TEST_SCALE", "1"))
KILLS = 8 * SCALE

OWNER_PROGRAM = """
import sys, time
from node.embedded import EmbeddedNats, EmbeddedPostgres
postgres, nats = EmbeddedPostgres(sys.argv[1]), EmbeddedNats(sys.argv[1])
print("go", flush=True)
nats.start(), postgres.start()
print("done", flush=True)
time.sleep(60)
"""


def owner(directory: Path) -> subprocess.Popen[str]:
    """A process that has just begun to start both services."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(directory)], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


def check(directory: Path, starts: int = 2) -> None:
    """Both services start, keep what is put into them, and nothing of the earlier start is about."""
    for expected in range(starts):
        postgres, server = EmbeddedPostgres(directory), EmbeddedNats(directory)
        try:
            postgres.start()
            server.start()
            assert asyncio.run(_use(postgres, server)) == expected
        finally:
            server.stop()
            postgres.stop(immediately=True)
    assert not list(postgres.root.glob("new-*"))
    assert pids_where(lambda argv: any(part.startswith(str(directory)) for part in argv)) == []


async def _use(postgres: EmbeddedPostgres, server: EmbeddedNats) -> int:
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("create table if not exists kept (x int)")
    before: int = await connection.fetchval("select count(*) from kept")
    await connection.execute("insert into kept values (1)")
    await connection.close()
    connection = await asyncpg.connect(postgres.tcp_dsn)
    await connection.close()
    client = await nats.connect(server.url)
    await client.jetstream().account_info()
    await client.close()
    return before


@pytest.mark.proof
def test_a_start_after_a_first_start_killed_at_any_moment(tmp_path: Path) -> None:
    seed = os.environ.get("DW_TEST_SEED") or secrets.token_hex(4)
    print(f"DW_TEST_SEED={seed}")
    chance = random.Random(seed)
    begun = time.monotonic()
    process = owner(tmp_path / "measured")
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    whole = time.monotonic() - begun
    process.kill()
    process.communicate()
    for number in range(KILLS):
        directory = tmp_path / str(number)
        for _ in range(chance.choice((1, 1, 2))):
            process = owner(directory)
            # spread evenly: every step of the start is hit in some run
            time.sleep(whole * (number + chance.random()) / KILLS)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        check(directory)  # what an orphan of the killed start still wrote to is removed by the second start
        shutil.rmtree(directory, ignore_errors=True)


# -- every state a kill can leave, and those that earlier versions left -------------------------------------------------


def nothing_but_directories(home: Path) -> None:
    shutil.rmtree(home / "data")
    (home / "database").unlink()
    (home / "password").unlink()


def an_initialisation_not_handed_over(home: Path) -> None:
    nothing_but_directories(home)
    (home / "new-0000").mkdir(mode=0o700)


def an_initialisation_half_way(home: Path) -> None:
    (home / "data").rename(home / "new-0000")
    (home / "new-0000" / "PG_VERSION").unlink()
    (home / "database").unlink()
    (home / "password").unlink()


def complete_data_nobody_was_let_into(home: Path) -> None:
    (home / "database").unlink()
    (home / "password").unlink()


def no_password(home: Path) -> None:
    (home / "password").unlink()


def an_empty_password(home: Path) -> None:
    (home / "password").write_text("")


def half_written_files(home: Path) -> None:
    (home / "port").write_text("")
    (home / ".port.0000").write_text("5")
    (home / "postgresql.conf").write_text("listen_addr")
    (home / "database").write_text("")
    nats_home = home.parent / "nats"
    for name in ("port", "nats.conf", "url", "password"):
        (nats_home / name).write_text("")


def an_initialisation_in_its_place_half_way(home: Path) -> None:
    (home / "database").unlink()
    shutil.rmtree(home / "data" / "base" / "1")


def only_a_version(home: Path) -> None:
    (home / "database").unlink()
    for entry in (home / "data").iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "PG_VERSION":
            entry.unlink()


def data_gone(home: Path) -> None:
    shutil.rmtree(home / "data")


def no_database_named_postgres(home: Path) -> None:
    server = EmbeddedPostgres(home.parent)
    server.start()
    server.drop_database("durable_workflow")
    server._client("psql", "-d", "template1", "-c", "drop database postgres")
    server.stop()
    (home / "database").unlink()


LEFT = [
    nothing_but_directories,
    an_initialisation_not_handed_over,
    an_initialisation_half_way,
    complete_data_nobody_was_let_into,
    no_password,
    an_empty_password,
    half_written_files,
    an_initialisation_in_its_place_half_way,
    only_a_version,
    data_gone,
    no_database_named_postgres,
]


@pytest.fixture(scope="module")
def started() -> Iterator[Path]:
    """A data directory after a first start."""
    directory = Path("/tmp") / f"dw-test-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o711)
    for service in (EmbeddedPostgres(directory), EmbeddedNats(directory)):
        service.start()
        service.stop()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.proof
@pytest.mark.parametrize("left", LEFT, ids=lambda left: left.__name__)
def test_a_start_over_any_leftover(started: Path, tmp_path: Path, left: Callable[[Path], None]) -> None:
    directory = tmp_path / "data"
    copied = subprocess.run(["cp", "-a", str(started), str(directory)], check=False)
    assert copied.returncode == 0
    left(directory / "postgres")
    check(directory)


def test_data_that_was_served_is_never_set_aside(started: Path, tmp_path: Path) -> None:
    """Whatever is wrong with it is for its owner to see."""
    directory = tmp_path / "data"
    subprocess.run(["cp", "-a", str(started), str(directory)], check=True)
    shutil.rmtree(directory / "postgres" / "data" / "base" / "1")
    (directory / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(Exception, match="did not start"):
        EmbeddedPostgres(directory).start()
    assert not list((directory / "postgres").glob("unfinished-*"))
