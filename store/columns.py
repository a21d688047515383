"""The columns of a table, written once: a dataclass whose fields are named like them. A new column is a field and a migration.

The type of a column follows from the field's: `str` is text, `bytes` bytea; integers say how long they are (`Int4`, `Int8`),
JSON what the program holds of it (`Json`: the value; `JsonText`: its serialized bytes, which nobody looks into).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import orjson

T = TypeVar("T")

Int4 = Annotated[int, "int4"]
Int8 = Annotated[int, "int8"]
Json = Annotated[dict[str, Any], "json"]
JsonText = Annotated[bytes, "json text"]

_KINDS = {str: "text", bytes: "bytea", bool: "bool", list[str]: "text[]"}


class Column(NamedTuple):
    """A column: its name and its type in Postgres; `json text` is json that is read and written as bytes."""

    name: str
    kind: str


def columns_of(row: type) -> tuple[Column, ...]:
    """The columns a dataclass stands for, in order."""
    hints = get_type_hints(row, include_extras=True)
    return tuple(Column(field.name, _kind(hints[field.name])) for field in dataclasses.fields(row))


def _kind(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return str(hint.__metadata__[0])
    if hint in _KINDS:
        return _KINDS[hint]
    (one,) = [each for each in get_args(hint) if each is not NoneType]  # `X | None`: a column that may be null
    return _kind(one)


def listed(columns: Iterable[Column], form: str = "{0}", joint: str = ", ") -> str:
    """The names of columns as a list in SQL; `form` says how each stands there, for example `{0} = excluded.{0}`."""
    return joint.join(form.format(column.name) for column in columns)


class Table(Generic[T]):
    """Reads and writes rows as instances of a dataclass, by position.

    `names`: the columns, as SELECT and INSERT list them. `read` takes a row with these columns, `arguments` gives their values.
    """

    def __init__(self, row: type[T]) -> None:
        self.columns = columns_of(row)
        self.names = listed(self.columns)
        self.parameters = ", ".join(f"${number}" for number in range(1, len(self.columns) + 1))
        self._make: Callable[..., T] = row
        self._values: Callable[[T], tuple[Any, ...]] = attrgetter(*[column.name for column in self.columns])
        self._json = [(k, *_CODECS[column.kind]) for k, column in enumerate(self.columns) if column.kind in _CODECS]

    def read(self, row: Iterable[Any]) -> T:
        """The instance of a row."""
        if not self._json:
            return self._make(*row)
        values = list(row)
        for k, load, _ in self._json:
            if values[k] is not None:
                values[k] = load(values[k])
        return self._make(*values)

    def arguments(self, instance: T) -> tuple[Any, ...]:
        """The values of an instance, for as many parameters."""
        if not self._json:
            return self._values(instance)
        values = list(self._values(instance))
        for k, _, dump in self._json:
            if values[k] is not None:
                values[k] = dump(values[k])
        return tuple(values)

    def all_but(self, *names: str) -> list[Column]:
        """The columns without those named."""
        return [column for column in self.columns if column.name not in names]


def json_text(value: Any) -> str:
    """JSON as the driver takes it."""
    return orjson.dumps(value).decode()


_CODECS: dict[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    "json": (orjson.loads, json_text),
    "json text": (str.encode, bytes.decode),
}
