"""A loop without an end to its history: every few rounds the run continues as a new one under the same workflow id."""

import asyncio
import os
import secrets

from durable_workflow import Client, ContinueAsNew, Worker, activity, workflow

URL = os.environ.get("DW_URL", "http://localhost:8080")
TOKEN = os.environ.get("DW_TOKEN", "dev-token")
QUEUE = "counters"
ROUNDS_PER_RUN = 3


@activity.defn(name="read-meter")
async def read_meter(number: int) -> int:
    return number * number


@workflow.defn(name="meter")
class Meter:
    def run(self, ctx, rounds, done=0, total=0):
        for _ in range(min(ROUNDS_PER_RUN, rounds - done)):
            total += yield ctx.schedule_activity("read-meter", [done])
            yield ctx.start_timer(0)  # an hour in real life: a timer survives every restart
            done += 1
        if done < rounds:
            return ContinueAsNew(arguments=[rounds, done, total])
        return {"rounds": done, "total": total}


async def main() -> None:
    async with Client(URL, token=TOKEN, namespace="default") as client:
        worker = Worker(client, task_queue=QUEUE, workflows=[Meter], activities=[read_meter], shutdown_timeout=1.0)
        working = asyncio.create_task(worker.run())
        workflow_id = f"meter-{secrets.token_hex(4)}"
        await client.start_workflow(workflow_type="meter", task_queue=QUEUE, workflow_id=workflow_id, input=[8])
        # The handle of the start stands for the first run; this one for the newest.
        handle = client.get_workflow_handle(workflow_id)
        print(await handle.result(timeout=60.0))
        for run in (await client.list_workflow_runs(workflow_id)).runs:
            print("run", run.run_number, run.status)
        await worker.stop()
        working.cancel()


if __name__ == "__main__":
    asyncio.run(main())
