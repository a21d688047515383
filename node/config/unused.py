"""Variables that are recognised and have no effect, with what to say about them (configuration-and-security 6.2 to 6.6)."""

from __future__ import annotations

from node.config.entry import BOOL, PATH, SERVER_ALIAS, TEXT, WORDS, WORKFLOW_ALIAS, Entry, whole

UNUSED = (
    Entry("DW_TASK_DISPATCH_MODE", TEXT, None, "tasks always wait for polls", "WORKFLOW_V2_TASK_DISPATCH_MODE", "I"),
    Entry(
        "DW_WORKER_POLL_SIGNAL_CHECK_INTERVAL_MS",
        whole(1),
        100,
        "wake-ups are pushed",
        f"{SERVER_ALIAS}WORKER_POLL_SIGNAL_CHECK_INTERVAL_MS",
        "I",
    ),
    Entry("DW_POLLING_CACHE_PATH", PATH, None, "polls need no file cache", f"{SERVER_ALIAS}POLLING_CACHE_PATH", "I"),
    Entry(
        "DW_V2_SUPPORTED_COMPATIBILITIES",
        WORDS,
        (),
        "workers are matched by their build id",
        f"{WORKFLOW_ALIAS}V2_SUPPORTED_COMPATIBILITIES",
        "I",
    ),
    Entry(
        "DW_V2_COMPATIBILITY_NAMESPACE",
        TEXT,
        None,
        "the request's namespace is used",
        f"{WORKFLOW_ALIAS}V2_COMPATIBILITY_NAMESPACE",
        "I",
    ),
    Entry(
        "DW_V2_PIN_TO_RECORDED_FINGERPRINT",
        BOOL,
        True,
        "no workflow code runs in the server",
        f"{WORKFLOW_ALIAS}V2_PIN_TO_RECORDED_FINGERPRINT",
        "I",
    ),
    Entry(
        "DW_V2_GUARDRAILS_BOOT", TEXT, "warn", "no workflow code runs in the server", f"{WORKFLOW_ALIAS}V2_GUARDRAILS_BOOT", "I"
    ),
    Entry("DW_V2_TASK_DISPATCH_MODE", TEXT, "queue", "tasks always wait for polls", None, "I"),
    Entry("DW_SERIALIZER", TEXT, "avro", "new runs always use avro", "WORKFLOW_SERIALIZER", "I"),
)
