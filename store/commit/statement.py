"""The statement of a group commit.

One statement of data-modifying CTEs over `unnest` arrays. Each row it is given carries `i`, the position of its write in
the batch. `changed` (compare-and-set on the version) and `created` tell which writes won; every other part stores only rows
of writes that won, so a conflict spoils one run and not the batch. All parts see the database as it was when the statement
began.

A plan is made once, perhaps for empty tables, and must serve ten million rows. So the connection of `store.commit.group`
forbids what reads whole tables, and the text leaves the planner one way only: the gates `i = ANY (ARRAY(...))` need no join;
`key = ANY (ARRAY[u.key])` can be nothing but a look-up by `u`'s row, unlike `key = u.key`; and no second index holds the key.
"""

from __future__ import annotations

from functools import cache

from store.columns import columns_of, listed
from store.commit.given import (
    APPLIED,
    CHANGE,
    CREATE,
    FREED,
    PERMITS,
    READY,
    RECEIVED,
    REQUESTS,
    SENT,
    UNREADY,
    Given,
)
from store.commit.writes import PermitRow, ReadyTaskRow, RunIdentity, RunRow
from store.sql import beside, filled

_PARTS = beside(__file__, "commit")

_SET = ",\n        "
# What the statement does not write as it is given.
_ROW = [column for column in columns_of(RunRow) if column.name != "search_attributes"]
_IDENTITY = [column for column in columns_of(RunIdentity) if column.name != "search_attributes"]
_COLUMNS = {
    "run_row": listed(_ROW),
    "run_set": listed([each for each in _ROW if each.name != "published_sequence"], "{0} = u.{0}", _SET),
    "run_identity": listed(_IDENTITY),
    "ready_task": listed(columns_of(ReadyTaskRow)),
    "ready_task_set": listed(columns_of(ReadyTaskRow)[1:], "{0} = excluded.{0}", _SET),
    "mail": listed(SENT.columns[1:]),
    "permit": listed(columns_of(PermitRow)),
}

# What keeps a write from winning besides its version.
_MAIL_IS_THERE = "AND u.i <> ALL (ARRAY(SELECT i FROM missing))"
_NOT_TAKEN = "AND u.i <> ALL (ARRAY(SELECT i FROM taken))"
_NOT_REPEATED = "AND u.i <> ALL (ARRAY(SELECT i FROM repeated))"
_NOT_OCCUPIED = "AND u.i <> ALL (ARRAY(SELECT i FROM occupied))"


@cache
def statement(creates: bool, mails: bool, requests: bool, applied: bool, permits: bool = False) -> str:
    """The commit statement, with or without the parts for creations, mail, update requests, keys of commands and permits.

    Returns one array: the positions that won.
    """
    names = ["changed", "created" if creates else "only_changed", "rows"]
    gates: list[str] = []
    groups = {"change": CHANGE, "ready": READY, "unready": UNREADY}
    if creates:
        groups["create"] = CREATE
    if mails:
        names = ["missing", *names, "mail"]
        groups |= {"sent": SENT, "received": RECEIVED}
        gates.append(_MAIL_IS_THERE)
    if requests:
        names = ["taken", *names, "requests"]
        groups["requests"] = REQUESTS
        gates.append(_NOT_TAKEN)
    if applied:
        names = ["repeated", *names, "applied"]
        groups["applied"] = APPLIED
        gates.append(_NOT_REPEATED)
    if permits:
        names = ["occupied", *names, "permits"]
        groups |= {"permits": PERMITS, "freed": FREED}
        gates.append(_NOT_OCCUPIED)
    words = {**_COLUMNS, **unnested(groups), "may_win": " ".join(gates)}
    body = ",\n".join(filled(_PARTS[name], **words) for name in names)
    return f"WITH\n{body}\nSELECT ARRAY(SELECT i FROM won)"


def unnested(groups: dict[str, Given]) -> dict[str, str]:
    """How each group of arrays is read as a table `u`; parameters are numbered through, in the order of the groups."""
    found: dict[str, str] = {}
    number = 0
    for name, given in groups.items():
        arrays = ", ".join(f"${number + k}::{column.kind}[]" for k, column in enumerate(given.columns, start=1))
        found[name] = f"unnest({arrays}) AS u({listed(given.columns)})"
        number += len(given.columns)
    return found
