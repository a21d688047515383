"""A saga: a trip is booked step by step; when a step fails for good, what was booked before is undone, last first."""

import asyncio
import os
import secrets

from durable_workflow import ActivityFailed, Client, NonRetryableError, Worker, activity, workflow

URL = os.environ.get("DW_URL", "http://localhost:8080")
TOKEN = os.environ.get("DW_TOKEN", "dev-token")
QUEUE = "trips"


@activity.defn(name="book")
async def book(what: str) -> str:
    if what == "car":
        raise NonRetryableError("no car is left")  # anything else is tried again by the retry policy
    print("booked", what)
    return f"{what}-1"


@activity.defn(name="cancel")
async def cancel(booking: str) -> None:
    print("cancelled", booking)


@workflow.defn(name="trip")
class Trip:
    def run(self, ctx, wanted):
        booked = []
        try:
            for what in wanted:
                booked.append((yield ctx.schedule_activity("book", [what])))
        except ActivityFailed as failure:
            for booking in reversed(booked):
                yield ctx.schedule_activity("cancel", [booking])
            return {"booked": [], "because": str(failure)}
        return {"booked": booked}


async def main() -> None:
    async with Client(URL, token=TOKEN, namespace="default") as client:
        worker = Worker(client, task_queue=QUEUE, workflows=[Trip], activities=[book, cancel], shutdown_timeout=1.0)
        working = asyncio.create_task(worker.run())
        workflow_id = f"trip-{secrets.token_hex(4)}"
        handle = await client.start_workflow(
            workflow_type="trip", task_queue=QUEUE, workflow_id=workflow_id, input=[["flight", "hotel", "car"]]
        )
        print(await handle.result(timeout=60.0))
        await worker.stop()
        working.cancel()


if __name__ == "__main__":
    asyncio.run(main())
