"""Files below a data directory, kept from everybody else: no link of another user is followed and no file of theirs is used.

A directory is ours when we own it and nobody else may write to it: then nothing in it can be exchanged behind our back. What an
earlier version let others own is looked at once more: a file counts only when it is a plain file of ours under one name.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import stat
from pathlib import Path
from typing import IO

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class EmbeddedError(Exception):
    """An embedded service can not be run; the message is fit for a console."""


def name_of(uid: int) -> str:
    """The name of a user for a message, its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def data_directory(path: Path) -> Path:
    """`path` absolute and made when it is not there (then nobody else can list it). One that is there keeps its permissions.

    Raises `EmbeddedError` for one in which another user could exchange what we work on.
    """
    path = path.expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # root's data directory is passed through by the user the database runs as
            path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700)
        found = path.stat()
    except OSError as error:
        raise EmbeddedError(f"the data directory {path} can not be made: {error.strerror}") from None
    if os.geteuid() == 0 and found.st_uid != 0:
        raise EmbeddedError(
            f"the data directory {path} belongs to user {name_of(found.st_uid)}, who could lead root astray there:"
            " start as that user, or use another directory"
        )
    if found.st_mode & stat.S_IWOTH:
        raise EmbeddedError(
            f"the data directory {path} can be written by everybody, who could exchange what is in it: use one in it"
        )
    return path


def claim(directory: Path, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make a directory below one of ours, or see that the one there has exactly this owner (None: us) and mode.

    Raises `EmbeddedError` when something else stands there or it can not be had.
    """
    uid, gid = owner or (os.geteuid(), os.getegid())
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        fd = os.open(directory, _DIRECTORY)
        try:
            found = os.fstat(fd)
            if found.st_uid != uid or (owner is not None and found.st_gid != gid):
                os.fchown(fd, uid, gid)
            if stat.S_IMODE(found.st_mode) != mode:
                os.fchmod(fd, mode)
        finally:
            os.close(fd)
    except NotADirectoryError:
        raise EmbeddedError(f"{directory} is not a directory") from None
    except OSError as error:
        raise EmbeddedError(f"{directory} can not be used by user {name_of(os.geteuid())}: {error.strerror}") from None


def _is_ours(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


def open_ours(file: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a file of ours; what stands there and is not ours is removed first when `flags` may create."""
    for _ in range(3):
        try:
            fd = os.open(file, flags | _FILE, mode)
        except OSError:
            if not flags & os.O_CREAT or not os.path.lexists(file):
                raise
        else:
            if _is_ours(fd):
                return fd
            os.close(fd)
            if not flags & os.O_CREAT:
                raise FileNotFoundError(f"{file} is not a file of user {name_of(os.geteuid())}")
        file.unlink(missing_ok=True)
    raise EmbeddedError(f"{file} can not be opened")


def read(file: Path) -> str | None:
    """The text of a file of ours, which nobody else can read from now on; None when there is none."""
    try:
        fd = open_ours(file, os.O_RDONLY)
    except OSError:
        return None
    os.fchmod(fd, 0o600)
    with os.fdopen(fd, encoding="utf-8", errors="replace") as opened:
        return opened.read()


def write(file: Path, text: str, mode: int = 0o600) -> None:
    """Put a new file in the place of whatever stands there; it is whole on disk at any time."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        fresh.rename(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync(file.parent)


def sync(directory: Path) -> None:
    """Have the names in a directory on disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def append(file: Path) -> IO[bytes]:
    """A log of ours to write on, read by nobody else."""
    fd = open_ours(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.fchmod(fd, 0o600)
    return os.fdopen(fd, "ab")


def secret(file: Path) -> str:
    """The secret kept in a file, drawn when there is none yet: hexadecimal digits, fit for URLs and quotes."""
    kept = (read(file) or "").strip()
    if not kept:
        kept = secrets.token_hex(24)
        write(file, kept + "\n")
    return kept
