"""/api/changes: what a tenant's readers are sent, by a real projection and a real LISTEN connection."""

import asyncio
import json
from contextlib import asynccontextmanager

import psycopg
import pytest
from msgspec import structs

from gateway import live_changes
from gateway.answers import RequestProblem
from gateway.app import create_app
from gateway.live_changes import ChangesOfTenant, Frame, LiveChanges
from schemas.statements import StageEntered
from tests.gateway.test_api import House, at, changed, lead

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def gateway(house):
    """A process of its own over the same database."""
    app = create_app(house.ports)
    async with app.router.lifespan_context(app):
        live = app.state.changes
        await until(lambda: "~" in live.page("default", None).position, "it has begun to listen")
        yield live


async def until(look, what):
    for _ in range(500):
        if look():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within ten seconds: {what}")


async def changes_after(live, tenant, position, *, count=1):
    """So many frames after the position."""
    await until(lambda: len(live.page(tenant, position).frames) >= count, "changes")
    page = live.page(tenant, position)
    return page.position, [json.loads(frame.content) for frame in page.frames]


def demo_requested(lead_id, total, previous, *, minutes=10):
    lines = [("behavior", "Asked for a demo", "points", total - previous)]
    return changed(lead_id, total, previous, lines, minutes=minutes, caused_by="event:d", band="hot")


@pytest.mark.postgres
async def test_a_reader_is_sent_what_changed_in_its_tenant_and_nothing_else(database_url):
    house = House(database_url)
    house.write(lead("ada", 10), lead("carl", 10), lead("mine", 10, tenant="other"))
    async with gateway(house) as live:
        start, others_start = (live.page(tenant, None).position for tenant in ("default", "other"))
        house.write(demo_requested("ada", 35, 10), lead("ada", 35, band="hot"))
        position, (change,) = await changes_after(live, "default", start)
        assert change["leads"] == ["ada"]
        assert change["scores"] == [
            {
                "lead_id": "ada",
                "model": "temperature",
                "at": at(10).isoformat().replace("+00:00", "Z"),
                "total": 35,
                "rounded": 35,
                "removed": False,
                "change": 25,
                "bands": {"temperature": "hot"},
                "lines": [{"group": "behavior", "rule": "Asked for a demo", "kind": "points", "points": 25}],
            }
        ]
        assert live.page("other", others_start).frames == ()
        assert not live.page("other", others_start).is_reset, "it has missed nothing of its own"
        house.write(
            StageEntered(
                statement_id="s:1", tenant="default", lead_id="carl", at=at(20), caused_by="event:d",
                stage="engaged", previous="new", reason="asked for a demo",
            )
        )  # fmt: skip
        _, (change,) = await changes_after(live, "default", position)
        assert (change["leads"], [each["stage"] for each in change["stages"]]) == (["carl"], ["engaged"])


@pytest.mark.postgres
async def test_a_reader_goes_on_with_another_process_where_it_was_and_misses_nothing(database_url):
    house = House(database_url)
    house.write(lead("ada", 10))
    async with gateway(house) as one, gateway(house) as two:
        two.page("default", None)
        start = one.page("default", None).position
        house.write(demo_requested("ada", 20, 10, minutes=1), lead("ada", 20))
        position, _ = await changes_after(one, "default", start)
        house.write(demo_requested("ada", 30, 20, minutes=2), lead("ada", 30))
        _, (change,) = await changes_after(two, "default", position)
        assert [each["total"] for each in change["scores"]] == [30]
        assert two.page("default", "start.0f0f0f0f").is_reset, "a position that nobody knows"


