"""Follow the history of every workflow as it is recorded, from NATS JetStream: `subscribe_events.py [how many]`.

A server started with `make dev` keeps the address of its NATS in a file: `DW_NATS_URL=$(cat .dw-data/nats/url)`.
Subjects are `dw.events.<namespace>.<workflow type>.<workflow id>.<event type>`; events of a run come in order, without gaps.
"""

import asyncio
import json
import os
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

NATS_URL = os.environ.get("DW_NATS_URL", "nats://127.0.0.1:4222")
PREFIX = os.environ.get("DW_NATS_PREFIX", "dw")


async def main(how_many: int | None) -> None:
    connection = await nats.connect(NATS_URL)
    # A durable consumer (`durable="my-app"`) goes on where it was; this one reads the stream from its beginning.
    subscription = await connection.jetstream().subscribe(
        f"{PREFIX}.events.default.>",  # one namespace; `.*.*.WorkflowCompleted` behind it: ends only
        stream=f"{PREFIX}_events",
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
        manual_ack=True,
    )
    last: dict[str, int] = {}
    shown = 0
    while how_many is None or shown < how_many:
        message = await subscription.next_msg(timeout=None)
        run_id, _, sequence = message.headers["Nats-Msg-Id"].rpartition(":")
        await message.ack()
        if int(sequence) <= last.get(run_id, 0):
            continue  # the same again, after a long outage
        last[run_id] = int(sequence)
        # An event larger than NATS takes comes without its body (`Dw-Body-Omitted`) and stands in the history.
        event = json.loads(message.data) if message.data else {"event_type": message.subject.rpartition(".")[2]}
        print(run_id, sequence, event["event_type"], flush=True)
        shown += 1
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else None))
