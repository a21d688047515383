"""A report by the clock: a schedule that is backfilled, fired by hand, and then fires by itself until its runs are used up."""

import asyncio
import os
import secrets

from durable_workflow import Client, ScheduleAction, ScheduleNotFound, ScheduleSpec, Worker, workflow

URL = os.environ.get("DW_URL", "http://localhost:8080")
TOKEN = os.environ.get("DW_TOKEN", "dev-token")
QUEUE = "reports"


@workflow.defn(name="monthly-report")
class MonthlyReport:
    def run(self, ctx, team):
        return f"report for {team}"


async def main() -> None:
    async with Client(URL, token=TOKEN, namespace="default") as client:
        worker = Worker(client, task_queue=QUEUE, workflows=[MonthlyReport], shutdown_timeout=1.0)
        working = asyncio.create_task(worker.run())
        schedule = await client.create_schedule(
            schedule_id=f"monthly-{secrets.token_hex(4)}",
            spec=ScheduleSpec(cron_expressions=["0 6 1 * *"], timezone="Europe/Berlin"),
            action=ScheduleAction(workflow_type="monthly-report", task_queue=QUEUE, input=["sales"]),
            overlap_policy="allow_all",
            max_runs=6,
        )

        # What it would have done in the first quarter.
        missed = await schedule.backfill(start_time="2026-01-01T00:00:00Z", end_time="2026-04-01T00:00:00Z")
        for fire in missed.results:
            print(fire["fire_time"], fire["outcome"])

        # Once more, now.
        fired = await schedule.trigger()
        handle = client.get_workflow_handle(fired.workflow_id)
        print(fired.outcome, "->", await handle.result(timeout=60.0))

        # From here on every second, for as many runs as are left.
        await schedule.update(spec=ScheduleSpec(intervals=[{"every": "PT1S"}]), note="in a hurry")
        try:
            while True:
                await schedule.describe()
                await asyncio.sleep(0.2)
        except ScheduleNotFound:
            print("six runs, and it is gone")

        # Its audit history stays.
        print(*[event.event_type.removeprefix("Schedule") async for event in schedule.iter_history()])
        await worker.stop()
        working.cancel()


if __name__ == "__main__":
    asyncio.run(main())
