"""JSON text inside commands: it travels between nodes, rests in states and stands in events as it is, whatever it holds."""

from __future__ import annotations

import msgspec
import orjson

from actors.cluster import protocol
from actors.cluster.protocol import AskFinishQuery, AskRun, AskStart
from actors.hosting.write_set import write_set
from actors.queue.query_types import QueryOutcome
from actors.run import state as run_state
from actors.run.commands.control import StartRun
from actors.run.commands.steps import FailWorkflow
from actors.run.commands.worker import CompleteWorkflowTask, FailActivity, HeartbeatActivity
from actors.run.ids import RunKey
from actors.run.lifecycle import starting
from actors.run.times import Micros
from actors.run.transition import Transition
from actors.run.values import Failure, Payload
from tests.core.harness import RUN_ID
from tests.support.defaults import RULES

DEEP = b"[" * 510 + b'{"n":1e400,"i":100000000000000000000}' + b"]" * 510
MEMO = b'{"m":%b}' % DEEP
START = StartRun("default", "w", RUN_ID, "order", "q", Payload("avro", "AARbXQI="), memo=MEMO)


def test_text_travels_between_nodes() -> None:
    for question in (
        AskStart(START),
        AskFinishQuery("default", QueryOutcome("q", "w", 1, result=DEEP)),
        AskRun(RunKey("k"), FailActivity("t", "a", "w", Failure("m", code=b"1" * 30, details=DEEP))),
        AskRun(RunKey("k"), HeartbeatActivity("t", "a", "w", {"current": b"1e400", "details": DEEP})),
        AskRun(RunKey("k"), CompleteWorkflowTask("t", "w", 1, [FailWorkflow("m", exception={"e": DEEP, "class": "X"})])),
    ):
        assert protocol.decode_question(protocol.encode(question)) == question


def test_text_rests_in_states_and_stands_in_events() -> None:
    tx = starting.create(START, Micros(1_000_000), RULES)
    starting.begin(tx, START)
    assert run_state.decode(run_state.encode(tx.state)).memo_bytes == len(MEMO)
    again = Transition(run_state.decode(run_state.encode(tx.state)), tx.history, tx.now, RULES)
    assert again.memo == MEMO
    assert all(b'"memo":%b,' % MEMO in line for line in tx.events[:2])
    written = write_set(tx, 0, 0, True, lambda namespace, queue: 0)
    assert written.identity is not None
    assert written.identity.memo == MEMO


def test_values_written_before_are_read_still() -> None:
    """States and messages written when a memo was a map."""
    old = StartRun("default", "w", START.run_id, "order", "q", START.arguments, memo={"a": [1]})
    tx = starting.create(old, Micros(1_000_000), RULES)
    starting.begin(tx, old)
    stored = msgspec.msgpack.decode(run_state.encode(tx.state))
    for memo in ({"a": [1]}, b'{"a":[1]}'):
        known = run_state.decode(msgspec.msgpack.encode({**stored, "memo": memo, "failures": [{}]}))
        assert known == tx.state and known.memo_bytes == len(b'{"a":[1]}')
        assert Transition(known, tx.history, tx.now, RULES).memo == b'{"a":[1]}'
    assert orjson.loads(tx.events[0])["payload"]["memo"] == {"a": [1]}
    written = write_set(tx, 0, 0, True, lambda namespace, queue: 0)
    assert written.identity is not None
    assert written.identity.memo == b'{"a":[1]}'
