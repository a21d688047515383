"""Writes the pages that are made from tables: `make docs`, or `python -m tests.docs.generate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from actors.run.events.catalogue import GROUPS as EVENTS
from actors.run.events.keys import KEYS
from base.observability.actions import ACTIONS, FIELDS, LOGGERS
from base.observability.metrics import INSTRUMENTS
from node.config import GROUPS
from node.config.entry import Entry, Treatment, entries_of
from node.config.ignored import IGNORED
from node.config.server import PROJECT_ROOT

DOCS = Path(__file__).parents[2] / "docs"
NOTICE = "<!-- Made by `make docs`. Change {source} instead. -->"

CONFIGURATION = """# Configuration

{notice}

A process reads its environment once, at its start. A variable that is not set falls back to its older name, then to its
default; `null`, `empty` and empty text count as unset. A value of the wrong type leaves the default in force. Numbers outside
their range are clamped. Rules: configuration-and-security 6.1 in [the contract](contract/configuration-and-security.md).

Effect:

{effects}
- *not yet*: read, and nothing follows from it so far, because [what it is about](features.md) is not there or done otherwise.

A server says at its start, one line each, which of the variables it was given have no effect, which older names it was given,
and which names beginning with `DW_` it does not know. `dw-server env-audit` says the same and more without a start (`--json`
for programs; `--strict` exits with 1 when a name is unknown, old, or has a value of the wrong type). With
`DW_ENV_AUDIT_STRICT=1` no command starts then. [.env.example](../.env.example) lists every variable that has an effect.
"""

EVENTS_PAGE = """# History events

{notice}

What a run records, in the order it happened. Each event has `id`, `sequence` (1, 2, 3 ... without a gap), `event_type`,
`namespace`, `workflow_task_id` and `workflow_command_id` (null when it has none), the time it was recorded, and a `payload`
with the keys below. A key whose value is null is left out, so readers treat absent and null alike; they must tolerate types
and keys they do not know. What is recorded when and in which order: engine-semantics 2 in
[the contract](contract/engine-semantics.md).

The event stream carries the same events: [design/event-stream.md](design/event-stream.md). Times are ISO 8601 in UTC with six
digits of a second; payloads of the workflow (`arguments`, `result`, `output`) are opaque to the server.
"""

OBSERVABILITY = """# Log and metrics

{notice}

A node writes to standard error, one line for each thing that happened and none per request. `LOG_LEVEL` says from which
severity on, `DW_LOG_FORMAT` how: `text` is a sentence for people, `json` an object with `time` (UTC), `level`, `logger`,
`message` (the sentence), `node`, `action`, the fields of the action, and `exception` with the stack of a fault. Sentences may
change, actions and fields stay. What the command line says before and around the node (`note: ...`, `... is ready on ...`) is
text in either form.
"""

METRICS = """## Metrics

What is measured, and can be collected: code is handed a `Metrics` (`base/observability/metrics.py`), which by
default keeps nothing. There is no exporter yet.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(entry: Entry) -> str:
    if entry.name == "DW_SERVER_ID":
        return "the host's name"
    if callable(entry.default):
        return "as another variable says"
    value = entry.default
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    # what lies beside the program is somewhere else on every machine
    return f"`{str(value).removeprefix(f'{PROJECT_ROOT}/')}`"


def _row(entry: Entry) -> str:
    alias = f"`{entry.alias}`" if entry.alias else ""
    about = entry.about[:1].upper() + entry.about[1:]
    if entry.not_yet:
        about += f" ({entry.not_yet})"
    cells = (
        f"`{entry.name}`",
        entry.kind.name,
        _default(entry),
        about,
        "not yet" if entry.not_yet else entry.treatment.word,
        alias,
    )
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _table(title: str, about: str, entries: list[Entry]) -> str:
    head = "| variable | type | default | meaning | effect | older name |\n| --- | --- | --- | --- | --- | --- |"
    return "\n".join([f"## {title}", "", about, "", head, *map(_row, entries)])


