"""Addresses of services with a login in them, looked at before anything is done with them.

What is not encoded in a password ends up in another part of the address, and from there in messages of the driver. So an
address counts only when it can be read in one way, and a message about one never repeats any of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from node.config.entry import ConfigError

_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f]")
_HINT = "in user and password / # ? @ : % [ ] and spaces must be percent-encoded (/ is %2F, # is %23, ? is %3F, @ is %40)"


def checked_url(name: str, url: str, schemes: Sequence[str], expected: str) -> SplitResult:
    """The parts of the value of the variable `name`. Raises `ConfigError` for one that is not `expected`."""
    wrong = ConfigError(f"{name}: expected {expected}; {_HINT}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in schemes or _NOT_IN_A_URL.search(url):
        raise wrong
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:  # from None: its text repeats what it could not read
        raise wrong from None
    login, _, hosts = parts.netloc.rpartition("@")
    ports = [port for values in query.get("port", ()) for port in values.split(",")]
    ports += [match[1] for host in hosts.split(",") if (match := re.search(r":([^\]]*)$", unquote(host)))]
    if "#" in url or "@" in login or "@" in parts.path or "@" in parts.query or login.count(":") > 1:
        raise wrong
    if any(not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) for port in ports if port):
        raise wrong
    return parts


def without_login(servers: Sequence[str]) -> tuple[tuple[str, ...], str | None, str | None]:
    """Server URLs without their login, and the user and password (None: it is a token) that all of them have, decoded.

    URLs with different logins are left as they are, and there is no common one.
    """
    logins = {server.partition("://")[2].rpartition("@")[0] for server in servers}
    if len(logins) != 1 or logins == {""}:
        return tuple(servers), None, None
    user, colon, password = logins.pop().partition(":")
    bare = tuple(f"{server.partition('://')[0]}://{server.rpartition('@')[2]}" for server in servers)
    return bare, unquote(user), unquote(password) if colon else None
