"""The bytes of one event on the wire: a complete NATS publish command with its `Nats-Msg-Id`.

Built once, also for re-sending: the acknowledgement subject names run and sequence, so it is right whichever copy it
answers.
"""

from __future__ import annotations


def frame(subject: str, acks: str, run_id: str, sequence: int, body: bytes, max_payload: int) -> tuple[bytes, bool]:
    """The command that publishes one event, and whether its body had to be left out.

    `acks`: start of the acknowledgement subjects. A body that does not fit `max_payload` bytes with its headers is left
    out (the server would end the connection); the header `Dw-Body-Omitted` tells its size.
    """
    header = f"NATS/1.0\r\nNats-Msg-Id: {run_id}:{sequence}\r\n\r\n"
    omitted = len(header) + len(body) > max_payload
    if omitted:
        header = f"{header[:-2]}Dw-Body-Omitted: {len(body)}\r\n\r\n"
        body = b""
    length = len(header)
    head = f"HPUB {subject} {acks}{run_id}.{sequence} {length} {length + len(body)}\r\n{header}"
    return b"%b%b\r\n" % (head.encode(), body), omitted


def refit(command: bytes, max_payload: int) -> tuple[bytes, bool]:
    """The same command for a server with another `max_payload`, and whether the body had to be left out now."""
    line, _, rest = command.partition(b"\r\n")
    _, subject, ack, header_length, total = line.decode().split(" ")
    if int(total) <= max_payload:
        return command, False
    acks_and_run, _, sequence = ack.rpartition(".")
    acks, _, run_id = acks_and_run.rpartition(".")
    return frame(subject, acks + ".", run_id, int(sequence), rest[int(header_length) : int(total)], max_payload)
