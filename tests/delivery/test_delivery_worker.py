"""A worker delivers what is in the outbox, whatever receivers do."""

import asyncio
import email
import email.policy
import threading
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs
from outboxes import (
    WEBHOOK_SECRET,
    EventLog,
    configured,
    deliver,
    lead,
    ports,
    triggered,
    webhook_channel,
)
from receivers import CUT, SILENT, Answer
from standardwebhooks import Webhook

from delivery.metrics import delivery_exposition
from delivery.outbox import backlog as read_backlog
from delivery.outbox import retry
from delivery.worker import DeliveryWorker
from projections.connection import connect_watched
from schemas.decode import decode_source
from schemas.events import (
    CampaignJoined,
    LeadAssigned,
    ProfileUpdated,
    StageChanged,
    TaskCreated,
)
from tests.ports import free_port

pytestmark = pytest.mark.postgres


# Webhooks


def test_a_webhook_gets_the_lead_and_the_reason_signed(outbox, receiver):
    outbox.project(lead(), triggered("send_webhook"))
    (row,) = deliver(outbox, webhook_channel(receiver.url + "/hook"))
    assert (row["status"], row["attempts"], row["last_error"]) == ("delivered", 1, None)
    (request,) = receiver.requests
    said = Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)
    assert request.headers["webhook-id"] == f"wf-{row['execution_id']}"
    assert said["data"]["reason"] == "rules rose from 71 to 82, through 80"
    assert said["data"]["lead"]["email"] == "ada@example.com"
    assert said["data"]["lead"]["scores"] == {"rules": 82}


PASSING = {
    "it answers 500": Answer(500),
    "it answers 429 and asks for a pause": Answer(429, {"retry-after": "0"}),
    "it answers 503 and asks for nonsense": Answer(503, {"retry-after": "later"}),
    "it refuses": Answer(404),
    "it redirects": Answer(302, {"location": "/elsewhere"}),
    "it never answers": SILENT,
    "it cuts the connection": CUT,
}


@pytest.mark.parametrize("trouble", PASSING)
def test_whatever_a_receiver_does_it_is_tried_again_under_the_same_key(outbox, receiver, trouble):
    receiver.answers = [PASSING[trouble]]
    outbox.project(lead(), triggered("send_webhook"))
    (row,) = deliver(outbox, webhook_channel(receiver.url))
    assert (row["status"], row["attempts"]) == ("delivered", 2)
    assert [request.path for request in receiver.requests] == ["/", "/"], "redirects are not followed"
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1


def test_a_receiver_that_cannot_be_reached_becomes_a_dead_letter_and_may_be_retried(outbox, receiver):
    outbox.project(lead(), triggered("send_webhook"))
    (row,) = deliver(outbox, webhook_channel(f"http://127.0.0.1:{free_port()}/hunter2"))
    assert (row["status"], row["attempts"]) == ("dead", 3)
    assert row["last_error"] == "the webhook 'webhook' cannot be reached (ConnectError)"
    with connect_watched(outbox.url) as connection:
        assert retry(connection, tenant="other") == 0
        assert retry(connection, execution_ids=[row["execution_id"]]) == 1
    (again,) = deliver(outbox, webhook_channel(receiver.url))
    assert again["status"] == "delivered"
    assert receiver.requests[0].headers["webhook-id"] == f"wf-{row['execution_id']}"


def test_a_receiver_that_wants_no_more_gets_no_more(outbox, receiver):
    receiver.otherwise = Answer(410)
    outbox.project(lead(), triggered("send_webhook"))
    (row,) = deliver(outbox, webhook_channel(receiver.url))
    assert (row["status"], row["attempts"]) == ("dead", 1)


def test_a_pause_that_the_receiver_asks_for_is_kept(outbox, receiver):
    receiver.answers = [Answer(429, {"retry-after": "3600"})]
    outbox.project(lead(), triggered("send_webhook"))
    before = datetime.now(UTC)
    (row,) = deliver(outbox, webhook_channel(receiver.url), passes=1)
    assert row["status"] == "failed"
    assert timedelta(minutes=59) < row["next_attempt_at"] - before < timedelta(minutes=61)


