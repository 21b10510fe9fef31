"""Leads whose workflows fire while a test kills processes, and what must have come of it: each firing once, and each message
at a real receiver at least once, repeated only under its own key.

They are a tenant of their own. `expected_firings` is a sequential reading of the rules over the events that the test itself
sends; it knows nothing of folds, ledgers or timers.
"""

import random
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg

from schemas.control import ModelPublished, WorkflowsDue, WorkflowsPublished
from schemas.decode import decode_source, decode_statement, key_of
from schemas.envelope import Event
from schemas.events import CatalogViewed, DemoRequested, PurchaseMade, QrScanned
from schemas.moment import millis
from schemas.publications import publication_records
from schemas.statements import WorkflowTriggered
from schemas.topics import EVENTS, LEAD_CHANGES
from tests.delivery.receivers import CUT, Answer, HttpReceiver

TENANT = "acme"
ACTIVE, IDLE = 24, 8
MOST_EVENTS = 14
PATIENCE = 180.0
GAIN, LOSS = 10, 25
"""Points of a scan and of a catalogue (which nobody likes here)."""
MODEL = f"""
model = "pulse"
about = "Points that rise and fall."
[groups.pulse]
rules = [
  {{ name = "Scans", each = "qr_scanned", points = {GAIN} }},
  {{ name = "Catalogues", each = "catalog_viewed", points = -{LOSS} }},
]
"""
RISES, FALLS, REARM = {1: 30, 2: 60}, {3: 20}, 5
STAGE, DEMO, LAPSE, CRON = 4, 5, 6, 7
WEBHOOKS, NOTIFICATIONS, LEAD_ACTIONS = {1, 3, STAGE, LAPSE}, {CRON}, {2, DEMO}
WORKFLOWS = f"""
[[workflow]]
id = 1
name = "Tell of warm leads"
trigger = {{ type = "score_threshold", model = "pulse", score = {RISES[1]}, rearm = {REARM} }}
action = {{ type = "send_webhook", channel = "hook" }}

[[workflow]]
id = 2
name = "Call hot leads"
trigger = {{ type = "score_threshold", model = "pulse", score = {RISES[2]}, rearm = {REARM} }}
action = {{ type = "create_task", title = "Call" }}

[[workflow]]
id = 3
name = "Tell of cold leads"
trigger = {{ type = "score_falls", model = "pulse", score = {FALLS[3]}, rearm = {REARM} }}
action = {{ type = "send_webhook", channel = "hook" }}

[[workflow]]
id = {STAGE}
name = "Tell of customers"
trigger = {{ type = "stage_change", to = "customer" }}
action = {{ type = "send_webhook", channel = "hook" }}

[[workflow]]
id = {DEMO}
name = "Mark demos"
trigger = {{ type = "event", event = "demo_requested", where = {{ field = "text", equals = "now" }} }}
action = {{ type = "update_field", field = "tier", value = "gold" }}

[[workflow]]
id = {LAPSE}
name = "Tell of idle leads"
trigger = {{ type = "time_based", days_without = 1, of = "interaction" }}
action = {{ type = "send_webhook", channel = "hook" }}

[[workflow]]
id = {CRON}
name = "Remind everybody"
trigger = {{ type = "time_based", cron = "0 9 29 2 *" }}
action = {{ type = "send_notification", message = "Look" }}
"""
"""The schedule of workflow 7 comes on leap days only: the test records its moment itself."""
CHANNELS = """
[limits]
attempts = 100
first_retry_seconds = 0.1
longest_retry_seconds = 1
timeout_seconds = 1
lease_seconds = 3
circuit_seconds = 1

[channels.hook]
type = "webhook"
url = "file:hook-url"
secrets = ["file:hook-secret"]
"""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DAY = timedelta(days=1)


class Firing(NamedTuple):
    lead_id: str
    workflow_id: int
    arm: str


def workflow_events(seed, now, *, idle=IDLE):
    """By person, in order. The idle ones did something almost a day ago: their day without anything ends during the test."""
    for number in range(ACTIVE):
        yield list(_active(random.Random(f"{seed}/active/{number}"), f"person-{number}", now))
    for number in range(idle):
        at = now - DAY + timedelta(seconds=5 * number)
        yield [QrScanned(**_envelope(f"idle-{number}", 0, at))]


def _active(rng, lead, now):
    total = 0
    for number in range(MOST_EVENTS):
        event = _envelope(lead, number, now - timedelta(hours=1) + timedelta(seconds=number))
        kind = rng.choices((QrScanned, CatalogViewed, DemoRequested, PurchaseMade), (8, 3, 2, 1))[0]
        if kind is CatalogViewed and total < LOSS:
            kind = QrScanned
        total += {QrScanned: GAIN, CatalogViewed: -LOSS}.get(kind, 0)
        if kind is PurchaseMade:
            yield kind(**event, value=10, currency="EUR", order_id=f"{lead}/{number}")
        elif kind is DemoRequested:
            yield kind(**event, text=rng.choice(("now", "later")))
        else:
            yield kind(**event)


def _envelope(lead, number, at):
    return {
        "tenant": TENANT,
        "event_id": f"{lead}.{number}",
        "occurred_at": at,
        "recorded_at": at,
        "lead_id": lead,
        "source": "crm",
    }


def scattered_in(events, people, rng):
    """Each person's events in their order, anywhere among the others, so that every kill meets some."""
    whole = [(number / len(events), event) for number, event in enumerate(events)]
    for person in people:
        whole += zip(sorted(rng.random() for _ in person), person, strict=True)
    return [event for _, event in sorted(whole, key=lambda each: each[0])]


