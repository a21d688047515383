"""Long pages of views made a moment ago: the next task of a long run begins with the same ones."""

from __future__ import annotations

from collections import OrderedDict

from actors.run.dialect import number

_KEPT_BYTES = 32 * 1024 * 1024
_LEAST_EVENTS = 100

Slices = list[tuple[int, int]]  # of a history, by index


class PageCache:
    """Serialized pages, the ones used last up to a sum of bytes."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[object, ...], tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0

    def page(self, run_id: str, history: list[bytes], after: int, slices: Slices) -> bytes:
        """The events at `slices` of `history`, numbered from `after` + 1: a serialized JSON array."""
        if sum(stop - start for start, stop in slices) < _LEAST_EVENTS:
            return _made(history, after, slices)
        # A transition that failed to commit may have been shown, too: its events have the same places, but not the same text,
        # and the newest event of a page cannot be the same where an earlier one is not.
        newest = history[max(stop for _, stop in slices) - 1]
        key = (run_id, after, *slices)
        known = self._pages.get(key)
        if known is not None and known[0] == newest:
            self._pages.move_to_end(key)
            return known[1]
        page = _made(history, after, slices)
        if len(page) <= _KEPT_BYTES // 4:
            self._bytes += len(page) - (0 if known is None else len(known[1]))
            self._pages[key] = (newest, page)
            self._pages.move_to_end(key)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._pages.popitem(last=False)[1][1])
        return page


def _made(history: list[bytes], after: int, slices: Slices) -> bytes:
    return number([line for start, stop in slices for line in history[start:stop]], after + 1)