def test_a_channel_that_fails_again_and_again_rests_and_the_others_go_on(outbox, receiver):
    configuration = configured(
        """circuit_failures = 3
        [channels.good]
        type = "webhook"
        url = "env:GOOD"
        secrets = ["env:SECRET"]
        [channels.bad]
        type = "webhook"
        url = "env:BAD"
        secrets = ["env:SECRET"]""".replace("circuit_failures", "at_once = 1\ncircuit_failures"),
        GOOD=receiver.url + "/good",
        BAD=receiver.url + "/bad",
        SECRET=WEBHOOK_SECRET,
    )
    configuration = configuration.__class__(
        channels=configuration.channels,
        limits=configuration.limits.__class__(
            attempts=99, first_retry_seconds=0.001, at_once=1, circuit_failures=3, circuit_seconds=600
        ),
    )
    receiver.otherwise = lambda request: Answer(500 if request.path == "/bad" else 200)
    for n in range(10):
        outbox.project(lead(), triggered("send_webhook", {"channel": "bad"}, arm=f"event:bad{n}"))
        outbox.project(triggered("send_webhook", {"channel": "good"}, arm=f"event:good{n}"))
    deliver(outbox, configuration, passes=1)
    paths = [request.path for request in receiver.requests]
    assert paths.count("/good") == 10
    assert paths.count("/bad") == 3, "then it rests"


def test_a_slow_receiver_keeps_no_other_channel_waiting(outbox, receiver):
    receiver.answers = [SILENT] * 4
    outbox.project(lead(), *(triggered("send_webhook", arm=f"event:{n}") for n in range(4)))
    log, fast = EventLog(), webhook_channel(receiver.url)
    patient = structs.replace(
        fast, limits=structs.replace(fast.limits, timeout_seconds=20.0, lease_seconds=60.0)
    )

    async def run() -> None:
        worker = DeliveryWorker(patient, ports(outbox.url, log))
        stop = threading.Event()
        running = asyncio.create_task(worker.run(stop))
        while len(receiver.requests) < 4:  # noqa: ASYNC110 - the server is on a thread
            await asyncio.sleep(0.01)
        outbox.project(triggered("update_field", {"field": "tier", "value": "gold"}))
        while not log.records:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        assert len(receiver.requests) == 4, "they have not answered yet"
        stop.set()
        await running

    asyncio.run(asyncio.wait_for(run(), 60))
    assert "update_field" in {row["action"] for row in outbox.rows() if row["status"] == "delivered"}


def test_a_row_whose_worker_was_killed_is_taken_when_its_lease_ends(outbox, receiver):
    outbox.project(lead(), triggered("send_webhook"))
    outbox.execute(
        "update public.outbox set status = 'delivering', attempts = 1, next_attempt_at = now() + interval '1 hour'"
    )
    assert deliver(outbox, webhook_channel(receiver.url), passes=1)[0]["status"] == "delivering"
    assert receiver.requests == []
    outbox.execute("update public.outbox set next_attempt_at = now()")
    assert deliver(outbox, webhook_channel(receiver.url), passes=1)[0]["status"] == "delivered"


def test_one_that_kills_its_worker_at_every_attempt_is_given_up(outbox, receiver):
    outbox.project(lead(), triggered("send_webhook"))
    outbox.execute("update public.outbox set status = 'delivering', attempts = 3, next_attempt_at = now()")
    (row,) = deliver(outbox, webhook_channel(receiver.url))
    assert (row["status"], receiver.requests) == ("dead", [])


def test_two_workers_send_each_message_once(outbox, receiver):
    outbox.project(lead(), *(triggered("send_webhook", arm=f"event:{n}") for n in range(40)))

    async def run() -> None:
        workers = [DeliveryWorker(webhook_channel(receiver.url), ports(outbox.url)) for _ in range(2)]
        await asyncio.gather(*(worker.run(threading.Event(), until_idle=True) for worker in workers))

    asyncio.run(run())
    assert set(outbox.statuses()) == {"delivered"}
    keys = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(keys) == len(set(keys)) == 40