def expected_firings(people, scheduled_for=None):
    """Every (lead, workflow, arm) of these events, and of a moment of the schedule."""
    for person in people:
        total, disarmed, customer, lapse = 0, set(), False, None
        for event in person:
            before, arm = total, f"event:{key_of(event)}:{event.event_id}"
            total += {QrScanned: GAIN, CatalogViewed: -LOSS}.get(type(event), 0)
            fired = {n for n, score in RISES.items() if before < score <= total} - disarmed
            fired |= {n for n, score in FALLS.items() if total < score <= before} - disarmed
            disarmed |= fired
            disarmed -= {n for n, score in RISES.items() if total <= score - REARM}
            disarmed -= {n for n, score in FALLS.items() if total >= score + REARM}
            if isinstance(event, PurchaseMade) and not customer:
                customer = True
                fired.add(STAGE)
            if isinstance(event, DemoRequested) and event.text == "now":
                fired.add(DEMO)
            yield from (Firing(event.lead_id, number, arm) for number in fired)
            lapse = event.recorded_at + DAY
        if person[0].lead_id.startswith("idle"):
            yield Firing(person[0].lead_id, LAPSE, f"due:{millis(lapse)}")
        if scheduled_for is not None:
            yield Firing(person[0].lead_id, CRON, f"schedule:{millis(scheduled_for)}")


def publications(now):
    at = now - 2 * DAY
    yield from publication_records(
        ModelPublished(tenant=TENANT, recorded_at=at, model="pulse", version=1, text=MODEL)
    )
    yield from publication_records(
        WorkflowsPublished(tenant=TENANT, recorded_at=at, version=1, text=WORKFLOWS)
    )


def moment_of_schedule(now, scheduled_for):
    return publication_records(
        WorkflowsDue(tenant=TENANT, recorded_at=now, workflow_id=CRON, scheduled_for=scheduled_for)
    )


def moody_receiver():
    """It takes most requests; of others it takes the message, and fails or cuts the connection: then it comes again."""
    receiver = HttpReceiver()
    receiver.answers = [CUT if n % 11 == 5 else Answer(500 if n % 7 == 3 else 200) for n in range(200)]
    return receiver


def write_channels(directory, receiver):
    (directory / "hook-url").write_text(receiver.url)
    (directory / "hook-secret").write_text(SECRET)
    file = directory / "delivery.toml"
    file.write_text(CHANNELS)
    return file


def wait_until_delivered(url, expected):
    """Until so many executions are known, and nothing waits."""
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect(url, autocommit=True) as connection:
        while (found := _progress(connection)) != (expected, 0):
            assert time.monotonic() < deadline, f"(executions, still waiting): {found}, not {expected}"
            time.sleep(0.2)


def _progress(connection):
    return connection.execute(
        """select (select count(*) from live.workflow_executions where tenant = %s),
             (select count(*) from public.outbox where status <> 'delivered')""",
        (TENANT,),
    ).fetchone()


def people_in(log):
    """By person, the events that the log has, each once."""
    people = defaultdict(dict)
    for records in log.read(EVENTS).values():
        for record in records:
            event = decode_source(record.value)
            if isinstance(event, Event) and event.tenant == TENANT:
                people[event.lead_id].setdefault(event.event_id, event)
    return [list(events.values()) for events in people.values()]


def assert_fired(log, expected):
    """Each firing is stated once, in the log, and none beside them."""
    stated = Counter(
        Firing(each.lead_id, each.workflow_id, each.arm)
        for records in log.read(LEAD_CHANGES).values()
        for each in (decode_statement(record.value) for record in records)
        if isinstance(each, WorkflowTriggered) and each.tenant == TENANT
    )
    assert stated == Counter(expected)


def assert_delivered(url, log, receiver, expected):
    """Each firing is one execution and was carried out; the receiver knows each message, under one key."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select e.execution_id, e.lead_id, e.workflow_id, e.arm, e.silent, o.status
               from live.workflow_executions e left join public.outbox o using (tenant, execution_id)
               where e.tenant = %s""",
            (TENANT,),
        ).fetchall()
        notifications = connection.execute("select execution_id from public.notifications").fetchall()
    assert Counter(Firing(*row[1:4]) for row in rows) == Counter(expected)
    assert {row[4:] for row in rows} == {(False, "delivered")}
    keys = {number: {row[0] for row in rows if row[2] == number} for number in range(1, CRON + 1)}

    bodies = defaultdict(set)
    for request in receiver.requests:
        bodies[request.headers["webhook-id"]].add(request.json()["data"]["reason"])
    assert bodies.keys() == {f"wf-{key}" for number in WEBHOOKS for key in keys[number]}
    assert all(len(reasons) == 1 for reasons in bodies.values())
    assert len(receiver.requests) > len(bodies), "some were repeated"
    assert {key for (key,) in notifications} == {key for number in NOTIFICATIONS for key in keys[number]}
    caused = {
        event.event_id
        for records in log.read(EVENTS).values()
        for event in (decode_source(record.value) for record in records)
        if isinstance(event, Event) and event.tenant == TENANT and event.event_id.startswith("wf-")
    }
    assert caused == {f"wf-{key}" for number in LEAD_ACTIONS for key in keys[number]}


def started_now():
    """The beginning of the test, in whole seconds, and the moment of the schedule."""
    now = datetime.now(UTC).replace(microsecond=0)
    return now, now - timedelta(minutes=1)
