"""Root's way to a Postgres that refuses to run as root: an unprivileged user, and places this user can reach.

That user owns the data and the socket directory and nothing else. Root does nothing inside these two: whatever has to be done
there is done by a child that runs as their owner. The directories above a data directory keep their permissions; where they let
nobody through (a checkout below /root), Postgres' part, and a copy of its programs, stand below `SHARED` instead.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from base.observability.actions import said
from node.embedded.files import EmbeddedError, claim, name_of
from node.embedded.process import StartFailed, run

log = logging.getLogger("dw.embedded")

SHARED = Path("/var/lib/durable-workflow")
USERS = ("postgres", "nobody")
PASSED_THROUGH = 0o711
PROGRAMS = ("postgres", "initdb", "psql", "createdb", "dropdb")
SECONDS = 60.0


@dataclass(frozen=True)
class Account:
    """Who runs Postgres."""

    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        """Whether no change of user is needed."""
        return self.uid == os.geteuid()

    def run(self, *command: str | Path, text: str = "") -> str:
        """Run a program to its end as this user; what it printed. Raises `StartFailed`."""
        user, group = (None, None) if self.is_us else (self.uid, self.gid)
        try:
            code, out, errors = run(command, seconds=SECONDS, user=user, group=group, text=text)
        except OSError as error:
            raise StartFailed(f"user {name_of(self.uid)} can not run {command[0]}: {error.strerror}") from None
        if code != 0:
            raise StartFailed(f"{Path(command[0]).name} failed:\n{errors.strip()}")
        return out

    def can(self, *command: str | Path) -> bool:
        """Whether a program run as this user succeeds."""
        try:
            self.run(*command)
        except StartFailed:
            return False
        return True


def account_for(data: Path) -> Account:
    """Who is to run Postgres on `data`: we; if that is root, the owner of what is there, else a user of this system."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        found = data.lstat()
    except FileNotFoundError:
        pass
    else:
        if found.st_uid != 0 and stat.S_ISDIR(found.st_mode):
            return Account(found.st_uid, found.st_gid)
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(f"Postgres can not run as root, and none of the users {', '.join(USERS)} exists")


def home_for(wanted: Path) -> Path:
    """Postgres' directory, ours: `wanted`, or for root, when the user it runs as can not get there, one that `wanted` links to.

    Raises `EmbeddedError`.
    """
    if os.geteuid() != 0:
        claim(wanted, 0o700)
        return wanted
    if wanted.is_symlink() and wanted.lstat().st_uid == 0:
        return _claimed(wanted.parent / wanted.readlink())
    _claimed(wanted)
    account = account_for(wanted / "data")
    if account.can("/bin/sh", "-c", 'cd -- "$1"', "sh", wanted):
        return wanted
    elsewhere = _shared() / f"postgres-{secrets.token_hex(6)}"
    try:
        wanted.rmdir()
    except OSError:
        raise EmbeddedError(
            f"user {name_of(account.uid)}, who runs Postgres for root, can not reach {wanted}: let others pass through the"
            " directories above it (chmod o+x), or start as another user than root"
        ) from None
    wanted.symlink_to(_claimed(elsewhere))
    log.info(
        "user %s can not reach %s: the data of Postgres is kept in %s",
        name_of(account.uid),
        wanted,
        elsewhere,
        extra=said("postgres.moved"),
    )
    return elsewhere


def programs_for(account: Account, found: Path) -> Path:
    """The directory of Postgres' programs for `account`: `found`, or a copy of it where that user can not reach it."""
    if account.is_us or account.can(found / "postgres", "--version"):
        return found
    package = found.parents[1]
    libraries = package.parent / f"{package.name}.libs"
    if not libraries.is_dir():
        raise EmbeddedError(f"user {name_of(account.uid)}, who runs Postgres for root, can not run {found / 'postgres'}")
    program = (found / "postgres").stat()
    name = hashlib.sha256(f"{found} {program.st_mtime_ns} {program.st_size}".encode()).hexdigest()[:12]
    copy = _shared() / f"programs-{name}"
    bin_ = copy / package.name / found.parent.name / "bin"
    if not copy.is_dir():
        making = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
        shutil.copytree(libraries, making / libraries.name)
        unused = shutil.ignore_patterns("*.a", "include", "pkgconfig")
        for part in ("lib", "share"):
            shutil.copytree(found.parent / part, making / package.name / found.parent.name / part, symlinks=True, ignore=unused)
        (making / bin_.relative_to(copy)).mkdir()
        for program_name in PROGRAMS:
            shutil.copy2(found / program_name, making / bin_.relative_to(copy))
        for directory, _, _ in os.walk(making):
            Path(directory).chmod(0o755)
        try:
            making.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(making, ignore_errors=True)
    account.run(bin_ / "postgres", "--version")
    return bin_


def _claimed(directory: Path) -> Path:
    claim(directory, PASSED_THROUGH)
    return directory


def _shared() -> Path:
    return _claimed(SHARED)