# E-mail

MAIL = """
[channels.email]
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
sender = "Leads <leads@example.com>"
recipients = ["sales@example.com", "Boss <boss@example.com>"]
[templates.hot]
subject = "Hot: {{{{ lead.name }}}}"
text = "{{{{ reason }}}}"
html = "<b>{{{{ lead.name }}}}</b>"
[owners.5]
name = "Grace Hopper"
email = "grace@example.com"
"""


def received_mail(mail_server):
    return [email.message_from_bytes(each, policy=email.policy.default) for each in mail_server.messages]


def test_an_e_mail_has_a_text_and_an_html_part_and_its_key_in_the_message_id(outbox, mail_server):
    outbox.project(lead(name="Ada <b>Byron</b>"), triggered("send_email", {"template": "hot"}))
    (row,) = deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    (mail,) = received_mail(mail_server)
    assert row["status"] == "delivered"
    assert mail_server.recipients == [["sales@example.com", "boss@example.com"]]
    assert mail["message-id"] == f"<wf-{row['execution_id']}@example.com>"
    assert mail["subject"] == "Hot: Ada <b>Byron</b>"
    assert mail.get_body(("plain",)).get_content().strip() == "rules rose from 71 to 82, through 80"
    assert mail.get_body(("html",)).get_content().strip() == "<b>Ada &lt;b&gt;Byron&lt;/b&gt;</b>"


@pytest.mark.parametrize(
    ("config", "fields", "recipients"),
    [
        ({"to": "lead", "subject": "Hello {{ lead.name }}", "text": "Hi"}, {}, ["ada@example.com"]),
        ({"to": "owner"}, {"assigned_to": "5"}, ["grace@example.com"]),
        ({"to": "channel"}, {}, ["sales@example.com", "boss@example.com"]),
    ],
)
def test_the_action_says_who_gets_the_e_mail(outbox, mail_server, config, fields, recipients):
    outbox.project(lead(**fields), triggered("send_email", config))
    deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    assert mail_server.recipients == [recipients]


@pytest.mark.parametrize(
    ("fields", "config", "reason"),
    [
        ({"email": ""}, {"to": "lead"}, "the lead has no e-mail address"),
        ({"email": "ada@example.com\r\nBcc: all@example.com"}, {"to": "lead"}, "not valid"),
        ({"email": "ada@example.com, all@example.com"}, {"to": "lead"}, "not valid"),
        ({"email_consent": False}, {"to": "lead"}, "does not want e-mails"),
        ({}, {"to": "owner"}, "the lead's owner has no e-mail address"),
        ({}, {"template": "none"}, "there is no template 'none'"),
        ({}, {"subject": "{{ leed }}", "text": "x"}, "'leed' is undefined"),
    ],
)
def test_what_cannot_be_sent_is_a_dead_letter_at_once(outbox, mail_server, fields, config, reason):
    outbox.project(lead(**fields), triggered("send_email", config))
    (row,) = deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    assert (row["status"], row["attempts"], mail_server.messages) == ("dead", 1, [])
    assert reason in row["last_error"]


def test_no_value_of_a_lead_begins_another_header(outbox, mail_server):
    name = "Ada\r\nBcc: all@example.com\r\n\r\n<html>"
    outbox.project(lead(name=name), triggered("send_email", {"to": "lead", "template": "hot"}))
    deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    (mail,) = received_mail(mail_server)
    assert mail["bcc"] is None
    assert mail["subject"] == "Hot: Ada Bcc: all@example.com <html>"
    assert mail_server.recipients == [["ada@example.com"]]


@pytest.mark.parametrize(
    ("answer", "status", "attempts"), [("451 later", "delivered", 2), ("550 no", "dead", 1)]
)
def test_codes_of_smtp_say_whether_a_repetition_helps(outbox, mail_server, answer, status, attempts):
    mail_server.answers = [answer]
    outbox.project(lead(), triggered("send_email"))
    (row,) = deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    assert (row["status"], row["attempts"]) == (status, attempts)


