"""A worker reads CRMs on this machine: what comes back, once, however the CRM misbehaves and whenever the worker is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from crm_readings import NOON, SECRET, Reading, channel, empty
from hypothesis import given
from hypothesis import strategies as st
from outboxes import EventLog, configured, lead
from readable_crms import ReadableHubspot, ReadableOdoo, ReadablePipedrive
from receivers import CUT, SILENT, Answer

from delivery.crm import crm_worker
from delivery.crm.crm_state import CrmCursor, add_hints, add_reported, crm_status, remember_push
from delivery.crm.crm_worker import CrmWorker, following_cursor
from delivery.crm.inbound import CrmInbound
from delivery.crm.records import CrmRecord, RecordPage
from delivery.outcomes import DeliveryError
from schemas.record import Outgoing
from schemas.topics import EVENTS

PROGRAM = Path(__file__).with_name("killed_crm_worker.py")
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
"""Where the first pull begins."""
ADA, GRACE = "ada@example.com", "grace@example.com"
LEADS = {ADA: "ada", GRACE: "grace"}
DEAL = {"amount": "1200.50", "deal_currency_code": "EUR", "dealstage": "offer"}
WON = {"hs_is_closed_won": "true", "hs_is_closed": "true"}


@pytest.fixture
def crm_tables(outbox):
    empty(outbox)
    return outbox


pytestmark = pytest.mark.postgres


def minutes(number):
    return NOON - timedelta(hours=2) + timedelta(minutes=number)


def filled_hubspot(receiver):
    receiver.otherwise = crm = ReadableHubspot(page=3)
    crm.put("contacts", "1", minutes(0), email=ADA, hubspot_owner_id="71", lifecyclestage="lead")
    crm.put("contacts", "2", minutes(1), email="stranger@example.com", lifecyclestage="customer")
    crm.put("deals", "9", minutes(2), ["1"], **DEAL, **WON, closedate=minutes(-60).isoformat())
    for number in range(10, 18):
        crm.put("deals", str(number), minutes(3), ["2"], **DEAL)
    crm.put("deals", "30", minutes(4), [], **DEAL)
    return crm


def test_hubspot_is_read_page_by_page_and_again_it_says_nothing_new(crm_tables, receiver):
    crm = filled_hubspot(receiver)
    reading = Reading(crm_tables.url, channel("hubspot", receiver.url, 'owners = { "71" = "5" }'), LEADS)
    report = reading.pull()
    assert reading.outcomes() == [
        ("ada", "lead_assigned", "5"),
        ("ada", "purchase_made", "1200.5"),
    ]
    assert report.unknown >= 10
    reading.now += timedelta(minutes=6)
    assert reading.pull().events == 0
    crm.put("deals", "9", minutes(90), hs_is_closed_won="false", hs_is_closed="false")
    crm.put("contacts", "1", minutes(91), hubspot_owner_id="")
    reading.now += timedelta(minutes=6)
    reading.pull()
    assert reading.outcomes()[2:] == [
        ("ada", "lead_assigned", "None"),
        ("ada", "purchase_refunded", "1200.5"),
        ("ada", "stage_changed", "opportunity"),
    ]


def test_contacts_whom_nobody_knows_become_leads_where_that_is_wanted(crm_tables, receiver):
    filled_hubspot(receiver)
    text = channel("hubspot", receiver.url, 'unknown_leads = "create"\nopen_stage = ""')
    reading = Reading(crm_tables.url, text, LEADS)
    reading.pull()
    made = "c-stranger@example.com"
    assert [each for each in reading.outcomes() if each[0] == made] == [
        (made, "profile_updated", "{'email': 'stranger@example.com'}"),
        (made, "stage_changed", "customer"),
    ]


def test_pipedrive_is_read(crm_tables, receiver):
    receiver.otherwise = crm = ReadablePipedrive(page=2)
    for number in range(5):
        email = GRACE if number == 4 else f"nobody{number}@example.com"
        crm.rows["persons"].append(
            {
                "id": number + 1, "owner_id": 8, "update_time": minutes(0).isoformat(), "custom_fields": {"f0": "Retail"},
                "emails": [{"value": "other@example.com", "primary": False}, {"value": email, "primary": True}],
            }
        )  # fmt: skip
    crm.rows["deals"].append(
        {
            "id": 3, "person_id": 5, "owner_id": 8, "stage_id": 2, "status": "lost", "value": 99, "currency": "USD",
            "update_time": minutes(1).isoformat(), "lost_time": minutes(1).isoformat(), "lost_reason": "no budget",
        }
    )  # fmt: skip
    text = channel("pipedrive", receiver.url, 'owners = { "8" = "5" }\nfields = { f0 = "industry" }')
    reading = Reading(crm_tables.url, text, LEADS)
    reading.pull()
    assert reading.outcomes() == [
        ("grace", "lead_assigned", "5"),
        ("grace", "profile_updated", "{'industry': 'Retail'}"),
        ("grace", "stage_changed", "lost"),
        ("grace", "lead_assigned", "5"),
    ]


def test_odoo_is_read_and_its_record_is_found_by_the_lead_id_that_a_push_left_there(crm_tables, receiver):
    crm_tables.project(lead("ada"))
    receiver.otherwise = crm = ReadableOdoo()
    crm.rows.append(
        {
            "id": 4, "write_date": "2026-03-02 10:00:00", "email_from": "somebody.else@example.com", "user_id": [3, "Grace"],
            "stage_id": [1, "New"], "won_status": "won", "expected_revenue": 500.0, "company_currency": [1, "EUR"],
            "date_closed": "2026-03-02 09:00:00", "x_leadstream": "ada",
        }
    )  # fmt: skip
    text = channel("odoo", receiver.url, extra='fields = { lead_id = "x_leadstream" }\ndatabase = "acme"')
    reading = Reading(crm_tables.url, text, {})
    reading.pull()
    assert reading.outcomes() == [("ada", "purchase_made", "500"), ("ada", "lead_assigned", "crm:3")]


@pytest.mark.parametrize(
    "fault", [Answer(429, {"retry-after": "30"}), Answer(500), Answer(200, body=b"<html>"), CUT, SILENT]
)
def test_a_crm_that_misbehaves_is_read_later_from_the_same_place(crm_tables, receiver, fault):
    crm = filled_hubspot(receiver)
    reading = Reading(crm_tables.url, channel("hubspot", receiver.url), LEADS)
    receiver.answers = [crm, fault]
    with pytest.raises(DeliveryError):
        reading.pull()
    with psycopg.connect(crm_tables.url) as connection:
        failed = [row for row in crm_status(connection) if row["failures"]]
    assert len(failed) == 1
    assert receiver.url.partition("//")[2] not in failed[0]["last_error"]
    wait = (failed[0]["next_at"] - NOON).total_seconds()
    assert wait == (30 if isinstance(fault, Answer) and fault.status == 429 else pytest.approx(0.01))
    reading.now += timedelta(seconds=31)
    reading.pull()
    assert ("ada", "purchase_made", "1200.5") in reading.outcomes()


def test_nothing_is_lost_while_the_log_takes_no_events(crm_tables, receiver):
    filled_hubspot(receiver)
    reading = Reading(crm_tables.url, channel("hubspot", receiver.url), LEADS)
    reading.log.failures = 1
    with pytest.raises(DeliveryError, match="the log takes no events"):
        reading.pull()
    reading.now += timedelta(minutes=1)
    reading.pull()
    assert [each[1] for each in reading.outcomes()] == ["lead_assigned", "purchase_made"]


def test_a_webhook_has_a_record_read_at_once_without_pulls(crm_tables, receiver):
    filled_hubspot(receiver)
    text = channel("hubspot", receiver.url, "pull_minutes = 0")
    reading = Reading(crm_tables.url, text, LEADS)
    reading.now = datetime.now(UTC) + timedelta(minutes=1)
    with psycopg.connect(crm_tables.url) as connection:
        add_hints(connection, "default", "crm", [("deal", "9"), ("deal", "9"), ("deal", "404")])
    report = asyncio.run(_steps(reading))
    assert report == 1
    assert ("ada", "purchase_made", "1200.5") in reading.outcomes()
    assert not crm_tables.rows("select * from public.crm_inbox")


async def _steps(reading):
    worker, steps = CrmWorker(reading.configuration, reading.ports), 0
    try:
        while await worker.step("crm") is not None:
            steps += 1
    finally:
        await worker.close()
    return steps


def test_a_record_that_another_crm_reports_is_counted_once(crm_tables):
    text = (
        '[channels.crm]\ntype = "crm_webhook"\nsecret = "env:SECRET"\nrecord = { id = "id" }\n'
        'proof = { method = "bearer" }\n'
    )
    reading = Reading(crm_tables.url, text, LEADS)
    reading.now = datetime.now(UTC) + timedelta(minutes=1)
    values = {"status": "won", "value": "10", "currency": "EUR"}
    record = CrmRecord("deal", "7", minutes(0), values, email=ADA, closed_at=minutes(-1))
    with psycopg.connect(crm_tables.url) as connection:
        for _ in range(2):
            add_reported(connection, "default", "crm", [record])
    asyncio.run(_steps(reading))
    with psycopg.connect(crm_tables.url) as connection:
        add_reported(connection, "default", "crm", [record])
    asyncio.run(_steps(reading))
    assert reading.outcomes() == [("ada", "purchase_made", "10")]
    assert configured(text, SECRET=SECRET).channels["crm"].secret.reveal() == SECRET


def test_what_a_push_has_written_comes_back_as_nothing(crm_tables, receiver):
    crm = filled_hubspot(receiver)
    reading = Reading(crm_tables.url, channel("hubspot", receiver.url), {})
    with psycopg.connect(crm_tables.url) as connection:
        remember_push(
            connection, "default", "crm", ("contact", "1"), "ada", {"hubspot_owner_id": "71", "email": ADA}
        )
    reading.pull()
    assert reading.outcomes() == [("ada", "purchase_made", "1200.5")]
    crm.put("contacts", "1", minutes(95), hubspot_owner_id="72")
    reading.now += timedelta(minutes=6)
    reading.pull()
    assert reading.outcomes()[1:] == [("ada", "lead_assigned", "crm:72")]


class KilledError(Exception):
    """Ends a worker between two steps; what it has not committed is gone."""


def dies(*_arguments, **_options):
    raise KilledError


class LogThatKills(EventLog):
    """It takes the events, and the worker never hears of it."""

    async def __call__(self, records):
        await super().__call__(records)
        dies()


@pytest.mark.parametrize("step", ["_plans", "_announce", "the log", "_store", "move_cursor"])
def test_a_worker_that_ends_at_any_step_loses_nothing_and_repeats_only_under_the_same_ids(
    crm_tables, receiver, monkeypatch, step
):
    filled_hubspot(receiver)
    text = channel("hubspot", receiver.url)
    killed = Reading(crm_tables.url, text, LEADS, LogThatKills() if step == "the log" else None)
    with monkeypatch.context() as patch:
        match step:
            case "move_cursor":  # the last statement of the last transaction
                moving = crm_worker.crm_state.move_cursor

                def moves_and_dies(*arguments):
                    moving(*arguments)
                    if arguments[-2].since != FIRST:
                        dies()

                patch.setattr(crm_worker.crm_state, step, moves_and_dies)
            case "_plans" | "_announce" | "_store":
                patch.setattr(crm_worker, step, dies)
        with pytest.raises((KilledError, DeliveryError)):
            killed.pull()
    reading = Reading(crm_tables.url, text, LEADS)
    reading.now += timedelta(minutes=6)
    reading.pull()
    reading.log.records[:0] = killed.log.records
    assert sorted(reading.outcomes()) == [
        ("ada", "lead_assigned", "crm:71"),
        ("ada", "purchase_made", "1200.5"),
    ]


def test_kill_9_after_the_log_repeats_only_under_the_same_ids(crm_tables, receiver, tmp_path):
    filled_hubspot(receiver)
    written = tmp_path / "log"
    killed = subprocess.run(
        [sys.executable, str(PROGRAM), crm_tables.url, receiver.url, str(written)],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    reading = Reading(crm_tables.url, channel("hubspot", receiver.url), LEADS)
    reading.now += timedelta(minutes=6)
    reading.pull()
    before = [Outgoing(EVENTS, "", line) for line in written.read_bytes().splitlines()]
    assert before
    reading.log.records[:0] = before
    assert sorted(reading.outcomes()) == [
        ("ada", "lead_assigned", "crm:71"),
        ("ada", "purchase_made", "1200.5"),
    ]


@given(st.lists(st.integers(0, 600), max_size=60).map(sorted), st.integers(1, 7))
def test_every_change_is_read_whatever_the_pages_are(changes, size):
    """By seconds; pages of `size`, of which those of one moment are turned by the vendor's own page."""
    cursor, read, rounds = CrmCursor(NOON, None, NOON, 0), set(), 0
    records = [(number, NOON + timedelta(seconds=second)) for number, second in enumerate(changes)]
    while True:
        rounds += 1
        assert rounds < 500
        since = cursor.since if cursor.page else cursor.since - timedelta(minutes=2)
        found = [(number, at) for number, at in records if at >= since]
        begin = int(cursor.page or 0)
        shown = found[begin : begin + size]
        read |= {number for number, _ in shown}
        page = RecordPage(
            [CrmRecord("deal", str(number), at, {}) for number, at in shown],
            str(begin + size) if begin + size < len(found) else None,
        )
        cursor = following_cursor(cursor, since, page, NOON, CrmInbound())
        if cursor.next_at > NOON:
            break
    assert read == {number for number, _ in records}
