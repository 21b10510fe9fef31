"""Who records the moments of schedules: authoring, beside every gateway, from what the shards know."""

from datetime import UTC, datetime, timedelta

import pytest

from authoring.authoring import Authoring
from authoring.problem import TryLater
from authoring.workflow_moments import due_moments
from schemas.decode import decode_activity, decode_source
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.models.active import ActiveModels, TenantSettings, WorkflowsVersion

BEGIN = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAILY = """
[[workflow]]
id = 4
name = "Daily"
trigger = { type = "time_based", cron = "0 9 * * *" }
action = { type = "send_notification", message = "x" }
"""


def shard(text=DAILY, *, version=1, last=BEGIN, zone="Europe/Berlin", number=4):
    return ActiveModels(
        settings={"acme": TenantSettings(1, zone)},
        workflows={"acme": WorkflowsVersion(version, text)},
        moments={"acme": {number: millis(last)}},
    )


def due(shards, now, recorded=None):
    return [
        (each.tenant, each.workflow_id, each.scheduled_for, each.recorded_at)
        for each in due_moments(shards, now, recorded or {})
    ]


def test_a_moment_comes_in_the_tenants_zone_and_is_recorded_when_it_has_come():
    nine = datetime(2026, 3, 21, 8, tzinfo=UTC)  # winter time
    assert due([shard()], nine - timedelta(milliseconds=1)) == []
    assert due([shard()], nine) == [("acme", 4, nine, nine)]
    assert due([shard(zone="UTC")], nine) == []


def test_of_moments_missed_while_nothing_ran_the_latest_is_recorded_once():
    now = datetime(2026, 4, 2, 6, 59, tzinfo=UTC)
    latest = datetime(2026, 4, 1, 7, tzinfo=UTC)  # summer time
    assert due([shard()], now) == [("acme", 4, latest, now)]
    assert due([shard()], now, {("acme", 4): millis(latest)}) == []
    assert due([shard(last=latest)], now) == []


def test_a_shard_that_missed_a_moment_gets_it_again():
    latest = datetime(2026, 3, 21, 8, tzinfo=UTC)
    assert due([shard(last=latest), shard()], latest + timedelta(hours=1)) != []


def test_the_newest_text_decides_wherever_some_shards_lag():
    later = shard(DAILY.replace("0 9", "0 15"), version=2, last=BEGIN + timedelta(hours=10))
    assert due([shard(), later], datetime(2026, 3, 21, 9, tzinfo=UTC)) == []
    assert due([later, shard()], datetime(2026, 3, 21, 14, tzinfo=UTC)) != []


def test_an_inactive_workflow_and_one_without_a_schedule_have_no_moments():
    now = BEGIN + timedelta(days=9)
    assert due([shard(DAILY.replace("id = 4", "id = 4\nactive = false"))], now) == []
    assert due([shard(DAILY.replace('cron = "0 9 * * *"', "days_without = 2"))], now) == []
    assert due([shard("")], now) == due([ActiveModels()], now) == due([], now) == []


@pytest.fixture
def clock():
    return [datetime(2026, 3, 21, 9, tzinfo=UTC)]


@pytest.fixture
def author(clock):
    """An author whose log is a list, and takes nothing while `closed` is set."""
    log = []

    async def append(records):
        if author.closed:
            raise TryLater("the log is away")
        log.extend(records)

    async def shards(_filter):
        return [shard()]

    author = Authoring("postgresql://nowhere", append, shards, lambda: clock[0])
    author.closed, author.log = False, log
    return author


@pytest.mark.anyio
async def test_a_moment_is_appended_once_for_both_stages_and_again_if_the_log_was_away(author, clock):
    recorded = {}
    author.closed = True
    with pytest.raises(TryLater):
        await author.record_due_moments(recorded)
    author.closed = False
    [record] = await author.record_due_moments(recorded)
    assert await author.record_due_moments(recorded) == []  # the shards have not folded it yet
    events, activity = author.log
    assert isinstance(events, Outgoing)
    assert events.topic == EVENTS
    assert decode_source(events.value) == record
    assert decode_activity(activity.value).scheduled_for == millis(datetime(2026, 3, 21, 8, tzinfo=UTC))
    clock[0] += timedelta(days=1)
    assert len(await author.record_due_moments(recorded)) == 1