@pytest.mark.parametrize(("answer", "status"), [("450 greylisted", "delivered"), ("550 unknown", "dead")])
def test_a_recipient_that_is_refused_now_may_be_taken_later(outbox, mail_server, answer, status):
    mail_server.recipient_answers = [answer]
    outbox.project(lead(), triggered("send_email", {"to": "lead", "template": "hot"}))
    (row,) = deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    assert row["status"] == status


def test_a_mail_server_that_cuts_the_connection_gets_the_message_again(outbox, mail_server):
    mail_server.answers = [CUT]
    outbox.project(lead(), triggered("send_email"))
    (row,) = deliver(outbox, configured(MAIL.format(port=mail_server.port)))
    assert (row["status"], row["attempts"], len(mail_server.messages)) == ("delivered", 2, 1)


def test_a_server_without_tls_gets_no_message_that_should_be_encrypted(outbox, mail_server):
    text = MAIL.format(port=mail_server.port).replace('security = "none"', 'security = "starttls"')
    outbox.project(lead(), triggered("send_email"))
    (row,) = deliver(outbox, configured(text))
    assert (row["status"], mail_server.messages) == ("dead", [])


# Notifications and chat


def test_a_notification_is_written_once_however_often_it_is_repeated(outbox):
    outbox.project(
        lead(assigned_to="5"),
        triggered("send_notification", {"message": "Hot: {{ lead.name }}", "to": "owner"}),
    )
    deliver(outbox, configured())
    outbox.execute("update public.outbox set status = 'waiting', next_attempt_at = now()")
    deliver(outbox, configured())
    (row,) = outbox.rows("select * from public.notifications")
    assert (row["message"], row["recipient"], row["lead_id"]) == ("Hot: Ada Lovelace", "5", "ada")
    assert row["title"] == "Notify on hot lead: Ada Lovelace"
    assert row["read_at"] is None


def test_a_notification_goes_over_other_channels_too_each_on_its_own(outbox, receiver):
    """Apprise's own form of a plain JSON service, at a server of this machine."""
    port = receiver.url.rpartition(":")[2]
    text = '[channels.chat]\ntype = "apprise"\nurl = "env:CHAT"\n'
    receiver.answers = [Answer(500), Answer(302, {"location": "/elsewhere"})]
    outbox.project(lead(), triggered("send_notification", {"message": "Hot!", "channels": ["chat", "none"]}))
    rows = deliver(outbox, configured(text, CHAT=f"json://127.0.0.1:{port}/chat"))
    assert {row["channel"]: row["status"] for row in rows} == {
        "chat": "delivered",
        "none": "dead",
        "notifications": "delivered",
    }
    assert [request.path for request in receiver.requests] == ["/chat"] * 3
    assert receiver.requests[-1].json()["message"] == "Hot!"
    assert receiver.requests[-1].json()["title"] == "Notify on hot lead: Ada Lovelace"


# Actions on the lead

EXPECTED_EVENTS = {
    "assign_owner": ({"owner_id": 5}, LeadAssigned, {"assigned_to": "5", "by": "workflow 1"}),
    "change_status": ({"status": "Nurture"}, ProfileUpdated, {"fields": {"status": "Nurture"}}),
    "change_status to a stage": (
        {"status": "Qualified"},
        StageChanged,
        {"stage": "qualified", "by": "workflow 1"},
    ),
    "move_to_stage": (
        {"stage": "SQL"},
        ProfileUpdated,
        {
            "fields": {
                "qualification_override": "sql",
                "qualification_override_by": "workflow 1",
                "qualification_override_until": None,
            }
        },
    ),
    "move_to_stage of the lifecycle": ({"stage": "opportunity"}, StageChanged, {"stage": "opportunity"}),
    "update_field": ({"field": "tier", "value": "gold"}, ProfileUpdated, {"fields": {"tier": "gold"}}),
    "create_task": (
        {"title": "Call {{ lead.name }}", "due_in_days": 1, "priority": "high"},
        TaskCreated,
        {"title": "Call Ada Lovelace", "priority": "high", "description": None},
    ),
    "add_to_campaign": ({"campaign_id": 7}, CampaignJoined, {"campaign_id": "7"}),
}


