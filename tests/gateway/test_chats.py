"""Chats by their mappings. The payloads in `chat_payloads` are written by hand as the documentation of Twilio, Meta and
Viber shows them.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import create_app
from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.chat_accounts import ChatRequest, has_signed, read_chats
from gateway.door.chat_mapping import (
    BUILT_IN_MAPPINGS,
    MappingError,
    load_mapping,
    mapping_text,
    read_mapping,
)
from gateway.door.chat_messages import MOST_MESSAGES, events_of
from gateway.door.messenger_events import form_parameters
from gateway.door.pace import run_paced
from gateway.ports import Ports
from leadstream.settings import SettingError, Settings, read_settings
from leadstream.wiring import open_system, ports_open
from schemas.decode import read_event
from schemas.envelope import tag_of
from tests.leadstream.command_line import leadstream_here

NOW = datetime(2030, 1, 31, 10, 30, tzinfo=UTC)
PAYLOADS = Path(__file__).parent / "chat_payloads"
SECRET = "a-secret-of-theirs"
OWN = """
source = "intercom"
[authentication]
method = "bearer"
[messages]
each = "parts"
ignore = ["author.type != 'user'"]
[sender]
id = "author.id"
email = "author.email"
company_name = "_body.company"
[message]
id = "id"
time = "created_at"
text = "body"
voice = "audio.id"
duration = "audio.seconds"
button = "choice.value"
label = "choice.label"
kind = "type"
[contact]
phone = "phone"
"""


def content_of(file):
    body = (PAYLOADS / file).read_bytes().strip()
    return dict(form_parameters(body)) if file.endswith(".form") else json.loads(body)


def meaning(mapping, content):
    return asyncio.run(run_paced(events_of("support", mapping, content)))


def recorded(raws):
    return [
        admit_event(
            read_producer_event(json.dumps(raw).encode(), raw["event_id"], NOW), RequestFacts("default"), NOW
        )
        for raw in raws
    ]


def shown(events):
    return [
        (tag_of(type(each)), getattr(each, "text", None) or getattr(each, "fields", None)) for each in events
    ]


def test_a_text_message_of_twilio_identifies_its_sender():
    found = meaning(load_mapping("twilio", None), content_of("twilio.form"))
    assert shown(recorded(found.events)) == [
        ("profile_updated", {"phone": "+14158675309"}),
        ("message_received", "I'm interested in 2BR"),
    ]
    assert "14158675309" not in found.events[1]["visitor_id"] + found.events[1]["event_id"]


def test_a_voice_message_of_whatsapp_by_way_of_twilio():
    profile, voice = recorded(
        meaning(load_mapping("twilio", None), content_of("twilio-whatsapp-voice.form")).events
    )
    assert profile.fields == {"phone": "+14158675309", "name": "Kerry Fisher"}
    assert (voice.kind, voice.file_id) == (
        "voice",
        "https://api.twilio.com/2010-04-01/Accounts/ACb0/Messages/MM0a/Media/ME1",
    )


@pytest.mark.parametrize(
    ("name", "file", "ignored"), [("twilio", "twilio-status.form", 1), ("viber", "viber-webhook.json", 1)]
)
def test_statuses_mean_no_event(name, file, ignored):
    found = meaning(load_mapping(name, None), content_of(file))
    assert (found.events, found.ignored, found.skipped) == ([], ignored, 0)


def test_a_notification_of_meta_has_several_messages():
    found = meaning(load_mapping("messenger", None), content_of("messenger.json"))
    events = recorded(found.events)
    assert (found.messages, found.ignored, found.skipped) == (7, 2, 0)
    assert shown(events) == [
        ("message_received", "hello, world!"),
        ("question_answered", "Dubai Marina"),
        ("message_received", None),
        ("qr_scanned", None),
        ("custom", None),
    ]
    assert events[1].profile_field == "location"
    assert events[2].kind == "voice"
    assert events[3].qr_id == "stand-7"
    assert events[4].properties == {"kind": "image"}
    assert events[0].occurred_at == datetime(2016, 3, 23, 0, 25, 52, 478_000, tzinfo=UTC)
    assert len({each.visitor_id for each in events}) == 1
    assert len({each.event_id for each in events}) == 5


def test_viber_tells_names_and_links():
    profile, message = recorded(meaning(load_mapping("viber", None), content_of("viber.json")).events)
    assert profile.fields == {"name": "John McClane"}
    assert (message.text, message.source) == ("a message to the service", "viber")
    again, scan = recorded(meaning(load_mapping("viber", None), content_of("viber-opened.json")).events)
    assert again.event_id == profile.event_id
    assert (tag_of(type(scan)), scan.qr_id, scan.visitor_id) == ("qr_scanned", "stand-7", message.visitor_id)
    plain = {**content_of("viber-opened.json"), "context": ""}
    _, opened = recorded(meaning(load_mapping("viber", None), plain).events)
    assert tag_of(type(opened)) == "session_started"


@pytest.mark.parametrize(
    ("part", "kind", "fields"),
    [
        ({"body": "Hi", "created_at": 1_900_000_000}, "message_received", {"text": "Hi"}),
        ({"body": "qr_stand-7"}, "qr_scanned", {"qr_id": "stand-7"}),
        ({"audio": {"id": "a1", "seconds": "12"}}, "message_received", {"kind": "voice", "duration_s": 12}),
        (
            {"choice": {"value": "budget_max:2000000", "label": "2M"}},
            "question_answered",
            {"profile_field": "budget_max"},
        ),
        ({"choice": {"value": "more"}, "body": "More"}, "element_clicked", {"text": "More"}),
        ({"type": "Sticker / GIF"}, "custom", {"properties": {"kind": "sticker_gif"}}),
        ({"phone": "tel:+971501234567"}, "contact_shared", {"phone": "+971501234567"}),
    ],
)
def test_what_a_message_of_ones_own_mapping_means(part, kind, fields):
    author = {"type": "user", "id": 7, "email": "ada@example.com"}
    content = {"company": "Obi & Sons", "parts": [{"id": "p1", "author": author, **part}]}
    profile, event = recorded(meaning(read_mapping(OWN, "own.toml"), content).events)
    assert profile.fields == {"email": "ada@example.com", "company_name": "Obi & Sons"}
    assert tag_of(type(event)) == kind
    assert {name: getattr(event, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("stated", "at"),
    [
        (1_700_000_000, "2023-11-14T22:13:20+00:00"),
        ("1700000000", "2023-11-14T22:13:20+00:00"),
        (1_700_000_000_250, "2023-11-14T22:13:20.250000+00:00"),
        ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20+00:00"),
        ("2023-11-14T23:13:20+01:00", "2023-11-14T23:13:20+01:00"),
        ("2023-11-14 22:13:20", "2023-11-14T22:13:20+00:00"),
        ("yesterday", None),
        (-5, None),
        (True, None),
        ("nan", None),
        ("9" * 400, None),
    ],
)
def test_a_time_is_read_in_the_forms_that_providers_use(stated, at):
    part = {"id": 1, "author": {"id": "u", "type": "user"}, "body": "Hi", "created_at": stated}
    (event,) = meaning(read_mapping(OWN, "own.toml"), {"parts": [part]}).events
    assert event.get("occurred_at") == at


def test_messages_of_our_side_and_without_a_sender_are_left_out():
    parts = [
        {"id": 1, "author": {"id": "a", "type": "admin"}, "body": "How can I help?"},
        {"id": 2, "author": {"type": "user"}, "body": "Who am I?"},
        {"id": 3, "author": {"id": "u", "type": "user"}},
        "strange",
    ]
    found = meaning(read_mapping(OWN, "own.toml"), {"parts": parts})
    assert found == ([], 3, 1, 2)


def test_a_message_without_an_id_counts_once():
    part = {"author": {"id": "u", "type": "user"}, "body": "Hi"}
    mapping = read_mapping(OWN, "own.toml")
    (first,) = meaning(mapping, {"parts": [part]}).events
    (again,) = meaning(mapping, {"parts": [part], "delivery": 2}).events
    assert first["event_id"] == again["event_id"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "entry",
                    "messaging",
                    "message",
                    "sender",
                    "id",
                    "text",
                    "event",
                    "context",
                    "From",
                    "Body",
                    "timestamp",
                    "postback",
                    "payload",
                    "attachments",
                    "MediaContentType0",
                    "NumMedia",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(json_values, st.sampled_from(BUILT_IN_MAPPINGS))
def test_no_payload_breaks_the_reading(strange, name):
    mapping = load_mapping(name, None)
    for raw in (
        meaning(mapping, strange).events + meaning(mapping, {"entry": [{"messaging": [strange]}]}).events
    ):
        assert raw["visitor_id"].startswith("chat-support-")


def test_twilios_own_example_of_a_signature_is_right():
    """Address, parameters, token and signature are those of the tests of Twilio's libraries."""
    account = read_chats(["default:sms:twilio:" + "12345".ljust(8, "x")], None)["sms"]
    account = account.__class__(account.name, account.tenant, account.mapping, "12345")
    parameters = {
        "From": "+14158675309",
        "To": "+18005551212",
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675309",
        "Digits": "1234",
    }
    headers = {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}
    request = ChatRequest(
        "https://mycompany.com/myapp.php?foo=1&bar=2", headers, b"", tuple(parameters.items())
    )
    assert has_signed(account, request)
    assert not has_signed(account, ChatRequest(request.url + "3", headers, b"", request.parameters))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sender", "own.toml is no TOML"),
        ("[sende]\nid = 'x'", r"own.toml, line 1, sende: unknown; possible are about, answer, authentication"),
        (OWN.replace('"author.id"', '"author..id"'), r"line 9, sender.id: is no expression of JMESPath"),
        (OWN.replace('id = "author.id"\n', ""), r"line 8, sender.id: missing: say where"),
        (OWN.replace('"bearer"', '"none"'), r"line 4, authentication.method: is one of hmac, header, field, bearer"),
        (OWN.replace('"bearer"', '"hmac"'), r"authentication.header: missing"),
        (
            OWN.replace('"bearer"', '"hmac"\nheader = "X-S"\nsigned = "{url}"'),
            r"line 6, authentication.signed: must have \{body\}",
        ),
        (
            OWN.replace('"bearer"', '"hmac"\nheader = "X-S"\nsigned = "{parameters}"'),
            r"line 6, authentication.signed: only a form has",
        ),
        (OWN.replace("ignore = [", "ignore = [7, "), r"line 7, messages.ignore: must be an expression in quotes, not 7"),
        (OWN.replace("[contact]", "[contact]\nfax = 'fax'"), r"contact.fax: unknown; possible are email"),
        (OWN.replace('"intercom"', '"Inter com"'), r"line 2, source: must be a-z"),
        (OWN + "[challenge]\ntoken = 't'\n", r"challenge.answer: missing: token needs it"),
        (OWN.replace("company_name", "Company"), r"line 11, sender.Company: name a profile field"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_with_its_line_and_key(text, message):
    with pytest.raises(MappingError, match=message):
        read_mapping(text, "own.toml")


def test_the_mapping_that_the_page_shows_is_read():
    page = (Path(__file__).parents[2] / "docs/chats.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    mapping = read_mapping(text, "helpdesk.toml")
    part = {"id": "1", "author": {"id": "a", "type": "user", "name": "Ada"}, "body": "Hi"}
    voice = {"kind": "voice", "id": "rec-1", "seconds": 9}
    data = {"parts": [part, part | {"redacted": True}, part | {"id": "2", "attachments": [voice]}]}
    events = recorded(meaning(mapping, {"data": data | {"company": {"name": "Obi"}}}).events)
    assert events[0].fields == {"name": "Ada", "company_name": "Obi"}
    assert (events[1].text, events[3].file_id, events[3].duration_s) == ("Hi", "rec-1", 9)


def test_built_in_mappings_are_read_and_shown():
    for name in BUILT_IN_MAPPINGS:
        assert read_mapping(mapping_text(name, None), name)
        printed = leadstream_here("chats", "show", name)
        assert printed.stdout.decode().rstrip("\n") == mapping_text(name, None).rstrip("\n")


def test_a_chat_of_the_settings_is_refused_at_the_start_without_its_secret(tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    good = f"default:support:own:{SECRET}"
    folder = {"chat_mappings": tmp_path}
    assert read_settings(chats=good, **folder).chat_accounts["support"].tenant == "default"
    assert SECRET not in repr(read_settings(chats=good, **folder))
    (tmp_path / "broken.toml").write_text(
        "[sender]\nid = 5\n[message]\ntext = 't'\n[authentication]\nmethod = 'bearer'\n"
    )
    for chats, reason in (
        (f"{good},{good}", "of this name already"),
        (f"Default:support:own:{SECRET}", "begin with its tenant"),
        (f"default:support:own:{SECRET}:x:y", "four or five parts"),
        ("default:support:own:short", "a secret is"),
        (
            f"default:support:other:{SECRET}",
            "there is no mapping 'other': built in are messenger, twilio, viber",
        ),
        (f"default:support:broken:{SECRET}", "broken.toml, line 2, sender.id"),
        (f"default:support:messenger:{SECRET}", "needs a verify token"),
        (f"default:support:../own:{SECRET}", "the mapping is the name"),
    ):
        with pytest.raises(SettingError, match="LEADSTREAM_CHATS") as refused:
            read_settings(chats=chats, **folder)
        assert reason in str(refused.value)
        assert SECRET not in str(refused.value)


def test_a_mapping_is_tried_before_it_goes_live(tmp_path):
    mapping = tmp_path / "own.toml"
    mapping.write_text(OWN)
    payload = tmp_path / "payload.json"
    payload.write_text(
        '{"parts": [{"author": {"id": "u", "type": "user"}, "body": "Hi"}, {"author": {"type": "bot"}}]}'
    )
    tried = leadstream_here("chats", "try", payload, "--mapping", mapping)
    assert json.loads(tried.stdout)["text"] == "Hi"
    assert "2 messages: 1 events, 0 refused, 1 messages ignored" in tried.stderr.decode()
    form = leadstream_here("chats", "try", PAYLOADS / "twilio.form", "-m", "twilio")
    assert "+14158675309" in form.stdout.decode()
    payload.write_text("{}")
    nothing = leadstream_here("chats", "try", payload, "-m", "messenger")
    assert (nothing.returncode, "messages.each" in nothing.stderr.decode()) == (1, True)
    mapping.write_text(OWN.replace('"author.id"', '"author["'))
    wrong = leadstream_here("chats", "try", payload, "-m", mapping)
    assert wrong.returncode == 1
    assert "sender.id" in wrong.stderr.decode()


CHATS = (
    f"default:own:own:{SECRET}",
    f"default:sms:twilio:{SECRET}",
    f"default:page:messenger:{SECRET}:verify-me",
    f"default:list:field:{SECRET}",
)
FIELD = """
[authentication]
method = "field"
field = "secret_key"
[challenge]
field = "challenge"
[answer]
text = "thanks"
[sender]
id = "from"
[message]
text = "text"
"""


@pytest.fixture
async def door(tmp_path):
    appended = []

    async def append(records):
        appended.extend(read_event(record.value) for record in records)

    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "field.toml").write_text(FIELD)
    ports = Ports(
        append,
        "postgresql://nobody@127.0.0.1:1/x",
        public_url="https://leads.example/in",
        chats=read_chats(CHATS, tmp_path),
    )
    transport = httpx.ASGITransport(create_app(ports))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http, appended


@pytest.mark.anyio
async def test_a_form_signed_with_its_address_is_taken(door):
    http, appended = door
    body = (PAYLOADS / "twilio.form").read_bytes().strip()
    pairs = sorted(parse_qsl(body.decode(), keep_blank_values=True))
    signed = "https://leads.example/in/v1/chats/sms" + "".join(name + value for name, value in pairs)
    digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha1).digest()
    headers = {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    taken = await http.post("/v1/chats/sms", content=body, headers=headers)
    assert (taken.status_code, taken.text) == (200, "<Response/>")
    assert taken.headers["Content-Type"].startswith("text/xml")
    assert [tag_of(type(each)) for each in appended] == ["profile_updated", "message_received"]
    changed = body.replace(b"2BR", b"3BR")
    assert (await http.post("/v1/chats/sms", content=changed, headers=headers)).status_code == 401
    many = urlencode([("a", "b")] * 2_000).encode()
    assert (await http.post("/v1/chats/sms", content=many, headers=headers)).status_code == 400


@pytest.mark.anyio
async def test_an_address_is_verified_and_bodies_are_signed(door):
    http, appended = door
    asked = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "1158201444"}
    answer = await http.get("/v1/chats/page", params=asked)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    for name, wrong in (
        ("page", {**asked, "hub.verify_token": "verify-you"}),
        ("own", asked),
        ("sms", asked),
    ):
        assert (await http.get(f"/v1/chats/{name}", params=wrong)).status_code == 403
    assert (await http.get("/v1/chats/other", params=asked)).status_code == 404
    assert [(await http.head(f"/v1/chats/{name}")).status_code for name in ("own", "other")] == [200, 404]
    body = (PAYLOADS / "messenger.json").read_bytes()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    taken = await http.post("/v1/chats/page", content=body, headers={"X-Hub-Signature-256": signature})
    assert (taken.status_code, taken.json()["ignored"], taken.json()["skipped"]) == (200, 2, 0)
    assert taken.json()["events"] == [each.event_id for each in appended]
    for headers in ({}, {"X-Hub-Signature-256": signature[:-1] + "é"}):
        refused = await http.post(
            "/v1/chats/page", content=body, headers={name: value.encode() for name, value in headers.items()}
        )
        assert refused.status_code == 401
        assert SECRET not in refused.text


@pytest.mark.anyio
async def test_bearer_tokens_and_secrets_in_the_body_prove_a_request(door):
    http, appended = door
    part = {"id": 1, "author": {"id": "u", "type": "user"}, "body": "Hi"}
    for authorization, status in ((f"Bearer {SECRET}", 200), ("Bearer other-secret", 401), (SECRET, 401)):
        answer = await http.post(
            "/v1/chats/own", json={"parts": [part]}, headers={"Authorization": authorization}
        )
        assert answer.status_code == status
    own = {"secret_key": SECRET, "from": "u", "text": "Hi"}
    taken = await http.post("/v1/chats/list", json=own)
    assert (taken.status_code, taken.text) == (200, "thanks")
    assert len(appended) == 2
    for body in (own | {"secret_key": "other-secret"}, [own], {}):
        assert (await http.post("/v1/chats/list", json=body)).status_code == 401
    challenged = await http.post("/v1/chats/list", json={"secret_key": SECRET, "challenge": "3eZbrw1a"})
    assert challenged.text == "3eZbrw1a"
    broken = await http.post("/v1/chats/list", content=b"{")
    assert (broken.status_code, broken.json()["error"]["field"]) == (400, "body")


@pytest.mark.anyio
async def test_a_request_has_a_bounded_number_of_messages(door):
    http, appended = door
    parts = [{"id": each} for each in range(MOST_MESSAGES + 1)]
    answer = await http.post(
        "/v1/chats/own", json={"parts": parts}, headers={"Authorization": f"Bearer {SECRET}"}
    )
    assert answer.status_code == 413
    assert not appended


@pytest.mark.anyio
async def test_a_body_that_takes_too_long_to_read_is_refused(door, monkeypatch):
    monkeypatch.setattr("gateway.door.chats.LONGEST_READING_SECONDS", 0)
    http, appended = door
    answer = await http.post(
        "/v1/chats/own",
        json={"parts": [{"id": 1, "author": {"id": "u", "type": "user"}, "body": "Hi"}]},
        headers={"Authorization": f"Bearer {SECRET}"},
    )
    assert (answer.status_code, answer.json()["error"]["field"]) == (413, "body")
    assert not appended


@pytest.mark.parametrize(
    ("skip", "ignored"), [(0, 1), (True, 1), ("no", 1), (False, 0), (None, 0), ("", 0), ([], 0), ({}, 0)]
)
def test_what_jmespath_calls_true_is_ignored(tmp_path, skip, ignored):
    """https://jmespath.org/specification.html#or-expressions: a number is never false."""
    (tmp_path / "own.toml").write_text(FIELD + '[messages]\nignore = ["skip"]\n')
    mapping = load_mapping("own", tmp_path)
    assert meaning(mapping, {"from": "u", "text": "Hi", "skip": skip}).ignored == ignored


@pytest.mark.anyio
async def test_a_message_makes_a_lead(database_url):
    """1 for the message, 10 for the phone, 20 for being recent; the request comes twice."""
    settings = Settings(
        database_url=database_url,
        partitions=4,
        chats=f"default:sms:twilio:{SECRET}",
        public_url="https://leads.example",
    )
    form = {"MessageSid": "SM1", "From": "+14158675309", "Body": "Hi", "SmsStatus": "received"}
    signed = "https://leads.example/v1/chats/sms" + "".join(name + form[name] for name in sorted(form))
    digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha1).digest()
    headers = {"X-Twilio-Signature": base64.b64encode(digest).decode()}
    with open_system(settings) as system:
        async with ports_open(system, settings) as ports:
            app = create_app(ports)
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
            ):
                for _ in range(2):
                    assert (await http.post("/v1/chats/sms", data=form, headers=headers)).status_code == 200
                leads, until = [], time.monotonic() + 20
                while not (leads and leads[0]["lead_score"] == 31) and time.monotonic() < until:
                    leads = (await http.get("/api/tenants/default/leads")).json()
                    await asyncio.sleep(0.02)
    (lead,) = leads
    assert (lead["lead_score"], lead["phone"], lead["messages_count"]) == (31, "+14158675309", 1)
