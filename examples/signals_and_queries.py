"""An order that waits for an approval: a signal moves it on, a query looks into it while it waits and after it is done."""

import asyncio
import os
import secrets

from durable_workflow import Client, QueryFailed, Worker, WorkflowHandle, workflow

URL = os.environ.get("DW_URL", "http://localhost:8080")
TOKEN = os.environ.get("DW_TOKEN", "dev-token")
QUEUE = "approvals"


@workflow.defn(name="approval")
class Approval:
    """What is kept in attributes is rebuilt from the history whenever the workflow is replayed."""

    def __init__(self) -> None:
        self.approved_by: list[str] = []

    @workflow.signal("approve")
    def approve(self, name: str) -> None:
        self.approved_by.append(name)

    @workflow.query("approvals")
    def approvals(self) -> list[str]:
        return self.approved_by

    def run(self, ctx, order, needed):
        enough = yield ctx.wait_condition(lambda: len(self.approved_by) >= needed, key="enough", timeout=3600)
        return {"order": order, "approved": enough, "by": self.approved_by}


async def approvals_of(handle: WorkflowHandle) -> list[str]:
    """A worker answers a query, by replaying what is recorded: also signals it was not told of yet."""
    while True:
        try:
            return (await handle.query("approvals"))["result"]
        except QueryFailed:  # the worker has not registered yet
            await asyncio.sleep(0.2)


async def main() -> None:
    async with Client(URL, token=TOKEN, namespace="default") as client:
        worker = Worker(client, task_queue=QUEUE, workflows=[Approval], shutdown_timeout=1.0)
        working = asyncio.create_task(worker.run())
        handle = await client.start_workflow(
            workflow_type="approval", task_queue=QUEUE, workflow_id=f"order-{secrets.token_hex(4)}", input=["order-42", 2]
        )
        await handle.signal("approve", ["alice"])
        print("so far:", await approvals_of(handle))
        await handle.signal("approve", ["bob"])
        print("result:", await handle.result(timeout=30.0))
        print("afterwards:", await approvals_of(handle))
        await worker.stop()
        working.cancel()


if __name__ == "__main__":
    asyncio.run(main())