@pytest.mark.parametrize("what", EXPECTED_EVENTS)
def test_an_action_on_a_lead_is_an_event_with_the_key_as_its_id(outbox, what):
    config, kind, fields = EXPECTED_EVENTS[what]
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    outbox.project(lead(), triggered(what.split()[0], config, hops=2, at=at))
    log = EventLog()
    (row,) = deliver(outbox, configured(), log)
    assert row["status"] == "delivered", row["last_error"]
    (record,) = log.records
    event = decode_source(record.value)
    assert isinstance(event, kind)
    assert (event.event_id, event.lead_id, event.hops) == (f"wf-{row['execution_id']}", "ada", 3)
    assert event.occurred_at == at
    assert {name: getattr(event, name) for name in fields} == fields
    if isinstance(event, TaskCreated):
        assert event.due_at == at + timedelta(days=1)


def test_an_event_of_an_anonymous_lead_names_the_visitor(outbox):
    outbox.project(
        lead("anon:v-1"), triggered("update_field", {"field": "tier", "value": 1}, lead_id="anon:v-1")
    )
    log = EventLog()
    deliver(outbox, configured(), log)
    event = decode_source(log.records[0].value)
    assert (event.visitor_id, event.lead_id) == ("v-1", None)
    assert log.records[0].key == "default/v/v-1"


def test_while_the_log_takes_nothing_the_action_waits(outbox):
    log = EventLog()
    log.failures = 2
    outbox.project(lead(), triggered("update_field", {"field": "tier", "value": "gold"}))
    (row,) = deliver(outbox, configured(), log)
    assert (row["status"], row["attempts"], len(log.records)) == ("delivered", 3, 1)


def test_owners_take_turns_and_a_repetition_assigns_the_same_one(outbox):
    config = {"owners": [5, 7], "by": "round_robin"}
    for n in range(4):
        outbox.project(lead(f"lead-{n}"), triggered("assign_owner", config, lead_id=f"lead-{n}"))
    log = EventLog()
    log.failures = 3
    rows = deliver(outbox, configured(), log)
    assigned = {record.key: decode_source(record.value).assigned_to for record in log.records}
    assert sorted(assigned.values()) == ["5", "5", "7", "7"]
    assert {f"default/l/{row['lead_id']}": row["decision"]["owner_id"] for row in rows} == assigned


def test_by_capacity_the_one_with_most_left_and_a_lead_may_keep_its_owner(outbox):
    text = "[owners.5]\ncapacity = 3\n[owners.7]\ncapacity = 3\n"
    outbox.project(lead("a", assigned_to="5"), lead("b", assigned_to="5"), lead("c", assigned_to="7"))
    outbox.project(
        lead("new"),
        triggered("assign_owner", {"owners": [5, 7], "by": "capacity"}, lead_id="new"),
        triggered("assign_owner", {"owner_id": 7, "keep": True}, lead_id="a"),
    )
    log = EventLog()
    rows = deliver(outbox, configured(text), log)
    assert [decode_source(record.value).assigned_to for record in log.records] == ["7"]
    assert {row["lead_id"]: row["status"] for row in rows} == {"new": "delivered", "a": "skipped"}


# Quiet hours, cap, channels


def quiet_now() -> str:
    """An hour before to an hour after now, UTC."""
    now = datetime.now(UTC)
    return f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}"


def test_within_quiet_hours_e_mails_wait_and_everything_else_goes_on(outbox, mail_server, receiver):
    text = f'quiet_hours = ["{quiet_now()}"]\n' + MAIL.format(port=mail_server.port)
    outbox.project(
        lead(),
        triggered("send_email", arm="event:a"),
        triggered("update_field", {"field": "a", "value": 1}, arm="event:b"),
        triggered("send_notification", {"message": "x"}, arm="event:c"),
    )
    rows = deliver(outbox, configured(text), passes=1)
    states = {row["action"]: row for row in rows}
    assert states["update_field"]["status"] == states["send_notification"]["status"] == "delivered"
    waiting = states["send_email"]
    assert (waiting["status"], waiting["attempts"], waiting["last_error"]) == ("waiting", 0, "quiet hours")
    assert timedelta(minutes=58) < waiting["next_attempt_at"] - datetime.now(UTC) <= timedelta(hours=1)
    assert mail_server.messages == []


