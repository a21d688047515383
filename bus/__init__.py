"""NATS: asks between nodes, task dispatch, the event stream, broadcasts; it holds no truth (architecture, rule 7)."""
