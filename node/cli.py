"""The command `dw-server`: `bootstrap`, `serve`, `dev`, `events`, `env-audit`.

Contract: configuration-and-security 7, 8.3, 10.1, 10.2.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shlex
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from actors.cluster.node_id import NodeIdTaken
from node import bootstrap as bootstrapping
from node import logs
from node import republish as republishing
from node.config import Config, ConfigError
from node.config.audit import audit
from node.config.entry import decode
from node.embedded import EmbeddedError, EmbeddedNats, EmbeddedPostgres
from node.embedded.files import data_directory, secret
from node.embedded.keeper import Keeper, Kept
from node.http.server import bind, is_loopback
from node.server import serve as serve_node
from node.supervisor import Supervisor, node_command
from node.version import VERSION

DEV_TOKEN = "dev-token"
DEV_HOST = "127.0.0.1"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="dw-server")
def main() -> None:
    """A durable workflow server. Every DW_* environment variable is honoured."""


@main.command("bootstrap")
@click.option("--force", is_flag=True, help="Accepted for compatibility; bootstrap never asks.")
def bootstrap_command(force: bool) -> None:
    """Prepare the database: schema, default namespace. Safe to repeat."""
    config = _config()
    with ExitStack() as stack:
        dsn = config.database.dsn
        if dsn is None:
            dsn = _embedded_postgres(stack, config.database.embedded_data_dir, [])
        try:
            bootstrapping.run(config, dsn)
        except bootstrapping.BootstrapFailed as error:
            _fail(str(error))
    click.echo("bootstrap: everything is in place")


@main.command()
@click.option("--host", help="Listen address (DW_HTTP_HOST).")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen port, 0 = any free one (DW_HTTP_PORT).")
@click.option("--node-id", help="Identity of this node, unique in the cluster (DW_NODE_ID).")
@click.option("--processes", type=click.IntRange(1, 256), help="Nodes of this machine on one port (DW_HTTP_WORKERS).")
@click.option("--share-port", is_flag=True, hidden=True)
def serve(host: str | None, port: int | None, node_id: str | None, processes: int | None, share_port: bool) -> None:
    """Run a node on the Postgres of DW_DATABASE_URL and the NATS of DW_NATS_URL."""
    config = _config()
    if config.database.dsn is None:
        _fail("serve needs a database: set DW_DATABASE_URL, or use `dw-server dev`, which brings its own")
    count = processes or config.http.workers
    config = config.changed(host=host, port=port)
    with _bound(config, share=share_port or count > 1) as bound:
        config = config.changed(port=bound.getsockname()[1], node_id=node_id or _own_node_id(config, bound), server_id=node_id)
        _log_as(config)
        if count > 1:
            sys.exit(_supervise(config, count))
        try:
            serve_node(config, bound, lambda url: click.echo(f"node {config.server.node_id} is ready on {url}", err=True))
        except NodeIdTaken as error:
            _fail(str(error))


@main.command()
@click.option("--host", help="Listen address (DW_HTTP_HOST, default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen port, 0 = any free one (default 8080).")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where data is kept (default .dw-data).")
def dev(host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run everything on this machine: Postgres, NATS and a node, for development. Data is kept between starts.

    The token is `dev-token` when no credential is set and only this machine can connect; for other addresses one is drawn and
    kept in the data directory. There, too, is the address of NATS with its password: nats/url.
    """
    _stop_by_exception()
    config = _config()
    directory = str(data_dir or config.database.embedded_data_dir)
    config = config.changed(host=host or decode(os.environ.get("DW_HTTP_HOST", "")) or DEV_HOST, port=port)
    with ExitStack() as stack:
        bound = stack.enter_context(_bound(config))
        config = config.changed(port=bound.getsockname()[1])
        config, hint = _dev_credentials(config, directory, open_to_others=not is_loopback(bound))
        kept: list[Kept] = []
        dsn = config.database.dsn or _embedded_postgres(stack, directory, kept)
        nats = None if config.nats.url else _embedded_nats(stack, directory, kept)
        url = config.nats.url if nats is None else nats.url
        keeper = Keeper(kept)
        stack.callback(keeper.stop)
        keeper.start()
        config = dataclasses.replace(
            config,
            database=dataclasses.replace(config.database, dsn=dsn),
            nats=dataclasses.replace(config.nats, url=url, embedded=nats is not None),
        )
        try:
            bootstrapping.run(config, dsn)
        except bootstrapping.BootstrapFailed as error:
            _fail(str(error))
        restart_nats = None if nats is None else lambda: _end(nats)
        serve_node(config, bound, lambda at: click.echo(_ready_line(at, hint, config)), restart_nats)


