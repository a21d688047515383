"""Lists and counts of runs by filter (control-plane 5.3, operations 5.1 and 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from actors.run.views.status_buckets import BUCKETS
from actors.visibility.grammar import QueryTooLarge
from actors.visibility.meaning import IllTyped, condition_of
from api.control.workflows.views import list_item
from api.http import page_tokens
from api.http.errors import ValidationFailed
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from store.visibility import listing
from store.visibility.conditions import All, Condition, InBucket, Text


@dataclass(frozen=True, slots=True)
class _Filters:
    """The filters as sent; all that are there must be fulfilled."""

    workflow_type: str | None
    bucket: str | None
    query: str | None

    async def condition(self, request: Request) -> Condition | None:
        """What they ask for, None for every run. Raises ValidationFailed for a query that no run can answer."""
        parts: list[Condition] = []
        if self.workflow_type is not None:
            parts.append(Text("workflow_type", "=", self.workflow_type))
        if self.bucket is not None:
            parts.append(InBucket(self.bucket))
        if self.query is not None:
            types = await request.services.attribute_types.of(request.namespace)
            try:
                parts.append(condition_of(self.query, types))
            except (IllTyped, QueryTooLarge) as error:
                text = f"The query field is not valid at character {error.at + 1}: {error}."
                raise ValidationFailed({"query": [text]}) from error
        return All(tuple(parts)) if parts else None


def _filters(fields: Fields) -> _Filters:
    bucket = fields.choice("status", tuple(BUCKETS))
    return _Filters(fields.text("workflow_type", longest=None), bucket, fields.text("query", longest=None))


async def list_(request: Request) -> Response:
    """GET /api/workflows: runs, newest first."""
    fields = Fields(dict(request.query()))
    filters = _filters(fields)
    size = fields.integer("page_size", low=1, high=200, default=50) or 50
    fields.check()
    condition = await filters.condition(request)
    named = (filters.workflow_type, filters.bucket, filters.query)
    tokens = page_tokens.ListTokens(listing.Position, "workflows", request.namespace, *named)
    after = tokens.decode(fields.data.get("next_page_token"))
    # A page of everything costs little wherever it is; a filter may have to look at every run.
    db = request.services.db if condition is None else request.services.searches
    found = await searched(listing.listing(db, request.namespace, condition, after=after, limit=size + 1))
    page = found[:size]
    token = tokens.encode((page[-1].started_at, page[-1].run_id)) if len(found) > size else None
    items = [list_item(item) for item in page]
    return Response(200, {"workflows": items, "workflow_count": len(items), "next_page_token": token})


async def count(request: Request) -> Response:
    """GET /api/workflows/count: how many runs a list with these filters has in all."""
    fields = Fields(dict(request.query()))
    filters = _filters(fields)
    fields.check()
    condition = await filters.condition(request)
    found = await searched(listing.count(request.services.searches, request.namespace, condition))
    return Response(200, {"count": found})
