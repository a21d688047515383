"""Every line the server writes to its log: where it comes from, what it means, which fields it has.

A line is a sentence for people, and for programs an `action` with fields: both are given where it is written,
`log.warning("node %s is gone", node_id, extra=said("node.gone", peer=node_id))`, and with `DW_LOG_FORMAT=json` both are in the
output. Sentences may change, actions and their fields stay. The table holds all of them (a test compares it with the
code); docs/observability.md is made from it.
"""

from __future__ import annotations

from typing import NamedTuple

# One logger per room, so that `logging` can tell them apart.
LOGGERS = {
    "dw.api": "requests, from the route to the answer (`api/`)",
    "dw.actors": "runs, queues, shards and publishing (`actors/`)",
    "dw.bus": "NATS (`bus/`)",
    "dw.store": "PostgreSQL (`store/`)",
    "dw.node": "start and stop, schema, processes (`node/`, `base/`)",
    "dw.http": "connections and HTTP itself (`node/http/`)",
    "dw.embedded": "the PostgreSQL and NATS of `dw-server dev` (`node/embedded/`)",
}

# The folders of the loggers, the innermost counts.
ROOMS = {
    "api": "dw.api",
    "actors": "dw.actors",
    "bus": "dw.bus",
    "store": "dw.store",
    "base": "dw.node",
    "node": "dw.node",
    "node/http": "dw.http",
    "node/embedded": "dw.embedded",
}

FIELDS = {
    "action": "what the line tells of, a name of the table below",
    "node": "the node that writes, on every line of the JSON form that comes from a configured process",
    "peer": "another node",
    "schedule_key": "a schedule, by the key of its rows and events",
    "run_id": "a run; of a write that may be of a schedule, its key",
    "run_key": "the part of a run's ids that names the run",
    "workflow_id": "the workflow id of a run",
    "task_id": "a workflow, activity or query task",
    "request_id": "the `X-Request-Id` of the request, where the client sent one; it is not echoed",
    "method": "the method of a request",
    "route": "the route of a request, parameters in braces",
    "shards": "numbers of shards",
    "message_id": "a message from one run to another",
    "limit": "the name of a limit of runs",
    "subject": "a NATS subject",
    "stream": "a JetStream stream",
    "consumer": "a JetStream consumer",
    "part": "a part of the node, or a service it keeps running",
    "pid": "a process",
    "migration": "a step of the schema",
    "count": "how many",
    "most": "how many there may be",
    "seconds": "how long",
}


def said(action: str, **fields: object) -> dict[str, object]:
    """The `extra` of a log line: its action and the fields that are known."""
    return {"action": action, **fields}


class Action(NamedTuple):
    """One kind of line. `fields`: beside `action` and `node`, those it has when they are known."""

    name: str
    logger: str
    level: str
    about: str
    fields: tuple[str, ...] = ()


