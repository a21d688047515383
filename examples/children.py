"""A batch: one child workflow per item, all at the same time; results come back in the order of the list."""

import asyncio
import os
import secrets

from durable_workflow import Client, Worker, activity, workflow

URL = os.environ.get("DW_URL", "http://localhost:8080")
TOKEN = os.environ.get("DW_TOKEN", "dev-token")
QUEUE = "batches"


@activity.defn(name="resize")
async def resize(picture: str, width: int) -> str:
    return f"{picture}@{width}"


@workflow.defn(name="picture")
class Picture:
    """A child has a history, retries and timeouts of its own."""

    def run(self, ctx, picture):
        # a list of steps runs in parallel as well
        return (yield [ctx.schedule_activity("resize", [picture, width]) for width in (320, 640)])


@workflow.defn(name="album")
class Album:
    def run(self, ctx, pictures):
        return (yield [ctx.start_child_workflow("picture", [each], parent_close_policy="terminate") for each in pictures])


async def main() -> None:
    async with Client(URL, token=TOKEN, namespace="default") as client:
        worker = Worker(client, task_queue=QUEUE, workflows=[Album, Picture], activities=[resize], shutdown_timeout=1.0)
        working = asyncio.create_task(worker.run())
        workflow_id = f"album-{secrets.token_hex(4)}"
        handle = await client.start_workflow(
            workflow_type="album", task_queue=QUEUE, workflow_id=workflow_id, input=[["sea", "hill", "town"]]
        )
        for sizes in await handle.result(timeout=60.0):
            print(*sizes)
        await worker.stop()
        working.cancel()


if __name__ == "__main__":
    asyncio.run(main())
