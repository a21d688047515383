"""Variables that make no difference, and why (configuration-and-security 6.2 to 6.6).

Those of `IGNORED` are for something this server does otherwise; those with `Entry.not_yet` wait for what they are about.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.config.entry import BOOL, PATH, SERVER_ALIAS, TEXT, WORDS, WORKFLOW_ALIAS, Entry, Reader, Treatment, whole

IGNORED = (
    Entry(
        "DW_TASK_DISPATCH_MODE", TEXT, None, "tasks always wait for polls", "WORKFLOW_V2_TASK_DISPATCH_MODE", Treatment.IGNORED
    ),
    Entry(
        "DW_WORKER_POLL_SIGNAL_CHECK_INTERVAL_MS",
        whole(1),
        100,
        "wake-ups are pushed",
        f"{SERVER_ALIAS}WORKER_POLL_SIGNAL_CHECK_INTERVAL_MS",
        Treatment.IGNORED,
    ),
    Entry(
        "DW_POLLING_CACHE_PATH", PATH, None, "polls need no file cache", f"{SERVER_ALIAS}POLLING_CACHE_PATH", Treatment.IGNORED
    ),
    Entry(
        "DW_V2_SUPPORTED_COMPATIBILITIES",
        WORDS,
        (),
        "workers are matched by their build id",
        f"{WORKFLOW_ALIAS}V2_SUPPORTED_COMPATIBILITIES",
        Treatment.IGNORED,
    ),
    Entry(
        "DW_V2_COMPATIBILITY_NAMESPACE",
        TEXT,
        None,
        "the request's namespace is used",
        f"{WORKFLOW_ALIAS}V2_COMPATIBILITY_NAMESPACE",
        Treatment.IGNORED,
    ),
    Entry(
        "DW_V2_PIN_TO_RECORDED_FINGERPRINT",
        BOOL,
        True,
        "no workflow code runs in the server",
        f"{WORKFLOW_ALIAS}V2_PIN_TO_RECORDED_FINGERPRINT",
        Treatment.IGNORED,
    ),
    Entry(
        "DW_V2_GUARDRAILS_BOOT",
        TEXT,
        "warn",
        "no workflow code runs in the server",
        f"{WORKFLOW_ALIAS}V2_GUARDRAILS_BOOT",
        Treatment.IGNORED,
    ),
    Entry("DW_V2_TASK_DISPATCH_MODE", TEXT, "queue", "tasks always wait for polls", None, Treatment.IGNORED),
    Entry("DW_SERIALIZER", TEXT, "avro", "new runs always use avro", "WORKFLOW_SERIALIZER", Treatment.IGNORED),
)


def without_effect(reader: Reader, table: Sequence[Entry]) -> dict[str, str]:
    """The variables that are given and make no difference, under the names they are given by, with the reason."""
    found: dict[str, str] = {}
    for entry in table:
        why, name = entry.without_effect, reader.name_of(entry)
        if why is None or name is None or (entry.name == "DW_SERIALIZER" and reader.text(name) == entry.default):
            continue  # 6.6: nothing is said of the serializer that is used anyway
        found[name] = why
    return found