@pytest.mark.postgres
async def test_a_stream_sends_events_with_ids_and_ends_when_the_process_stops(database_url):
    house = House(database_url)
    house.write(lead("ada", 10))
    async with gateway(house) as live:
        stream = live.stream("default", None)
        assert [await anext(stream) for _ in range(2)] == [
            b"retry: 1000\n\n",
            f"id: {live.page('default', None).position}\nevent: reset\ndata: {{}}\n\n".encode(),
        ]
        house.write(demo_requested("ada", 35, 10), lead("ada", 35))
        async with asyncio.timeout(10):
            identified, event, data, *_ = (await anext(stream)).decode().split("\n")
        assert identified == f"id: {live.page('default', None).position}"
        assert event == "event: changes"
        assert json.loads(data.removeprefix("data: "))["leads"] == ["ada"]
        live.end()
        async with asyncio.timeout(2):
            assert [each async for each in stream] == []


@pytest.mark.postgres
async def test_what_changes_too_much_at_once_is_read_again_as_a_whole(database_url):
    house = House(database_url)
    async with gateway(house) as live:
        start = live.page("default", None).position
        house.write(*(lead(f"lead-{number}", number) for number in range(700)))
        await until(lambda: live.page("default", start).is_reset, "a reset")


@pytest.mark.postgres
async def test_a_new_message_of_a_workflow_is_sent(database_url):
    from delivery.notifications import _NOTIFY
    from projections.worker import CHANGES_CHANNEL

    house = House(database_url)
    house.write(lead("ada", 10))
    async with gateway(house) as live:
        start = live.page("default", None).position
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "insert into public.notifications (tenant, execution_id, lead_id, workflow_id, title, message, created_at) "
                "values ('default', 7, 'ada', 1, 'Call Ada', 'She asked for a demo.', %s)",
                (at(5),),
            )
            connection.execute(_NOTIFY, (CHANGES_CHANNEL, '{"notification":["default",7]}'))
        _, (change,) = await changes_after(live, "default", start)
        assert [(each["id"], each["title"]) for each in change["notifications"]] == [(7, "Call Ada")]


def frame(turn, size=2):
    return Frame(turn, f"p{turn}", b"x" * size)


def test_what_is_kept_of_a_tenant_is_bounded_and_a_reader_of_what_fell_out_reads_all_again():
    kept = ChangesOfTenant(complete_since=3)
    for turn in range(4, 4 + live_changes.MOST_FRAMES + 2):
        kept.add(frame(turn))
    assert len(kept.frames) == live_changes.MOST_FRAMES
    assert [kept.after(turn) is None for turn in (3, 4, 5, 6)] == [True, True, False, False]
    assert [each.turn for each in kept.after(1026)] == [1027, 1028, 1029]
    kept.add(frame(2000, size=live_changes.MOST_FRAME_BYTES))
    assert [each.turn for each in kept.frames] == [2000]
    kept.clear(2001)
    assert (kept.after(2000), kept.after(2001)) == (None, [])


async def test_too_many_readers_are_refused():
    live = LiveChanges(None, None)
    readers = [live.stream("default", None) for _ in range(live_changes.MOST_READERS_OF_TENANT)]
    for reader in readers:
        await anext(reader)
    with pytest.raises(RequestProblem, match="too many"):
        live.stream("default", None)
    await readers.pop().aclose()
    assert await anext(live.stream("default", None)) == b"retry: 1000\n\n"
    for reader in readers:
        await reader.aclose()


@pytest.mark.postgres
async def test_a_score_that_is_taken_back_is_sent_as_removed_and_not_as_a_fall_to_0(database_url):
    house = House(database_url)
    house.write(lead("ada", 35))
    async with gateway(house) as live:
        start = live.page("default", None).position
        lines = [("behavior", "Asked for a demo", "points", -35)]
        taken_back = changed("ada", 0, 35, lines, minutes=10, caused_by="event:d", band=None)
        house.write(structs.replace(taken_back, removed=True), lead("ada", 0))
        _, (change,) = await changes_after(live, "default", start)
        (score,) = change["scores"]
        assert (score["removed"], score["total"], score["rounded"]) == (True, None, None)
        assert score["change"] == -35, "the ledger adds up"