def test_quiet_hours_are_those_of_the_tenants_zone(outbox, mail_server):
    text = f'quiet_hours = ["{quiet_now()}"]\n' + MAIL.format(port=mail_server.port)
    outbox.project(lead(), triggered("send_email"))
    assert deliver(outbox, configured(text), passes=1, zone="Asia/Tokyo")[0]["status"] == "delivered"


def test_a_lead_has_so_many_messages_a_day_and_no_more(outbox, mail_server):
    text = "messages_per_lead_and_day = 2\n" + MAIL.format(port=mail_server.port)
    outbox.project(lead(), lead("bob"), *(triggered("send_email", arm=f"event:{n}") for n in range(5)))
    outbox.project(triggered("send_email", lead_id="bob"))
    rows = deliver(outbox, configured(text))
    assert (
        sorted(row["status"] for row in rows if row["lead_id"] == "ada")
        == ["delivered"] * 2 + ["skipped"] * 3
    )
    assert [row["status"] for row in rows if row["lead_id"] == "bob"] == ["delivered"]
    outbox.execute("update public.outbox set last_attempt_at = last_attempt_at - interval '25 hours'")
    outbox.project(triggered("send_email", arm="event:tomorrow"))
    assert len(mail_server.messages) == 3
    deliver(outbox, configured(text))
    assert len(mail_server.messages) == 4


def test_a_channel_that_is_always_open_knows_no_quiet_hours_and_no_cap(outbox, mail_server):
    text = MAIL.format(port=mail_server.port).replace('security = "none"', 'security = "none"\nalways = true')
    text = f'quiet_hours = ["{quiet_now()}"]\nmessages_per_lead_and_day = 1\n' + text
    outbox.project(lead(), *(triggered("send_email", arm=f"event:{n}") for n in range(3)))
    assert {row["status"] for row in deliver(outbox, configured(text))} == {"delivered"}


@pytest.mark.parametrize(
    ("action", "config", "reason"),
    [
        ("send_webhook", {"channel": "none"}, "there is no channel 'none'"),
        ("send_webhook", {"channel": "lead"}, "there is no channel 'lead'"),
        ("send_email", {"channel": "webhook"}, "does not send e-mails"),
        ("launch_rocket", {}, "knows no action 'launch_rocket'"),
    ],
)
def test_what_no_channel_can_do_is_a_dead_letter(outbox, receiver, action, config, reason):
    outbox.project(lead(), triggered(action, config))
    (row,) = deliver(outbox, webhook_channel(receiver.url))
    assert (row["status"], row["attempts"]) == ("dead", 0)
    assert reason in row["last_error"]


def test_a_tenant_cannot_use_the_channel_of_another(outbox, receiver):
    configuration = webhook_channel(receiver.url)
    channel = configuration.channels["webhook"]
    own = type(channel)(url=channel.url, secrets=channel.secrets, tenants=("acme",))
    configuration = type(configuration)(channels={"webhook": own}, limits=configuration.limits)
    outbox.project(
        lead(), triggered("send_webhook"), lead(tenant="acme"), triggered("send_webhook", tenant="acme")
    )
    rows = deliver(outbox, configuration)
    assert {row["tenant"]: row["status"] for row in rows} == {"acme": "delivered", "default": "dead"}
    assert [request.json()["data"]["tenant"] for request in receiver.requests] == ["acme"]


def test_a_lead_that_the_read_models_do_not_have_yet_is_waited_for(outbox, receiver):
    outbox.project(triggered("send_webhook"))
    (row,) = deliver(outbox, webhook_channel(receiver.url), passes=1)
    assert (row["status"], row["attempts"]) == ("waiting", 0)
    outbox.execute(
        "update public.outbox set created_at = created_at - interval '1 hour', next_attempt_at = now()"
    )
    (row,) = deliver(outbox, webhook_channel(receiver.url), passes=1)
    assert (row["status"], row["last_error"]) == ("skipped", "the lead no longer exists")