@main.command("env-audit")
@click.option("--strict", is_flag=True, help="Exit with 1 if a name is unknown, old, or has a value of the wrong type.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def env_audit(strict: bool, as_json: bool) -> None:
    """Say what the names of the environment mean to this server. Values are never shown."""
    found = audit(os.environ)
    if as_json:
        click.echo(json.dumps(found.as_json(strict)))
    else:
        for line in found.lines():
            click.echo(line, err=True)
    sys.exit(1 if strict and not found.ok else 0)


main.add_command(env_audit, "env:audit")


@main.group()
def events() -> None:
    """The stream of history events in NATS."""


@events.command("republish")
@click.option("--since", required=True, help="Events recorded from this ISO 8601 time on (UTC unless it says otherwise).")
@click.option("--namespace", help="Only those of this namespace.")
@click.option("--wait", is_flag=True, help="Return when the nodes are done.")
def republish_command(since: str, namespace: str | None, wait: bool) -> None:
    """Publish events again, for subscribers that lost them.

    The running nodes do it, run by run and in order. Every event keeps its Nats-Msg-Id: subscribers may see it twice.
    """
    config = _config()
    if config.database.dsn is None:
        _fail("events republish needs the database of the running nodes: set DW_DATABASE_URL")
    try:
        start = republishing.parse_since(since)
        name = namespace.lower() if namespace else None
        asyncio.run(republishing.republish(config.database.dsn, start, name, wait=wait, say=click.echo))
    except republishing.RepublishRefused as error:
        _fail(str(error))


# -- steps -------------------------------------------------------------------------------------------------------------


def _config() -> Config:
    try:
        config = Config.read(os.environ)
    except ConfigError as error:
        _fail(str(error))
    _log_as(config)
    found = audit(os.environ)
    for line in [*found.of_names(), *config.boot_lines()]:
        click.echo(line, err=True)
    if config.server.env_audit_strict and not found.ok:
        _fail("the environment is not clean, and DW_ENV_AUDIT_STRICT is set")
    return config


def _log_as(config: Config) -> None:
    """Log as configured, under the id the node has so far."""
    logs.set_up(config.server.log_level, config.server.log_format, config.server.node_id)


def _fail(message: str) -> NoReturn:
    click.echo(f"dw-server: {message}", err=True)
    sys.exit(1)


def _bound(config: Config, *, share: bool = False) -> socket.socket:
    try:
        return bind(config.http.host, config.http.port, share=share)
    except OSError as error:
        _fail(f"can not listen on {config.http.host}:{config.http.port}: {error.strerror or error}")


def _own_node_id(config: Config, bound: socket.socket) -> str:
    """The configured identity; without one host name and port, which differ between nodes and stay the same."""
    if config.server.names_node:
        return config.server.node_id
    return f"{config.server.node_id}-{bound.getsockname()[1]}"


def _supervise(config: Config, count: int) -> int:
    base = ("serve", "--host", config.http.host, "--port", str(config.http.port), "--processes", "1", "--share-port")
    click.echo(f"{count} nodes {config.server.node_id}-1..{count} on port {config.http.port}", err=True)
    commands = [node_command(*base, "--node-id", f"{config.server.node_id}-{number}") for number in range(1, count + 1)]
    return Supervisor(commands, config.server.shutdown_grace_seconds + 10).run()


def _embedded_postgres(stack: ExitStack, directory: str, kept: list[Kept]) -> str:
    server = _or_fail(lambda: EmbeddedPostgres(directory))
    stack.callback(server.stop)
    kept.append(server)
    return str(_or_fail(server.start))


def _embedded_nats(stack: ExitStack, directory: str, kept: list[Kept]) -> EmbeddedNats:
    server: EmbeddedNats = _or_fail(lambda: EmbeddedNats(directory))
    stack.callback(server.stop)
    kept.append(server)
    _or_fail(server.start)
    return server


def _end(service: Kept) -> None:
    """Have a kept service end, so that its keeper starts it again."""
    if (pid := service.pid) is not None:
        os.kill(pid, signal.SIGTERM)


def _or_fail(step: Any) -> Any:
    try:
        return step()
    except (EmbeddedError, OSError) as error:
        _fail(str(error))


def _dev_credentials(config: Config, directory: str, *, open_to_others: bool) -> tuple[Config, str]:
    """The configuration with a token when no credential is set, and what to tell about credentials.

    `open_to_others`: other machines can connect. Then the token everybody knows is none.
    """
    auth, where = config.auth, config.http.host
    tokens = (auth.token, auth.worker_token, auth.operator_token, auth.admin_token)
    if open_to_others and (auth.driver == "none" or DEV_TOKEN in tokens):
        what = "no token is asked for" if auth.driver == "none" else f"{DEV_TOKEN} is no secret"
        click.echo(f"warning: whoever reaches {where} may do everything here: {what}", err=True)
    if auth.driver == "token" and not auth.names_credential:
        token = hint = DEV_TOKEN
        if open_to_others:
            file = _or_fail(lambda: data_directory(Path(directory))) / "token"
            token = _or_fail(lambda: secret(file))
            hint = f"$(cat {shlex.quote(str(file))})"
            click.echo(f"note: {where} can be reached by others, so the token is a secret, kept in {file}", err=True)
        return dataclasses.replace(config, auth=dataclasses.replace(auth, token=token)), hint
    if auth.driver == "none":
        return config, ""
    for name in ("DW_AUTH_TOKEN", "DW_ADMIN_TOKEN", "DW_OPERATOR_TOKEN", "DW_WORKER_TOKEN"):
        if os.environ.get(name):
            return config, f"${name}"
    return config, "as configured"


def _ready_line(url: str, hint: str, config: Config) -> str:
    header = f' -H "Authorization: Bearer {hint}"' if hint else ""
    in_file = hint.startswith("$(cat ")
    token = "token " + (f"in {hint[6:-1]}" if in_file else hint) if hint else "no token needed"
    return f"Ready: {url} ({token}), namespace {config.server.default_namespace}. Try: curl -s{header} {url}/api/cluster/info"


def _stop_by_exception() -> None:
    """Until the node takes over signals, SIGTERM ends this process as an exception, so that started services are stopped."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)


if __name__ == "__main__":
    main()
