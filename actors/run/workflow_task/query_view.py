"""What a query is shown of a run (contract engine-semantics 7.4, rule V6): nothing changes by looking."""

from __future__ import annotations

from actors.run.commands.control import ReadForQuery
from actors.run.replies import QueryView
from actors.run.transition import Transition
from actors.run.workflow_task import lease


def view(tx: Transition, command: ReadForQuery) -> QueryView:
    """The complete history as a worker of the asking dialect must see it now, every accepted signal included."""
    state = tx.state
    events, count = tx.dialect.for_query(state, tx.history, command.dialect)
    return QueryView(
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        workflow_type=state.workflow_type,
        payload_codec=state.payload_codec,
        arguments=lease.run_arguments(tx),
        run_status=state.status,
        task_queue=state.task_queue,
        compatibility=state.compatibility,
        last_history_sequence=count,
        history_events=events,
    )
