"""A workflow with one activity: started, worked on and awaited by one program.

Run it beside `make dev`: `.venv/bin/python examples/quickstart.py`
"""

import asyncio
import os
import secrets

from durable_workflow import Client, Worker, activity, workflow

URL = os.environ.get("DW_URL", "http://localhost:8080")
TOKEN = os.environ.get("DW_TOKEN", "dev-token")


@activity.defn(name="greet")
async def greet(name: str) -> dict:
    return {"greeting": f"Hello, {name}!", "length": len(name)}


@workflow.defn(name="greeter")
class Greeter:
    def run(self, ctx, name):
        return (yield ctx.schedule_activity("greet", [name]))


async def main() -> None:
    async with Client(URL, token=TOKEN, namespace="default") as client:
        workflow_id = f"greeting-{secrets.token_hex(4)}"
        handle = await client.start_workflow(
            workflow_type="greeter", task_queue="greetings", workflow_id=workflow_id, input=["world"]
        )
        worker = Worker(client, task_queue="greetings", workflows=[Greeter], activities=[greet], shutdown_timeout=1.0)
        await worker.run_until(workflow_id=workflow_id, timeout=30.0)
        print(await handle.result(timeout=10.0))  # {'greeting': 'Hello, world!', 'length': 5}


if __name__ == "__main__":
    asyncio.run(main())
