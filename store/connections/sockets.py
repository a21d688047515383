"""How soon a connection to a database host that vanished without a word is given up."""

from __future__ import annotations

import socket
from typing import Any

_UNACKNOWLEDGED_SECONDS = 5
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))

# The same from the database's side; and a node that stands still in the middle of a transaction must not keep its locks.
SESSION = {
    "tcp_user_timeout": str(_UNACKNOWLEDGED_SECONDS * 1000),
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "5000",
}


async def watch(connection: Any) -> None:
    """Have the kernel notice that nobody answers on this new connection of asyncpg. Nothing is done to a Unix socket."""
    end = connection._transport.get_extra_info("socket")
    if end is None or end.family not in (socket.AF_INET, socket.AF_INET6):
        return
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        end.setsockopt(socket.IPPROTO_TCP, option, value)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_SECONDS * 1000)