ACTIONS = (
    Action("request.failed", "dw.api", "error", "a request met a fault of the server: 500", ("method", "route", "request_id")),
    Action("request.router_failed", "dw.api", "error", "the router met a fault: 500"),
    Action("auth.provider_unusable", "dw.api", "error", "the class of `DW_AUTH_PROVIDER` can not be used: 500 for everybody"),
    Action(
        "auth.provider_failed",
        "dw.api",
        "error",
        "the auth provider met a fault: 500; credentials are taken out of its text",
        ("method", "route", "request_id"),
    ),
    Action("auth.provider_silent", "dw.api", "warning", "it did not answer in time: 503", ("method", "route", "request_id")),
    Action("clock.stepped", "dw.actors", "warning", "the database's clock jumped, and is followed", ("seconds",)),
    Action("clock.skewed", "dw.actors", "warning", "this machine's clock is far from the database's, which is followed"),
    Action("clock.agrees", "dw.actors", "info", "it no longer is"),
    Action("node_id.taken", "dw.actors", "info", "the start waits for the end of another process's lease", ("peer",)),
    Action("node.gone", "dw.actors", "warning", "the lease of another node ended, its shards are up for taking", ("peer",)),
    Action(
        "rollout.unconfirmed",
        "dw.actors",
        "warning",
        "a node did not say in time that it knows of a drained or promoted build id; it goes by nothing older",
        ("peer",),
    ),
    Action("node.lapsed", "dw.actors", "warning", "this node's own lease ended, or cannot be renewed for now"),
    Action("shards.undrained", "dw.actors", "warning", "shards were released before their runs were idle", ("seconds",)),
    Action("shards.leave_failed", "dw.actors", "debug", "the node could not give its lease back, which ends by itself"),
    Action("shards.acquire_failed", "dw.actors", "debug", "shards could not be acquired, tried again"),
    Action("shards.release_failed", "dw.actors", "debug", "shards could not be released, tried again"),
    Action("shards.acquired_fault", "dw.actors", "error", "what follows an acquired shard failed", ("shards",)),
    Action("shards.released_fault", "dw.actors", "error", "what follows a released shard failed", ("shards",)),
    Action(
        "run.limit_near",
        "dw.actors",
        "warning",
        "a run comes near one of its limits",
        ("run_id", "workflow_id", "limit", "count", "most"),
    ),
    Action("run.effects_failed", "dw.actors", "error", "a commit stands, its effects follow later", ("run_key",)),
    Action("run.transition_failed", "dw.actors", "error", "a transition met a fault, its callers may repeat", ("run_key",)),
    Action("schedule.effects_failed", "dw.actors", "error", "a commit stands, its effects follow later", ("schedule_key",)),
    Action(
        "schedule.transition_failed",
        "dw.actors",
        "error",
        "a transition met a fault, its callers may repeat",
        ("schedule_key",),
    ),
    Action("run_message.failed", "dw.actors", "error", "a message between runs met a fault, tried again", ("message_id",)),
    Action("task.claim_failed", "dw.actors", "error", "the claim of a task met a fault", ("task_id",)),
    Action("tasks.load_failed", "dw.actors", "error", "ready tasks could not be read, tried again"),
    Action("permits.read_failed", "dw.actors", "error", "places under caps of task queues could not be read, tried again"),
    Action("permits.left_over", "dw.actors", "warning", "places under caps that no lease holds were given back", ("count",)),
    Action("poll.failed", "dw.actors", "error", "a poll parked without its queue's host met a fault"),
    Action("retention.pruned", "dw.actors", "info", "expired runs were pruned", ("count", "seconds")),
    Action("maintenance.failed", "dw.actors", "error", "periodic work met a fault, it goes on"),
    Action("events.lost", "dw.actors", "warning", "the event stream lost events"),
    Action("events.republished", "dw.actors", "info", "events asked for are published again"),
    Action("events.nats_restarted", "dw.actors", "warning", "the node's own NATS is restarted after a full disk"),
    Action("events.nats_restart_failed", "dw.actors", "error", "that failed"),
    Action("events.stream_remade", "dw.actors", "warning", "the event stream is made anew after a full disk"),
    Action("nats.connected", "dw.bus", "info", "connected to NATS"),
    Action("nats.lost", "dw.bus", "warning", "the connection is lost, opened again by itself"),
    Action("nats.message_failed", "dw.bus", "error", "a message met a fault", ("subject",)),
    Action("nats.callback_failed", "dw.bus", "error", "what follows a change of the connection failed"),
    Action("ask.failed", "dw.bus", "error", "an ask of another node met a fault"),
    Action("peer.silent", "dw.bus", "info", "another node is not heard on NATS", ("peer",)),
    Action("peer.heard", "dw.bus", "info", "it is heard again", ("peer",)),
    Action("stream.stands_still", "dw.bus", "warning", "events or tasks cannot be published", ("part",)),
    Action("stream.works", "dw.bus", "warning", "they can again", ("part", "seconds")),
    Action("stream.config_refused", "dw.bus", "warning", "a stream keeps its old configuration", ("stream",)),
    Action("stream.consumer_lost", "dw.bus", "warning", "a consumer could not be taken over to the new stream", ("consumer",)),
    Action("commit.unfinished", "dw.store", "warning", "the last commit did not end before the stop"),
    Action("commit.conflict", "dw.store", "warning", "a write violates a unique key: nothing of it is stored", ("run_id",)),
    Action("commit.refused", "dw.store", "error", "the database refuses the data of a write", ("run_id",)),
    Action("database.read_only", "dw.store", "warning", "the database takes no writes"),
    Action("database.writable", "dw.store", "warning", "it does again", ("seconds",)),
    Action("database.away", "dw.store", "warning", "PostgreSQL does not answer"),
    Action("database.back", "dw.store", "warning", "it does again"),
    Action("service.stop_failed", "dw.node", "error", "a part of the node did not end as it should", ("part",)),
    Action("schema.applied", "dw.node", "info", "a migration was applied", ("migration",)),
    Action("schema.found", "dw.node", "info", "which schema the database has"),
    Action("schema.unfit", "dw.node", "error", "the schema cannot be served: requests are answered 503"),
    Action("schema.fit", "dw.node", "warning", "it can again"),
    Action("node.listening", "dw.node", "info", "connections are accepted"),
    Action("node.stopped", "dw.node", "info", "the node has stopped"),
    Action("node.replaced", "dw.node", "error", "another process has this node's id: this one ends at once"),
    Action("part.waiting", "dw.node", "warning", "a part of the node cannot start yet", ("part",)),
    Action("part.slow", "dw.node", "error", "a part did not stop in time", ("part", "seconds")),
    Action("part.fault", "dw.node", "error", "a part met a fault when it was stopped", ("part",)),
    Action("process.ended", "dw.node", "warning", "a node process ended by itself and is restarted", ("pid", "seconds")),
    Action("process.killed", "dw.node", "error", "a node process did not end when told", ("pid",)),
    Action("http.read_failed", "dw.http", "error", "reading a request met a fault"),
    Action("http.application_failed", "dw.http", "error", "the application let a fault through"),
    Action("http.answer_cut", "dw.http", "error", "the application ended without a complete answer"),
    Action("http.flood", "dw.http", "warning", "what happens often, counted, with the last of it", ("part", "count")),
    Action("http.unfinished", "dw.http", "warning", "requests were still running after the grace time", ("count",)),
    Action(
        "service.restarted", "dw.embedded", "warning", "an embedded service ended and is started again", ("part", "seconds")
    ),
    Action("service.waiting", "dw.embedded", "warning", "it does not start, tried again", ("part", "seconds")),
    Action("postgres.begun_anew", "dw.embedded", "warning", "an unfinished first start is kept aside"),
    Action("postgres.left_behind", "dw.embedded", "info", "a file is left for the next start"),
    Action("postgres.moved", "dw.embedded", "info", "its data is kept where its user can reach it"),
)
