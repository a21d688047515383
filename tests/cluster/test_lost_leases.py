"""Leases made for another node that does not wait for them any more go back at once (architecture, rule 3)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from actors.cluster import protocol
from actors.cluster.answers import respond
from actors.cluster.protocol import Answer, Failed
from actors.errors import Unavailable
from actors.polling.polls import Polls
from actors.queue.parked_poll import Grant
from actors.run.commands.worker import ReleaseClaim
from actors.run.replies import Refused, RunReply
from bus.errors import OutcomeUnknown
from tests.cluster.asking import MakeAsk, Parking, grant, soon

pytestmark = [pytest.mark.cluster, pytest.mark.proof]


def pending() -> asyncio.Future[RunReply]:
    return asyncio.get_running_loop().create_future()


async def test_a_lease_made_for_an_asker_that_gave_up_is_taken_back() -> None:
    taken_back: list[Grant] = []
    reply = pending()
    respond(reply, taken_back.append).cancel()
    reply.set_result(grant())
    await asyncio.sleep(0)
    assert taken_back == [grant()]


async def test_what_is_no_new_lease_is_not_taken_back() -> None:
    taken_back: list[Grant] = []
    refused, failed, reread = pending(), pending(), pending()
    respond(refused, taken_back.append).cancel()
    respond(failed, taken_back.append).cancel()
    respond(reread).cancel()
    refused.set_result(Refused("not_ready"))
    failed.set_exception(Unavailable("away"))
    reread.set_result(grant())
    await asyncio.sleep(0)
    assert not taken_back


async def test_answers_say_whether_they_lease() -> None:
    claimed, refused, reread, failed = pending(), pending(), pending(), pending()
    answers = [respond(claimed, lambda _: None), respond(refused, lambda _: None), respond(reread), respond(failed)]
    claimed.set_result(grant())
    refused.set_result(Refused("not_ready"))
    reread.set_result(grant())
    failed.set_exception(Unavailable("away"))
    decoded = [protocol.decode_response(await answer) for answer in answers]
    assert decoded == [Answer(grant(), leases=True), Answer(Refused("not_ready")), Answer(grant()), Failed("away")]


class Releases:
    """A router that only notes what is released."""

    def __init__(self) -> None:
        self.released: list[ReleaseClaim] = []

    def release_claim(self, release: ReleaseClaim) -> None:
        self.released.append(release)


async def test_a_lease_that_comes_after_its_node_was_taken_for_dead_is_released(make: MakeAsk) -> None:
    """Both nodes live; the asker has given the other one up, so only it can know that nobody gets the lease."""
    (_, asker), (_, home) = await make("asker"), await make("home")
    releases, handler = Releases(), Parking()
    polls = Polls(cast(Any, None), cast(Any, None), cast(Any, releases), asker)
    asker.on_undelivered(polls.undelivered)
    home.serve(handler)
    await asyncio.sleep(0.05)
    asked = [asker.start_ask("home", b"claim", 30) for _ in range(3)]
    await handler.wait_for(3)
    asker.fail_pending("home")
    for ask in asked:
        with pytest.raises(OutcomeUnknown):
            await ask
    handler.parked[0].set_result(protocol.encode(Answer(grant("read again"))))
    handler.parked[1].set_result(protocol.encode(Answer(Refused("not_ready"))))
    handler.parked[2].set_result(protocol.encode(Answer(grant("claimed", 3), leases=True)))
    await soon(lambda: releases.released == [ReleaseClaim("claimed", "worker", 3)])