def test_a_lead_that_was_merged_is_told_of_as_the_one_that_stays(outbox, receiver):
    outbox.project(
        lead("bob", name="Bob"),
        lead("carl", name="Carl"),
        lead("ada", redirect=None),
        triggered("send_webhook"),
    )
    outbox.execute("update live.leads set redirect = 'carl', identities = 0 where lead_id = 'ada'")
    outbox.execute("update live.leads set redirect = 'bob', identities = 0 where lead_id = 'carl'")
    deliver(outbox, webhook_channel(receiver.url))
    assert receiver.requests[0].json()["data"]["lead"]["name"] == "Bob"


def test_of_leads_that_are_merged_in_a_circle_the_one_that_stays_is_told_of(outbox, receiver):
    outbox.project(
        lead("bob", name="Bob"), lead("carl", name="Carl"), lead("ada", name="Ada"), triggered("send_webhook")
    )
    outbox.execute("update live.leads set redirect = 'carl', identities = 0 where lead_id = 'ada'")
    outbox.execute("update live.leads set redirect = 'bob', identities = 0 where lead_id = 'carl'")
    outbox.execute("update live.leads set redirect = 'ada', identities = 3 where lead_id = 'bob'")
    deliver(outbox, webhook_channel(receiver.url))
    assert receiver.requests[0].json()["data"]["lead"]["name"] == "Bob"


def test_logs_and_errors_name_no_address_and_no_secret(outbox, caplog, capsys):
    outbox.project(lead(), triggered("send_webhook"), triggered("send_email", {"to": "lead"}, arm="event:e2"))
    address = f"http://127.0.0.1:{free_port()}/hunter2"
    configuration = webhook_channel(address)
    mail = configured(MAIL.format(port=free_port()))
    configuration = type(configuration)(
        channels={**configuration.channels, **mail.channels}, limits=configuration.limits
    )
    rows = deliver(outbox, configuration)
    printed = "".join(capsys.readouterr()) + caplog.text + "".join(row["last_error"] for row in rows)
    assert "cannot be reached" in printed
    for secret in ("hunter2", WEBHOOK_SECRET, "ada@example.com", "127.0.0.1"):
        assert secret not in printed


# Metrics


def test_metrics_count_what_waits_and_what_is_dead_by_channel(outbox, receiver):
    receiver.otherwise = Answer(500)
    outbox.project(
        lead(),
        triggered("send_webhook", arm="event:fails"),
        triggered("send_webhook", {"channel": "nowhere"}, arm="event:nobody"),
        triggered("send_webhook", {"channel": "elsewhere"}, arm="event:neither"),
        triggered("send_notification", {"message": "Look"}, arm="event:passes"),
    )
    configuration = webhook_channel(receiver.url)
    deliver(outbox, configuration, passes=1)
    outbox.execute(
        "update public.outbox set next_attempt_at = now() - interval '1 hour' where status = 'failed'"
    )

    def gauges():
        with connect_watched(outbox.url, autocommit=True) as connection:
            backlog = read_backlog(connection, ["webhook", "notifications"])
        return {
            channel: (each.waiting, each.dead, each.oldest_seconds // 600)
            for channel, each in backlog.items()
        }

    assert gauges() == {"webhook": (1, 0, 6), None: (0, 2, 0)}
    receiver.otherwise = Answer(200)
    deliver(outbox, configuration)
    assert gauges() == {None: (0, 2, 0)}
    deliver(outbox, configuration, passes=1)  # a worker measures when it starts
    shown = delivery_exposition().decode()
    assert 'leadstream_delivery_dead_letters{channel="(not configured)"} 2.0' in shown
    assert 'leadstream_delivery_waiting{channel="webhook"} 0.0' in shown
    assert "nowhere" not in shown, "a published text makes no series"
