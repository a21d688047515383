"""What nodes say to each other, and how it is written: MessagePack of tagged structs."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from actors.queue.poll import Poll
from actors.queue.query_types import Query, QueryAnswer, QueryOutcome, QueryTaskGrant
from actors.run.commands import RunCommand
from actors.run.commands.control import ControlCommand, StartRun, StartStandalone, UpdateRun
from actors.run.ids import RunKey
from actors.run.replies import ActivityTaskGrant, RunReply, UpdateStatus, WorkflowTaskGrant
from actors.run.transition import RunMessage
from actors.run.words import Reason
from actors.schedule.commands import ClientCommand
from actors.schedule.messages import ScheduleMessage, Settled
from actors.schedule.replies import ScheduleReply


class AskRun(Struct, tag="run", frozen=True):
    """Have a run decide a command. `namespace` None: asked by the system. `key`: see `actors.hosting.repeats`."""

    run_key: RunKey
    command: RunCommand
    namespace: str | None = None
    key: str | None = None


class AskStart(Struct, tag="start", frozen=True):
    """Start a workflow or a standalone activity, duplicates included."""

    command: StartRun | StartStandalone


class AskPoll(Struct, tag="poll", frozen=True):
    """Park a poll in a queue hosted by the receiver.

    `node_id` and `number` name it for hosts from before decision 7 (`AskTake`).
    """

    poll: Poll
    seconds: float
    node_id: str
    number: int


class AskTake(Struct, tag="take", frozen=True):
    """Claim a task for a poll that the receiver has forwarded: the reply of the run, `Moved` when the poll waits no longer.

    Only nodes from before decision 7 send it (docs/decisions/0007-no-delegated-polls.md).
    """

    number: int
    task_id: str


class AskCommand(Struct, tag="command", frozen=True):
    """Have the current run of a workflow id decide a command of the control plane. `key`: see `actors.hosting.repeats`."""

    namespace: str
    workflow_id: str
    key: str
    command: ControlCommand
    run_id: str | None = None


class AskUpdate(Struct, tag="update", frozen=True):
    """The same for an update."""

    namespace: str
    workflow_id: str
    key: str
    command: UpdateRun
    run_id: str | None = None


class AwaitUpdate(Struct, tag="await_update", frozen=True):
    """Answer once an accepted update has ended, or when `seconds` are over."""

    namespace: str
    accepted: UpdateStatus
    seconds: float


class AskQuery(Struct, tag="query", frozen=True):
    """Put a query to the workers of a queue hosted by the receiver."""

    namespace: str
    queue: str
    run_id: str
    workflow_type: str
    compatibility: str | None
    query: Query


class AskFinishQuery(Struct, tag="finish_query", frozen=True):
    """A worker's answer to a query task of the receiver."""

    namespace: str
    outcome: QueryOutcome


class AskSchedule(Struct, tag="schedule", frozen=True):
    """Have a schedule decide a client's command. `key`: see `actors.hosting.repeats`."""

    namespace: str
    schedule_id: str
    key: str
    command: ClientCommand


class ScheduleAnswered(Struct, tag="schedule_answered", frozen=True):
    """The reply of a schedule."""

    reply: ScheduleReply


class AwaitStarts(Struct, tag="await_starts", frozen=True):
    """Answer once it is known what became of these starts of a schedule, or with what is known when `seconds` are over."""

    namespace: str
    schedule_id: str
    run_ids: list[str]
    seconds: float


class StartsSettled(Struct, tag="starts_settled", frozen=True):
    """The starts whose outcome is known."""

    settled: list[Settled]


class AnnouncedStarts(Struct, tag="schedule_messages", frozen=True):
    """Messages of schedules for the receiver; each is a row of the mailbox, too."""

    messages: list[ScheduleMessage]


class AskReread(Struct, tag="reread_rollouts", frozen=True):
    """Read what changed of drained and promoted build ids; the reply `Done` means that the receiver goes by it."""


class AskRates(Struct, tag="rates", frozen=True):
    """What the receiver has seen of these queues in the last minute, of all together without any; older nodes do not answer."""

    namespace: str
    queues: list[str]


class Rated(Struct, tag="rated", frozen=True):
    """Queue, kind, tasks added and tasks dispatched. `queries`: how many wait for a worker at the receiver, by queue."""

    rates: list[tuple[str, str, int, int]]
    queries: dict[str, int] = {}


class QueryAnswered(Struct, tag="query_answered", frozen=True):
    """The end of a query: an answer, or the reason why there is none."""

    answer: QueryAnswer | None
    reason: Reason | None = None


class Announced(Struct, tag="posted", frozen=True):
    """Messages for runs of the receiver; each is a row of the mailbox, too."""

    messages: list[RunMessage] = msgspec.field(name="letters")


class Answer(Struct, tag="answer", frozen=True):
    """The reply of a run. `leases`: it is a lease made for the asker, to be released when it reaches nobody."""

    reply: RunReply
    leases: bool = False


class Granted(Struct, tag="granted", frozen=True):
    """The end of a parked poll; with its poll, so that a grant that reaches nobody can be handed back."""

    poll: Poll
    grant: WorkflowTaskGrant | ActivityTaskGrant | QueryTaskGrant | None


class Moved(Struct, tag="moved", frozen=True):
    """The receiver does not host that (any more): look again who does."""


class Failed(Struct, tag="failed", frozen=True):
    """The outcome is unknown there too."""

    message: str


class TaskOffer(Struct, frozen=True, array_like=True):
    """A ready task on its way to the node hosting its queue."""

    namespace: str
    queue: str
    kind: str
    task_id: str
    type_name: str
    compatibility: str | None
    priority: int
    available_at: int
    fairness_key: str | None = None  # from here on not sent by older nodes
    fairness_weight: int = 1


Question = (
    AskRun
    | AskStart
    | AskPoll
    | AskTake
    | AskCommand
    | AskUpdate
    | AwaitUpdate
    | AskQuery
    | AskFinishQuery
    | AskSchedule
    | AwaitStarts
    | AskReread
    | AskRates
)
Response = Answer | Granted | Moved | Failed | QueryAnswered | ScheduleAnswered | StartsSettled | Rated
Told = Announced | AnnouncedStarts

_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_responses: msgspec.msgpack.Decoder[Response] = msgspec.msgpack.Decoder(Response)
_offers = msgspec.msgpack.Decoder(TaskOffer)
_told: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)


def encode(message: Question | Response | TaskOffer | Told) -> bytes:
    """The wire form of any message."""
    return _encoder.encode(message)


def decode_question(data: bytes) -> Question:
    """A question from its wire form."""
    return _questions.decode(data)


def decode_response(data: bytes) -> Response:
    """A response from its wire form."""
    return _responses.decode(data)


def decode_offer(data: bytes) -> TaskOffer:
    """A dispatched task from its wire form."""
    return _offers.decode(data)


def response_or_none(done: asyncio.Future[bytes]) -> Response | None:
    """The response of an ask that has ended; None when it failed, or with something this version cannot read."""
    if done.exception() is not None:
        return None
    try:
        return _responses.decode(done.result())
    except msgspec.DecodeError:
        return None


def decode_told(data: bytes) -> Told | None:
    """What another node told, from its wire form; None for news of another version that this one does not know.

    Nothing rests on what is told: what must not be lost is a row.
    """
    try:
        return _told.decode(data)
    except msgspec.ValidationError:
        return None
