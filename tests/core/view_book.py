"""What workers of a run were shown, and whether that is what they should be (contract engine-semantics 2.6, 14: 8, 19, 31)."""

from __future__ import annotations

from tests.core.harness import Event
from tests.core.step_book import RESOLUTIONS, StepBook

RECEIVERS = ("SignalReceived", "UpdateApplied")


class ViewBook:
    """Follows the snapshots of one run.

    `seen` is what completed normal tasks held. `mixed`: workers of another generation have completed tasks, so that what the
    view holds back can no longer be told from outside.
    """

    def __init__(self) -> None:
        self.views: dict[str, list[str]] = {"": [], "0.4": []}
        self.seen: set[str] = set()
        self.begun = False
        self.mixed = False

    def shown(self, events: list[Event], dialect: str, history: list[Event], steps: StepBook, updating: bool) -> None:
        """A claim was given these events."""
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1)), "1"
        order = [event["id"] for event in events]
        known = {event["id"]: event for event in history}
        assert len(set(order)) == len(order) and set(order) <= known.keys(), "8"
        for event in events:
            assert event == {**known[event["id"]], "sequence": event["sequence"]}, "12.4: an event was changed"
        # Every snapshot of a kind is a prefix of every later one.
        before = self.views[dialect]
        assert order[: len(before)] == before, "8"
        self.views[dialect] = order
        if dialect == "":
            assert order == [event["id"] for event in history], "8: plain workers see the plain history"
            return
        self._in_order(events, history, steps)
        self._held_back(events, len(before), history, steps, updating)

    def completed(self, shown: list[str], own: list[str], dialect: str, updating: bool) -> None:
        """A task was completed that had been shown this and recorded events of its own."""
        if dialect == "0.4":
            # V1: they follow what it had seen, whatever others recorded meanwhile.
            self.views["0.4"] = shown + own
        else:
            self.mixed = True
        if not updating:
            self.begun = True
            self.seen |= set(shown)

    def _in_order(self, events: list[Event], history: list[Event], steps: StepBook) -> None:
        results = [event["payload"] for event in events if event["event_type"] in RESOLUTIONS]
        order = [payload["sequence"] for payload in results]
        place = {number: at for at, number in enumerate(order)}
        for batch in steps.batches:
            places = [place.get(number) for number in batch]
            there = [each for each in places if each is not None]
            assert places[: len(there)] == sorted(there), "19: results out of step order"
        at = {event["id"]: number for number, event in enumerate(history)}
        signals = [at[event["id"]] for event in events if event["event_type"] == "SignalReceived"]
        assert signals == sorted(signals), "31: signals out of order"

    def _held_back(self, events: list[Event], before: int, history: list[Event], steps: StepBook, updating: bool) -> None:
        there = {event["id"] for event in events}
        missing = [event for event in history if event["id"] not in there]
        held = {step.resolution_id for number, step in steps.steps.items() if step.resolution_id and not steps.showable(number)}
        signals = [event["id"] for event in missing if event["event_type"] == "SignalReceived"]
        results = {event["id"] for event in missing} - set(signals)
        assert results == held - there and not held & there, "8: the view holds back more or less than V3 says"
        if self.mixed:
            return
        # V4 and V5: which signals may stand in the view, one after the other.
        unseen = 0
        never = updating or not self.begun
        for position, event in enumerate(events):
            if event["event_type"] not in RECEIVERS or event["id"] in self.seen:
                continue
            if position >= before and event["event_type"] == "SignalReceived":
                assert not never, "V4, V5: a signal was shown that must wait"
                assert steps.wait is None or unseen == 0, "V4: two inputs at once"
            unseen += 1
        assert not signals or never or (steps.wait is not None and unseen), "V2: a signal was held back without need"

    def query(self, events: list[Event], dialect: str, history: list[Event], steps: StepBook, ended_at: int | None) -> None:
        """V6: a query sees every accepted signal; on a closed run what followed its end is of no use to it."""
        order = [event["id"] for event in events]
        assert len(set(order)) == len(order)
        if dialect == "":
            assert order == [event["id"] for event in history]
            return
        assert order[: len(self.views["0.4"])] == self.views["0.4"], "V6"
        # Nobody is shown the end of a timer that was cancelled with its run, so nothing of it is held back.
        ends = {number: step.resolution_id for number, step in steps.steps.items() if step.resolved != "TimerCancelled"}
        held = {end for number, end in ends.items() if end and not steps.showable(number)}
        wanted = {event["id"] for event in history[:ended_at]} - held
        assert wanted == set(order), "V6: a query misses something"
