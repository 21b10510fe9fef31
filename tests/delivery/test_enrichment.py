"""Sources of enrichment: keys, answers, what an answer fills, and a worker with real servers and a real queue."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from outboxes import EventLog, Outbox, configured, lead
from projection_records import TENANT
from receivers import CUT, SILENT, Answer, ReceivedRequest

from delivery.channels.http_requests import HttpAnswer
from delivery.configuration import ConfigurationError, compile_configuration
from delivery.enrichment.answers import SourceFileError, read_source_file, usable_fields
from delivery.enrichment.enrichment_worker import (
    EnrichmentPorts,
    EnrichmentWorker,
    SourceAnswer,
    fields_to_fill,
)
from delivery.enrichment.keys import company_domain, key_of
from delivery.outcomes import DeliveryFailedError
from projections.enrichment_queue import note_addresses
from projections.row_keys import lead_row_key
from schemas.decode import decode_source

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "decoded"),
    [
        (rb'{"name": "a\u0000b"}', {"name": "a\ufffdb"}),
        (rb'{"name": "\ud83d"}', {"name": "\ufffd"}),
        (b'{"name": "Jos\xe9"}', {"name": "Jos\ufffd"}),
        (b"[" * 100_000, None),
        (b"<html>", None),
    ],
)
def test_what_cannot_be_stored_is_replaced_in_the_answer_of_a_source(body, decoded):
    answer = HttpAnswer(200, body)
    if decoded is None:
        with pytest.raises(DeliveryFailedError):
            answer.json()
    else:
        assert answer.json() == decoded


HTTP = """
[enrichment.firms]
type = "http"
key = "company_domain"
url = "{url}/companies?domain={{key}}"
headers = {{ authorization = "env:TOKEN" }}
fields = {{ industry = "company.industry", company_size = "company.size", technologies = "company.tech" }}
days = 30
{more}
"""


def sources(text, **environment):
    return configured(text, TOKEN="Bearer a-token", **environment)


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        ("ada@acme.com", "acme.com"),
        ("ada@Mail.Acme.co.uk", "acme.co.uk"),
        ("ada@gmail.com", None),
        ("ada@googlemail.com", None),
        ("ada@web.de", None),
        ("ada@co.uk", None),
        ("ada@localhost", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_company_of_an_address_is_its_registrable_domain_unless_everybody_has_one_there(email, domain):
    assert company_domain(email) == domain
    assert key_of("company_domain", email or None, None) == domain


def test_an_answer_fills_what_the_lead_lacks_and_replaces_only_what_the_source_had_answered():
    answer = SourceAnswer("s", "asked", {"industry": "Retail", "title": "CEO", "size": 9}, {"size": 5}, NOW)
    assert fields_to_fill({"title": "Founder", "size": 5}, answer) == {"industry": "Retail", "size": 9}
    assert fields_to_fill({"industry": "Retail", "title": "CEO", "size": 7}, answer) == {}


def test_values_that_no_field_can_be_are_left_out():
    values = {
        "a": " x ",
        "b": "",
        "c": {"d": 1},
        "e": ["x"],
        "f": [1],
        "g": 10**30,
        "h": None,
        "i": False,
        "j": 3,
    }
    assert usable_fields(values) == {"a": "x", "e": ["x"], "i": False, "j": 3}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HTTP.format(url="http://a.example", more="per_day = 0"), "per_day"),
        (HTTP.format(url="http://{key}.example", more=""), "not into the host"),
        (HTTP.format(url="http://a.example", more="").replace("{key}", ""), "{key} is missing"),
        (HTTP.format(url="http://a.example", more='body = "x"'), "body: only method"),
        (HTTP.format(url="http://a.example", more="").replace("industry =", "email ="), "no profile field that a source"),
        (HTTP.format(url="http://a.example", more="").replace("company.size", "]["), "no expression of JMESPath"),
        ('[enrichment.f]\ntype = "file"\nkey = "email"\npath = "a.xlsx"\ncolumn = "e"\nfields = { a = "b" }\n', ".csv"),
    ],
)  # fmt: skip
def test_a_wrong_source_is_refused_by_its_place(text, reason):
    with pytest.raises(ConfigurationError, match=r"enrichment\.") as refused:
        compile_configuration(text, {"TOKEN": "x"})
    assert reason in str(refused.value)


def test_a_file_is_a_csv_or_lines_of_json(tmp_path):
    text = '[enrichment.f]\ntype = "file"\nkey = "company_domain"\npath = "{}"\ncolumn = "domain"\nfields = {{ industry = "branch" }}\n'
    (tmp_path / "a.csv").write_text("\ufeffdomain,branch\nACME.com,Retail\nother.com,\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(
        '{"domain": "acme.com", "branch": "Retail"}\n\n{"x": 1}\n', encoding="utf-8"
    )
    for name in ("a.csv", "b.jsonl"):
        source = compile_configuration(text.format(name), {}, tmp_path).enrichment["f"]
        table = read_source_file(source)
        assert table["acme.com"] == {"industry": "Retail"}
    (tmp_path / "c.csv").write_text("site\nacme.com\n", encoding="utf-8")
    for name, reason in (("c.csv", "no column 'domain'"), ("missing.csv", "cannot be read")):
        source = compile_configuration(text.format(name), {}, tmp_path).enrichment["f"]
        with pytest.raises(SourceFileError, match=reason):
            read_source_file(source)


class Person:
    """What the projection writes of an event that may have given an address."""

    def __init__(self, **fields):
        row = {
            "identity_key": 1,
            "tenant": TENANT,
            "type": "contact_shared",
            "imported": False,
            "late": False,
        }
        row |= {"source": "web", "recorded_at": datetime.now(UTC), **fields}
        for name, value in row.items():
            setattr(self, name, value)


@pytest.fixture
def queue(outbox: Outbox) -> Outbox:
    outbox.execute(
        "truncate public.enrichment_queue, public.enrichment_cache, public.enrichment_usage, live.identities"
    )
    return outbox


pytestmark = pytest.mark.postgres


def note(queue, *people, lead_id="ada"):
    with psycopg.connect(queue.url) as connection, connection.cursor() as cursor:
        note_addresses(cursor, people)
    for person in people:
        queue.execute(
            "insert into live.identities (identity_key, tenant, identity, lead_key, lead_id, epoch, home, attached_at) "
            "values (%s, %s, %s, %s, %s, 1, %s, now()) on conflict do nothing",
            (
                person.identity_key,
                TENANT,
                f"i{person.identity_key}",
                lead_row_key(TENANT, lead_id),
                lead_id,
                lead_id,
            ),
        )


def enrich(queue, configuration, now=None, log=None):
    log = log or EventLog()

    async def run():
        worker = EnrichmentWorker(
            configuration,
            EnrichmentPorts(
                lambda: queue.url, log, lambda: now or datetime.now(UTC) + timedelta(seconds=5), lambda: 0.0
            ),
        )
        try:
            while await worker.step():
                pass
        finally:
            await worker.close()

    asyncio.run(run())
    return [decode_source(record.value) for record in log.records]


def company(request: ReceivedRequest) -> Answer:
    if request.headers.get("authorization") != "Bearer a-token":
        return Answer(401)
    if request.path.endswith("=acme.com"):
        return Answer(200, body=b'{"company": {"industry": "Retail", "size": 50, "tech": ["shop"], "x": 1}}')
    return Answer(404)


def test_a_source_is_asked_once_for_a_company_and_its_answer_becomes_an_event(queue, receiver):
    receiver.otherwise = company
    configuration = sources(HTTP.format(url=receiver.url, more=""))
    queue.project(lead("ada", email="ada@acme.com"), lead("bob", email="bob@acme.com", industry="Banking"))
    note(queue, Person(identity_key=1))
    note(queue, Person(identity_key=2), lead_id="bob")
    events = enrich(queue, configuration)
    assert [request.path for request in receiver.requests] == ["/companies?domain=acme.com"]
    filled = {event.lead_id: event.fields for event in events}
    assert filled == {
        "ada": {"industry": "Retail", "company_size": 50, "technologies": ["shop"]},
        "bob": {"company_size": 50, "technologies": ["shop"]},
    }
    assert {event.source for event in events} == {"enrichment"}
    assert not queue.rows("select * from public.enrichment_queue")
    note(queue, Person(identity_key=1))
    (again,) = enrich(queue, configuration)
    assert again.event_id == next(event.event_id for event in events if event.lead_id == "ada")
    assert len(receiver.requests) == 1


def test_nobody_is_asked_about_who_may_not_be_or_has_no_company(queue, receiver):
    receiver.otherwise = company
    queue.project(
        lead("ada", email="ada@acme.com", profiling_consent=False), lead("bob", email="bob@gmail.com")
    )
    note(queue, Person(identity_key=1))
    note(queue, Person(identity_key=2), lead_id="bob")
    assert enrich(queue, sources(HTTP.format(url=receiver.url, more=""))) == []
    assert not receiver.requests
    assert not queue.rows("select * from public.enrichment_queue")


def test_imports_late_events_old_ones_and_the_answers_themselves_ask_nothing(queue):
    note(
        queue,
        Person(imported=True),
        Person(late=True),
        Person(source="enrichment"),
        Person(type="page_viewed"),
        Person(recorded_at=datetime.now(UTC) - timedelta(hours=25)),
    )
    assert not queue.rows("select * from public.enrichment_queue")


@pytest.mark.parametrize(
    "fault", [Answer(429, {"retry-after": "60"}), Answer(503), Answer(200, body=b"<x>"), CUT, SILENT]
)
def test_a_source_that_misbehaves_is_asked_again(queue, receiver, fault):
    receiver.answers, receiver.otherwise = [fault], company
    configuration = sources(HTTP.format(url=receiver.url, more=""))
    queue.project(lead("ada", email="ada@acme.com"))
    note(queue, Person())
    now = datetime.now(UTC) + timedelta(seconds=5)
    assert enrich(queue, configuration, now) == []
    (row,) = queue.rows("select * from public.enrichment_queue")
    assert row["attempts"] == 1
    assert row["next_at"] >= now + timedelta(
        seconds=60 if isinstance(fault, Answer) and fault.status == 429 else 0
    )
    (event,) = enrich(queue, configuration, now + timedelta(seconds=61))
    assert event.fields["industry"] == "Retail"


def test_a_source_that_refuses_is_not_asked_again_for_this_event(queue, receiver):
    receiver.otherwise = Answer(401)
    queue.project(lead("ada", email="ada@acme.com"))
    note(queue, Person())
    assert enrich(queue, sources(HTTP.format(url=receiver.url, more=""))) == []
    assert not queue.rows("select * from public.enrichment_queue")


def test_a_budget_puts_off_until_the_next_day_and_the_next_month(queue, receiver):
    receiver.otherwise = company
    configuration = sources(HTTP.format(url=receiver.url, more="per_day = 1\nper_month = 2"))
    now = datetime.now(UTC).replace(day=3) + timedelta(days=40)
    domains = ["acme.com", "b.example", "c.example"]
    for number, domain in enumerate(domains):
        queue.project(lead(f"l{number}", email=f"x@{domain}"))
        note(queue, Person(identity_key=number), lead_id=f"l{number}")
    requested = []
    for days in (0, 1, 2, 40):
        enrich(queue, configuration, now + timedelta(days=days))
        requested.append(len(receiver.requests))
    assert requested == [1, 2, 2, 3]


def test_an_answer_that_is_too_old_is_asked_for_again_and_replaces_what_it_had_filled(queue, receiver):
    receiver.otherwise = company
    configuration = sources(HTTP.format(url=receiver.url, more=""))
    queue.project(lead("ada", email="ada@acme.com"))
    note(queue, Person())
    enrich(queue, configuration)
    receiver.otherwise = Answer(200, body=b'{"company": {"industry": "Travel", "size": 60}}')
    queue.project(lead("ada", email="ada@acme.com", industry="Retail", company_size=55))
    note(queue, Person())
    (event,) = enrich(queue, configuration, datetime.now(UTC) + timedelta(days=31))
    assert event.fields == {"industry": "Travel"}


def test_a_post_with_a_template_sends_the_key_and_nothing_else(queue, receiver):
    receiver.otherwise = Answer(200, body=b'{"name": "Ada"}')
    text = (
        f'[enrichment.people]\ntype = "http"\nkey = "email"\nmethod = "POST"\nurl = "{receiver.url}/find"\n'
        'body = \'{"query": {"email": "{key}"}}\'\nfields = { name = "name", title = "title" }\n'
    )
    queue.project(lead("ada", email='a"da@acme.com', name=None))
    note(queue, Person())
    (event,) = enrich(queue, sources(text))
    assert event.fields == {"name": "Ada"}
    assert receiver.requests[0].json() == {"query": {"email": 'a"da@acme.com'}}


def test_while_the_log_takes_nothing_the_answer_waits_in_the_cache(queue, receiver):
    receiver.otherwise = company
    configuration = sources(HTTP.format(url=receiver.url, more=""))
    queue.project(lead("ada", email="ada@acme.com"))
    note(queue, Person())
    log = EventLog()
    log.failures = 1
    now = datetime.now(UTC) + timedelta(seconds=5)
    assert enrich(queue, configuration, now, log) == []
    (event,) = enrich(queue, configuration, now + timedelta(minutes=1), log)
    assert event.lead_id == "ada"
    assert len(receiver.requests) == 1