def _groups() -> Iterator[tuple[str, str, list[Entry]]]:
    """Title, meaning and rows of each group of variables."""
    for group in GROUPS:
        title = "".join(
            f" {letter}" if letter.isupper() else letter for letter in group.__name__.removesuffix("Config")
        ).strip()
        about = (group.__doc__ or "").strip().splitlines()[0]
        yield title.capitalize(), about, [entry for _, entry in entries_of(group)]


def configuration() -> str:
    """docs/configuration.md."""
    effects = "\n".join(f"- *{each.word}*: {each.meaning};" for each in Treatment)
    parts = [CONFIGURATION.format(notice=NOTICE.format(source="node/config/"), effects=effects)]
    parts += [_table(title, about, entries) + "\n" for title, about, entries in _groups()]
    parts.append(_table("Without effect", "Recognised, and used by nothing.", list(IGNORED)) + "\n")
    return "\n".join(parts)


def events() -> str:
    """docs/events.md."""
    parts = [EVENTS_PAGE.format(notice=NOTICE.format(source="actors/run/events/"))]
    for title, members in EVENTS.items():
        lines = [f"## {title}", "", "| event | recorded when | keys |", "| --- | --- | --- |"]
        lines += [f"| {each.name} | {each.when} | {', '.join(f'`{key}`' for key in each.keys)} |" for each in members]
        parts.append("\n".join(lines) + "\n")
    keys = [f"| `{key}` | {_cell(meaning)} |" for key, meaning in KEYS.items()]
    parts.append("\n".join(["## Keys", "", "| key | meaning |", "| --- | --- |", *keys]) + "\n")
    return "\n".join(parts)


def observability() -> str:
    """docs/observability.md."""
    parts = [OBSERVABILITY.format(notice=NOTICE.format(source="base/observability/"))]
    for logger, about in LOGGERS.items():
        rows = [
            f"| `{each.name}` | {each.level} | {each.about} | {', '.join(f'`{field}`' for field in each.fields)} |"
            for each in ACTIONS
            if each.logger == logger
        ]
        head = ["| action | level | meaning | fields |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {logger}", "", f"{about[0].upper()}{about[1:]}.", "", *head, *rows]) + "\n")
    fields = [f"| `{field}` | {meaning} |" for field, meaning in FIELDS.items()]
    parts.append("\n".join(["## Fields", "", "| field | meaning |", "| --- | --- |", *fields]) + "\n")
    rows = [
        f"| `{each.name}` | {each.kind} | {each.unit} | {', '.join(f'`{label}`' for label in each.labels)} | {each.about} |"
        for each in INSTRUMENTS
    ]
    head = ["| name | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    parts.append("\n".join([METRICS, *head, *rows]) + "\n")
    return "\n".join(parts)


ENVIRONMENT = """# Every variable of the server that has an effect, with its default. Made by `make docs` out of node/config/.
# Meanings and types in full: docs/configuration.md. `dw-server env-audit` checks an environment.
"""


def _line(entry: Entry) -> str:
    beside_the_program = str(entry.default).startswith(str(PROJECT_ROOT))
    if entry.kind.name == "secret" or callable(entry.default) or entry.default is None or beside_the_program:
        return f"# {entry.name}="
    return f"# {entry.name}={_default(entry).strip('`')}"


def environment_example() -> str:
    """.env.example: nothing in it is set."""
    parts = [ENVIRONMENT]
    for title, about, entries in _groups():
        rows = [entry for entry in entries if entry.without_effect is None]
        lines = [f"# {entry.about[:1].upper()}{entry.about[1:]}\n{_line(entry)}" for entry in rows]
        if rows:
            parts.append("\n".join([f"# -- {title}: {about}", *lines]) + "\n")
    return "\n".join(parts)


PAGES = {
    "configuration.md": configuration,
    "events.md": events,
    "observability.md": observability,
    "../.env.example": environment_example,
}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
