"""The grammar of list queries (operations 5.2), and nothing but the grammar: what names mean is `actors.visibility.meaning`'s.

    expr    := term { OR term }            term   := factor { AND factor }
    factor  := [NOT] ( '(' expr ')' | pred )
    pred    := name op value | name [NOT] IN '(' value {',' value} ')' | name BETWEEN value AND value
             | name STARTS_WITH string | name IS [NOT] NULL

A recursive-descent parser; positions count the characters of the query from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

MOST_VALUES = 200
DEEPEST = 32


class QuerySyntaxError(ValueError):
    """The text is no query. `at`: where that shows."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(text)
        self.at = at


class QueryTooLarge(ValueError):
    """A query with more parts than one may have. `at`: the first too many."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(text)
        self.at = at


@dataclass(frozen=True, slots=True)
class Value:
    """A literal and where it stands."""

    value: str | int | Decimal | bool
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """name op value; `at`: of the operator."""

    name: str
    op: str
    value: Value
    at: int


@dataclass(frozen=True, slots=True)
class Among:
    """name [NOT] IN (values); `at`: of IN."""

    name: str
    values: tuple[Value, ...]
    negated: bool
    at: int


@dataclass(frozen=True, slots=True)
class Between:
    """name BETWEEN low AND high; `at`: of BETWEEN."""

    name: str
    low: Value
    high: Value
    at: int


@dataclass(frozen=True, slots=True)
class StartsWith:
    """name STARTS_WITH string; `at`: of STARTS_WITH."""

    name: str
    start: Value
    at: int


@dataclass(frozen=True, slots=True)
class IsNull:
    """name IS [NOT] NULL."""

    name: str
    negated: bool


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    part: Query


Query = Comparison | Among | Between | StartsWith | IsNull | And | Or | Negation

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<name>[A-Za-z][A-Za-z0-9_]*)
    | `(?P<quoted>[^`]+)`
    | (?P<number>[+-]?[0-9]{1,64}(?:\.[0-9]{1,64})?(?![\w.]))
    | (?P<op><=|>=|!=|[=<>])
    | (?P<mark>[(),])
    | "(?P<double>(?:[^"\\]|\\.|"")*)"
    | '(?P<single>(?:[^'\\]|\\.|'')*)'
    """,
    re.VERBOSE | re.DOTALL,
)
# a character after a backslash is itself, a doubled quote is one
_ESCAPED = {
    "double": re.compile(r'\\(.)|(")"', re.DOTALL),
    "single": re.compile(r"\\(.)|(')'", re.DOTALL),
}
_WORDS = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN", "STARTS_WITH", "IS", "NULL", "TRUE", "FALSE"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word, name, number, text, op, mark, end
    text: str
    at: int


def parse(text: str) -> Query:
    """The query a text is. Raises QuerySyntaxError when it is none, QueryTooLarge when it is more than one may be."""
    parser = _Parser(_tokens(text))
    found = parser.expression()
    parser.end()
    return found


def _tokens(text: str) -> list[_Token]:
    found = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QuerySyntaxError("unexpected character", at)
        kind, value = match.lastgroup or "", match[match.lastgroup or 0]
        if kind == "name" and value.upper() in _WORDS:
            found.append(_Token("word", value.upper(), at))
        elif kind in ("name", "quoted"):
            found.append(_Token("name", value, at))
        elif kind in _ESCAPED:
            found.append(_Token("text", _ESCAPED[kind].sub(lambda escaped: escaped[1] or escaped[2], value), at))
        elif kind != "space":
            found.append(_Token(kind, value, at))
        at = match.end()
    found.append(_Token("end", "", len(text)))
    return found


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._values = 0

    def expression(self) -> Query:
        parts = [self._term()]
        while self._word("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def end(self) -> None:
        self._take("end")

    def _term(self) -> Query:
        parts = [self._factor()]
        while self._word("AND"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _factor(self) -> Query:
        if self._word("NOT"):
            return Negation(self._unit())
        return self._unit()

    def _unit(self) -> Query:
        opened = self._here()
        if not self._mark("("):
            return self._predicate()
        self._depth += 1
        if self._depth > DEEPEST:
            raise QueryTooLarge(f"more than {DEEPEST} levels of parentheses", opened.at)
        found = self.expression()
        self._take("mark", ")")
        self._depth -= 1
        return found

    def _predicate(self) -> Query:
        name = self._take("name").text
        token = self._here()
        if token.kind == "op":
            self._next += 1
            return Comparison(name, token.text, self._value(), token.at)
        if self._word("IS"):
            negated = self._word("NOT")
            self._take("word", "NULL")
            self._count(token.at)
            return IsNull(name, negated)
        if self._word("BETWEEN"):
            low = self._value()
            self._take("word", "AND")
            return Between(name, low, self._value(), token.at)
        if self._word("STARTS_WITH"):
            if self._here().kind != "text":
                raise QuerySyntaxError("expected a string", self._here().at)
            return StartsWith(name, self._value(), token.at)
        negated = self._word("NOT")
        self._take("word", "IN")
        self._take("mark", "(")
        values = [self._value()]
        while self._mark(","):
            values.append(self._value())
        self._take("mark", ")")
        return Among(name, tuple(values), negated, token.at)

    def _value(self) -> Value:
        token = self._here()
        self._count(token.at)
        self._next += 1
        if token.kind == "text":
            return Value(token.text, token.at)
        if token.kind == "number":
            return Value(Decimal(token.text) if "." in token.text else int(token.text), token.at)
        if token.kind == "word" and token.text in ("TRUE", "FALSE"):
            return Value(token.text == "TRUE", token.at)
        raise QuerySyntaxError("expected a value", token.at)

    def _count(self, at: int) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise QueryTooLarge(f"more than {MOST_VALUES} values", at)

    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _word(self, word: str) -> bool:
        return self._accept("word", word)

    def _mark(self, mark: str) -> bool:
        return self._accept("mark", mark)

    def _accept(self, kind: str, text: str) -> bool:
        token = self._here()
        if token.kind != kind or token.text != text:
            return False
        self._next += 1
        return True

    def _take(self, kind: str, text: str = "") -> _Token:
        token = self._here()
        if token.kind != kind or (text and token.text != text):
            raise QuerySyntaxError(f"expected {text or kind}", token.at)
        self._next += 1
        return token
