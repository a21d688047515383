"""What the commit statement is given: for each of its parts, the columns of its arrays and where their values are taken from.

`statement` names and numbers the arrays by these lists, `arguments` fills them by the same: they cannot disagree. Every row
begins with `i`, the position of its write in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from store.columns import Column, columns_of
from store.commit.writes import MessageRow, PermitRow, ReadyTaskRow, RunIdentity, RunRow

_ATTRIBUTES = "search_attributes"


class Source(NamedTuple):
    """A column, and the attribute (`a.b`) its value is read from."""

    name: str
    kind: str
    path: str


class Given:
    """The arrays of one part: `leading` columns, then those of `sources`, in this order.

    `row(*values, each)` makes a row: the values of the leading columns, then what the sources read off `each`.
    """

    def __init__(self, leading: Sequence[Column], sources: Sequence[Source] = ()) -> None:
        self.columns = (*leading, *[Column(each.name, each.kind) for each in sources])
        names = [column.name for column in leading]
        values = ", ".join([*names, *[f"each.{source.path}" for source in sources]])
        # Compiled, as dataclasses do with their methods: `attrgetter` costs a microsecond more per write.
        self.row: Callable[..., tuple[object, ...]] = eval(f"lambda {', '.join(names)}, each: ({values},)")

    def index(self, name: str) -> int:
        """Where in a row a column stands."""
        return [column.name for column in self.columns].index(name)


def _of(row: type, under: str = "") -> list[Source]:
    """The columns of a row's dataclass, read from an object that holds it as `under`."""
    return [Source(each.name, each.kind, f"{under}{each.name}") for each in columns_of(row) if each.name != _ATTRIBUTES]


_I = Column("i", "int4")
_RUN_ID = Source("run_id", "text", "run_id")
_CHANGING = [
    *_of(RunRow, "row."),
    Source(_ATTRIBUTES, "text", "attributes_text"),
    Source("first_sequence", "int8", "first_sequence"),
    Source("history", "bytea", "history"),
    Source("leases", "bytea", "leases"),
]

CHANGE = Given([_I], [_RUN_ID, Source("version", "int8", "expected_version"), *_CHANGING])
CREATE = Given([_I, Column("kind", "int4")], [_RUN_ID, *_CHANGING, *_of(RunIdentity, "identity.")])
FIRST_RUN, NEXT_RUN, SUCCESSOR = 0, 1, 2  # `kind`: how a run comes about

READY = Given([_I], _of(ReadyTaskRow))
UNREADY = Given([_I, Column("task_id", "text")])
SENT = Given([_I], [each._replace(name="mail_id") if each.name == "message_id" else each for each in _of(MessageRow)])
RECEIVED = Given([_I, Column("mail_id", "text")])
REQUESTS = Given(
    [_I, Column("run_id", "text")], [Source(name, "text", name) for name in ("workflow_id", "request_id", "update_id")]
)
APPLIED = Given([_I], [Source("command_key", "text", "key"), Source("answer", "bytea", "answer")])
PERMITS = Given([_I], _of(PermitRow))
FREED = Given([_I, Column("scope", "text"), Column("number", "int4"), Column("run_id", "text")])
