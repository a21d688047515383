"""Whether a Postgres accepts sessions, asked over its socket without a driver."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_PROTOCOL = 196608  # 3.0
_SECONDS = 1.0


def accepts_sessions(socket_file: Path, user: str) -> bool:
    """Whether the server behind `socket_file` lets `user` in now; it says no while it starts, recovers or stops."""
    words = f"user\0{user}\0database\0template1\0\0".encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(str(socket_file))
            connection.sendall(struct.pack("!II", len(words) + 8, _PROTOCOL) + words)
            welcome = connection.recv(1) == b"R"
            if welcome:
                connection.sendall(struct.pack("!cI", b"X", 4))
            return welcome
    except OSError:
        return False
