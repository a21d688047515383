"""Child processes that can not outlive this process, and the lock of a data directory.

Linux only: a child asks the kernel for a signal at the death of its parent. The kernel means the parent *thread*, so all
children are forked by one thread that lives as long as the process does, whoever asks for them.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, NoReturn

from node.embedded import files
from node.embedded.files import EmbeddedError

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.01
# What a service may know of our environment: the rest holds secrets, and variables that services take as settings.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ")

_libc = ctypes.CDLL(None, use_errno=True)


class DataDirectoryInUse(EmbeddedError):
    """Another live process runs a service on this data directory."""


class StartFailed(EmbeddedError):
    """The service process ended or did not become ready in time."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether 127.0.0.1:`port` can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def remembered_port(file: Path, wanted: int = 0) -> int:
    """The port a service listened on at its last start, so that it keeps its address over restarts.

    `wanted` (not 0) is used as it is. A remembered one that another program took is replaced by a free one. Written to `file`.
    """
    port = wanted
    if port == 0:
        text = (files.read(file) or "").strip()
        port = int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else 0
        if port == 0 or not port_is_free(port):
            port = free_port()
    files.write(file, f"{port}\n")
    return port


class DirectoryLock:
    """An exclusive lock on `path` that the kernel drops when this process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raise `DataDirectoryInUse` when another process (or another object of this one) holds it."""
        if self._fd is not None:
            return
        fd = files.open_ours(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise DataDirectoryInUse(
                f"{self.path.parent} is in use by another server" + (f" (process {holder})" if holder else "")
            ) from None
        os.truncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Drop the lock; nothing happens when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class _Spawner:
    """The one thread that forks children, so that only the end of the process triggers their death signal."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]] = (
            queue.SimpleQueue()
        )
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or self._pid != os.getpid():
                self._jobs = queue.SimpleQueue()
                self._thread = threading.Thread(target=self._loop, name="spawner", daemon=True)
                self._thread.start()
                self._pid = os.getpid()
        done: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, done))
        return done.result()

    def _loop(self) -> NoReturn:
        while True:
            job, done = self._jobs.get()
            try:
                done.set_result(job())
            except BaseException as error:
                done.set_exception(error)


_spawner = _Spawner()


def environment() -> dict[str, str]:
    """The environment of a service: only what finding and running programs needs."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}


def spawn(
    command: Sequence[str | Path],
    *,
    death_signal: int,
    output: IO[bytes] | int | None,
    errors: int = subprocess.STDOUT,
    feed: int = subprocess.DEVNULL,
    user: int | None = None,
    group: int | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own (a Ctrl-C at the terminal is ours to handle, not its).

    `death_signal` is what it gets when this process ends in any way. `output` takes its stdout and, unless `errors` says
    otherwise, its stderr (None: it shares ours). `feed` is its stdin. `user` and `group` drop root. `env` None: a bare one.
    """
    parent = os.getpid()

    def before_exec() -> None:
        # after the change of user, which clears the death signal
        _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    def job() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=feed,
            stdout=output,
            stderr=None if output is None else errors,
            env=environment() if env is None else env,
            cwd=cwd,
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
            process_group=0,
            preexec_fn=before_exec,  # noqa: PLW1509 - one prctl call, libc loaded before the fork
        )

    return _spawner.run(job)


def run(
    command: Sequence[str | Path], *, seconds: float, user: int | None = None, group: int | None = None, text: str = ""
) -> tuple[int, str, str]:
    """Run `command` to its end with `text` as its input: exit code, output, errors. It is killed with us and after `seconds`.

    Raises `OSError` when it can not be run at all.
    """
    process = spawn(
        command,
        death_signal=signal.SIGKILL,
        output=subprocess.PIPE,
        errors=subprocess.PIPE,
        feed=subprocess.PIPE,
        user=user,
        group=group,
        cwd=Path("/"),
    )
    with process:
        try:
            out, errors = process.communicate(text.encode(), seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return -signal.SIGKILL, "", f"not done within {seconds:.0f} s"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def end(process: subprocess.Popen[bytes], steps: Sequence[tuple[int, float]]) -> bool:
    """Send each signal of `steps` and wait its seconds until the process is gone. True when the first one was enough."""
    for index, (number, seconds) in enumerate(steps):
        if process.poll() is not None:
            return True
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return index == 0
    process.kill()
    process.wait()
    return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look at `condition` every 10 ms; False when it did not hold within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def pids_where(matches: Callable[[list[str]], bool], user: int | None = None) -> list[int]:
    """The live processes (of `user`, when given) whose argument list `matches` (zombies have none)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if user is not None and entry.stat().st_uid != user:
                continue
            raw = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if raw and matches(raw.decode("utf-8", "replace").rstrip("\0").split("\0")):
            found.append(int(entry.name))
    return found


def signal_all(pids: Sequence[int], number: int) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def tail(file: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(file.read_text("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


def at_exit(stop: Callable[[], None]) -> None:
    """Stop a service when the interpreter ends without having done so."""
    atexit.register(stop)
