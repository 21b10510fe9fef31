"""Following links, and making them over HTTP. The log is a list; there is no database."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import httpx
import pytest
import structlog
from msgspec import structs
from structlog.testing import capture_logs

from gateway import metrics
from gateway.access import RateLimit, read_access
from gateway.app import create_app
from gateway.door import followed_links
from gateway.door.signed_links import (
    CatalogLink,
    MailClickLink,
    MailOpenLink,
    QrLink,
    TelegramLink,
    read_link_keys,
    seal_link,
)
from gateway.ports import LogUnavailable, Ports
from schemas.decode import decode_source
from schemas.envelope import tag_of
from schemas.topics import EVENTS, lead_key, visitor_key
from tests.gateway.code_pictures import text_of_png, text_of_svg

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
KEYS = read_link_keys(["one-key-of-at-least-24-characters"])
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
OUTLOOK = "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)"
GMAIL_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
SAFE_LINKS = "Mozilla/5.0 (Windows NT 10.0) Chrome/90.0 Safari/537.36 BingPreview/1.0b"
MESSENGERS = [
    "TelegramBot (like TwitterBot)",
    "WhatsApp/2.23.20.0 A",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
]
TARGET = "https://www.acme.example/expo?utm_source=expo&utm_medium=print"
CODE = QrLink(target=TARGET, qr_id="stand-7", location="Hall 3", property_id="villa-12", agent_id="agent-7")
CATALOG = CatalogLink(
    target="https://www.acme.example/r.pdf", catalog_id="riverside", title="Riverside", campaign="spring"
)
CLICK = MailClickLink(
    target=TARGET, lead_id="lead-1001", message_id="<1@x>", campaign_id="c-9", campaign_name="Spring"
)
OPEN = MailOpenLink(lead_id="lead-1001", message_id="<1@x>", campaign_id="c-9")
CHAT = TelegramLink(target="https://t.me/acme_realty_bot?start=qr_stand-7")
ALL = [CODE, CATALOG, CLICK, OPEN, CHAT]
TENANTS = {
    "access": read_access(
        ["one:write-key-of-one"],
        ["one:read+write:token-of-one", "two:read+write:token-of-two", "one:read:reader-of-one"],
    )
}


def path_of(link):
    token = seal_link(link, KEYS)
    return f"/o/{token}.gif" if isinstance(link, MailOpenLink) else f"/l/{token}"


class Links:
    """A gateway, a browser of nobody in particular, and the log."""

    def __init__(self, **ports):
        self.log = []
        self.failure = None
        self.slow = 0.0
        self.now = NOW
        settings = {"public_url": "https://go.acme.example", "link_keys": KEYS, **ports}
        database = "postgresql://nobody@127.0.0.1:1/x"
        self.app = create_app(Ports(self.append, database, now=lambda: self.now, **settings))
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def append(self, records):
        await asyncio.sleep(self.slow)
        if self.failure:
            raise self.failure
        assert all(record.topic == EVENTS for record in records)
        self.log += [(record.key, decode_source(record.value)) for record in records]

    async def get(self, path, agent=PHONE, method="GET", **headers):
        self.http.cookies.clear()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if agent is not None:
            named["User-Agent"] = agent
        request = self.http.build_request(method, path, headers=named)
        if agent is None:
            del request.headers["User-Agent"]
        return await self.http.send(request)

    async def follow(self, link, agent=PHONE, **headers):
        answer = await self.get(path_of(link), agent, **headers)
        if isinstance(link, MailOpenLink):
            assert (answer.status_code, answer.content[:6]) == (200, b"GIF89a")
        else:
            assert (answer.status_code, answer.headers["Location"]) == (302, link.target)
        return answer

    @property
    def events(self):
        return [event for _, event in self.log]

    @property
    def types(self):
        return [tag_of(type(event)) for event in self.events]


@pytest.fixture
async def links():
    made = Links()
    async with made.http:
        yield made


def visitor_of(answer):
    return SimpleCookie(answer.headers["Set-Cookie"])["leadstream-visitor"].value


# What is recorded


async def test_a_scan_is_the_visitors_and_says_all_that_the_code_says(links):
    answer = await links.follow(CODE, Referer="https://partner.example/stands")
    ((key, event),) = links.log
    assert key == visitor_key("default", visitor_of(answer))
    assert (event.qr_id, event.place, event.source, event.lead_id) == ("stand-7", "Hall 3", "qr", None)
    assert event.extra == {"property_id": "villa-12", "agent_id": "agent-7"}
    assert (event.context.campaign.source, event.context.campaign.medium) == ("expo", "print")
    assert (event.context.source_type, event.context.source_id) == ("link", "stand-7")
    assert event.context.referrer == "https://partner.example/stands"
    assert (event.bot, event.device.type, event.occurred_at) == (None, "mobile", NOW)


async def test_a_view_of_a_catalogue(links):
    await links.follow(CATALOG)
    (event,) = links.events
    assert (links.types, event.catalog_id, event.title) == (["catalog_viewed"], "riverside", "Riverside")
    assert event.context.campaign.name == "spring"


async def test_an_opened_mail_is_its_leads_and_sets_no_cookie(links):
    answer = await links.follow(OPEN, OUTLOOK)
    ((key, event),) = links.log
    assert (links.types, key) == (["email_opened"], lead_key("default", "lead-1001"))
    assert (event.message_id, event.campaign_id, event.visitor_id, event.source) == (
        "<1@x>",
        "c-9",
        None,
        "email",
    )
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Content-Type"] == "image/gif"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def test_a_click_in_a_mail_is_its_leads_and_so_is_the_browser(links):
    answer = await links.follow(CLICK)
    (click_key, click), (browser_key, identified) = links.log
    assert links.types == ["email_clicked", "lead_identified"]
    assert click_key == lead_key("default", "lead-1001")
    assert (click.url, click.message_id, click.campaign_name) == (TARGET, "<1@x>", "Spring")
    assert browser_key == visitor_key("default", visitor_of(answer))
    assert (identified.lead_id, identified.method) == ("lead-1001", "email")


async def test_a_catalogue_that_was_sent_to_a_lead_is_that_leads_on_every_phone(links):
    sent = structs.replace(CATALOG, lead_id="ada")
    browsers = [visitor_of(await links.follow(sent)), visitor_of(await links.follow(sent, OUTLOOK))]
    assert links.types == ["catalog_viewed", "lead_identified"] * 2
    views, identified = links.log[::2], links.log[1::2]
    assert {key for key, _ in views} == {lead_key("default", "ada")}
    assert [(each.visitor_id, each.lead_id, each.method) for _, each in identified] == [
        (browser, "ada", "link") for browser in browsers
    ]


async def test_a_code_that_opens_a_chat_records_nothing_since_the_bot_does(links):
    answer = await links.follow(CHAT)
    assert not links.log
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("link", ALL)
async def test_head_looks_and_records_nothing(links, link):
    answer = await links.get(path_of(link), method="HEAD")
    assert answer.status_code == (200 if link is OPEN else 302)
    assert not links.log


# The same person again


async def test_a_browser_that_repeats_its_request_scans_once_and_later_again(links):
    visitor = visitor_of(await links.follow(CODE))
    cookie = f"leadstream-visitor={visitor}"
    for seconds, ids in ((9.5, 1), (10.5, 2), (20, 2), (21, 3)):
        links.now = NOW + timedelta(seconds=seconds)
        answer = await links.follow(CODE, Cookie=cookie)
        assert "Set-Cookie" not in answer.headers
        assert len({event.event_id for event in links.events}) == ids
    assert {key for key, _ in links.log} == {visitor_key("default", visitor)}


async def test_two_people_with_the_same_phone_scan_twice(links):
    assert visitor_of(await links.follow(CODE)) != visitor_of(await links.follow(CODE))
    assert len({event.event_id for event in links.events}) == 2


async def test_a_mail_client_that_fetches_twice_opens_once_and_a_later_person_is_not_the_scanner(links):
    await links.follow(OPEN, OUTLOOK)
    await links.follow(OPEN, OUTLOOK)
    await links.follow(CLICK, SAFE_LINKS)
    await links.follow(CLICK)
    await links.follow(CLICK)
    opened, again, scanned, clicked, _, clicked_again, _ = links.events
    assert opened.event_id == again.event_id
    assert clicked.event_id == clicked_again.event_id
    assert scanned.event_id != clicked.event_id
    assert (scanned.bot, clicked.bot) == ("BingPreview", None)


# The visitor


@pytest.mark.parametrize(
    "headers",
    [{"Sec_GPC": "1"}, {"DNT": "1"}, {"Cookie": "leadstream-consent=no; leadstream-visitor=w-7f31c2aa"}],
)
async def test_those_who_refuse_get_no_cookie_and_are_not_recognised(links, headers):
    for link in (CODE, CLICK):
        assert "Set-Cookie" not in (await links.follow(link, **headers)).headers
    assert links.types == ["qr_scanned", "email_clicked"]
    assert links.events[0].visitor_id != "w-7f31c2aa"


async def test_without_cookies_of_its_own_a_server_still_reads_that_of_the_site():
    links = Links(link_cookie=False)
    async with links.http:
        assert "Set-Cookie" not in (await links.follow(CODE)).headers
        await links.follow(CLICK)
        await links.follow(CLICK, OUTLOOK, Cookie="leadstream-visitor=w-7f31c2aa; leadstream-consent=yes")
    assert links.types == ["qr_scanned", "email_clicked", "email_clicked", "lead_identified"]
    assert links.events[-1].visitor_id == "w-7f31c2aa"


@pytest.mark.parametrize("stated", ["short", "a" * 65, "w 7f31c2aa", '"w-7f31;c2"', "w\u00e9-7f31c2aa"])
async def test_a_cookie_of_another_form_is_none(links, stated):
    answer = await links.follow(CODE, Cookie=f"leadstream-visitor={stated}".encode())
    assert links.events[0].visitor_id == visitor_of(answer)


async def test_the_cookie_is_the_sites(links):
    cookie = (await links.follow(CODE)).headers["Set-Cookie"]
    assert "Domain=acme.example" in cookie
    assert "Max-Age=31536000" in cookie
    assert "Secure" in cookie
    assert "HttpOnly" not in cookie


# Nobody


@pytest.mark.parametrize("agent", [*MESSENGERS, "curl/8.5.0", SAFE_LINKS, "python-requests/2.32", None, ""])
@pytest.mark.parametrize("link", [CODE, CATALOG, CLICK])
async def test_previews_scanners_and_programs_are_bots_that_go_on(links, link, agent):
    answer = await links.follow(link, agent)
    (event,) = links.events
    assert event.bot
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("agent", "bot"),
    [(GMAIL_PROXY, None), ("Mozilla/5.0", "Apple Mail Privacy Protection"), (None, "no user agent")],
)
async def test_pictures_of_mails_follow_the_rules_of_mails(links, agent, bot):
    await links.follow(OPEN, agent)
    assert links.events[0].bot == bot


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Purpose": "prefetch"},
        {"Sec_Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X_Moz": "prefetch"},
        {"X_Purpose": "preview"},
    ],
)
async def test_a_browser_that_loads_ahead_has_to_ask_again(links, headers):
    answer = await links.get(path_of(CODE), **headers)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (425, "no-store")
    assert "Location" not in answer.headers
    assert not links.log
    await links.follow(CODE)
    assert links.types == ["qr_scanned"]


# No open redirect


@pytest.mark.parametrize("link", ALL)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_changed_link_leads_nowhere(links, link, method):
    path = path_of(link)
    token = seal_link(link, KEYS)
    for at in range(0, len(token), 7):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        answer = await links.get(path.replace(token, changed), method=method)
        assert answer.status_code == 404
        assert "Location" not in answer.headers
    assert not links.log


async def test_links_of_another_kind_under_each_others_paths_are_none(links):
    assert (await links.get(f"/o/{seal_link(CLICK, KEYS)}.gif")).status_code == 404
    assert (await links.get(f"/l/{seal_link(OPEN, KEYS)}")).status_code == 404


async def test_a_server_without_keys_has_no_links_and_says_how_to_make_some():
    links = Links(link_keys=read_link_keys([]))
    async with links.http:
        assert (await links.get(path_of(CODE))).status_code == 404
        answer = await links.http.post("/api/links", json={})
    assert answer.status_code == 409
    assert "LEADSTREAM_LINK_KEYS" in answer.json()["error"]["reason"]


# Nobody is stranded


def followed(event, result):
    return metrics.LINKS_FOLLOWED.labels(event, result)._value.get()


@pytest.mark.parametrize("failure", [LogUnavailable("the log is away"), RuntimeError("a fault")])
async def test_a_person_goes_on_while_the_log_takes_nothing(links, failure):
    links.failure = failure
    before = followed("qr_scanned", "unrecorded")
    with capture_logs() as logs:
        await links.follow(CODE)
        await links.follow(CLICK)
        await links.follow(OPEN)
    assert followed("qr_scanned", "unrecorded") == before + 1
    assert sum(entry["event"] == "a followed link was not recorded" for entry in logs) >= 3
    assert "lead-1001" not in str(logs)


async def test_a_person_waits_for_a_slow_log_only_a_moment_and_the_event_still_gets_in(links, monkeypatch):
    monkeypatch.setattr(followed_links, "LONGEST_WAIT_SECONDS", 0.02)
    links.slow = 0.2
    await links.follow(CODE)
    assert not links.log
    await asyncio.wait(links.app.state.door.recordings)
    assert links.types == ["qr_scanned"]


async def test_events_that_wait_for_the_log_are_bounded(links, monkeypatch):
    monkeypatch.setattr(followed_links, "LONGEST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(followed_links, "MOST_RECORDINGS", 2)
    links.slow = 0.3
    before = followed("qr_scanned", "unrecorded")
    for _ in range(4):
        await links.follow(CODE)
    await asyncio.wait(links.app.state.door.recordings)
    assert len(links.log) == 2
    assert followed("qr_scanned", "unrecorded") == before + 2


async def test_beyond_the_rate_people_go_on_unrecorded():
    links = Links(rate=RateLimit(0.001, 2))
    before = followed("qr_scanned", "limited")
    async with links.http:
        for _ in range(3):
            await links.follow(CODE)
    assert len(links.log) == 2
    assert followed("qr_scanned", "limited") == before + 1


async def test_no_log_shows_a_token(links):
    structlog.reset_defaults()  # requests are logged at the level of debugging
    with capture_logs() as logs:
        await links.follow(CLICK)
        await links.get("/api/links/" + seal_link(CLICK, KEYS))
    assert [entry["path"] for entry in logs] == ["/l/{token}", "/api/links/{token}"]


# Making links


BEARER = {"Authorization": "Bearer token-of-one"}


@pytest.fixture
async def tenants():
    made = Links(**TENANTS)
    made.http.headers.update(BEARER)
    async with made.http:
        yield made


async def test_a_made_link_records_what_was_defined(tenants):
    definition = {
        "kind": "qr",
        "qr_id": "stand-7",
        "place": "Hall 3",
        "target": TARGET,
        "agent_id": "agent-7",
    }
    made = await tenants.http.post("/api/links", json=definition)
    answer = made.json()
    assert made.status_code == 200
    assert answer.keys() == {"url", "token", "records", "link", "hints", "qr_svg", "qr_png"}
    assert answer["url"] == f"https://go.acme.example/l/{answer['token']}"
    assert (answer["records"], answer["hints"]) == ("qr_scanned", [])
    assert answer["link"] == {name: value for name, value in definition.items() if name != "kind"}
    assert (await tenants.http.get(f"/api/links/{answer['token']}")).json() == answer
    assert (await tenants.http.post("/api/links/", json=definition)).json() == answer
    await tenants.get(f"/l/{answer['token']}")
    ((key, event),) = tenants.log
    assert key.startswith("one/v/")
    assert (event.tenant, event.qr_id, event.place) == ("one", "stand-7", "Hall 3")
    for address, text_of in (
        (answer["qr_svg"], lambda a: text_of_svg(a.text)),
        (answer["qr_png"], lambda a: text_of_png(a.content)),
    ):
        assert address.startswith("https://go.acme.example/api/links/")
        picture = await tenants.http.get(address.removeprefix("https://go.acme.example"))
        assert (picture.status_code, text_of(picture)) == (200, answer["url"])


async def test_a_link_to_a_chat_is_the_chats_own_address_in_the_code(tenants):
    made = await tenants.http.post(
        "/api/links", json={"kind": "qr", "qr_id": "stand-7", "telegram_bot": "acme_realty_bot"}
    )
    answer = made.json()
    assert answer["url"] == "https://t.me/acme_realty_bot?start=qr_stand-7"
    assert answer["records"] is None
    picture = await tenants.http.get(f"/api/links/{answer['token']}/qr.svg")
    assert text_of_svg(picture.text) == answer["url"]


async def test_a_made_mail_is_measured_for_its_lead(tenants):
    html = '<html><body><a href="https://www.acme.example/demo">Demo</a></body></html>'
    made = await tenants.http.post(
        "/api/links/email", json={"lead_id": "ada", "message_id": "<2@x>", "html": html}
    )
    answer = made.json()
    assert [link["target"] for link in answer["links"]] == ["https://www.acme.example/demo"]
    assert answer["links"][0]["url"] in answer["html"]
    assert answer["pixel"] in answer["html"]
    for address in (answer["pixel"], answer["links"][0]["url"]):
        await tenants.get(address.removeprefix("https://go.acme.example"))
    assert tenants.types == ["email_opened", "email_clicked", "lead_identified"]
    assert {event.lead_id for event in tenants.events} == {"ada"}
    assert {event.tenant for event in tenants.events} == {"one"}
    listed = await tenants.http.post(
        "/api/links/email",
        json={"lead_id": "ada", "message_id": "<2@x>", "targets": ["https://www.acme.example/demo"]},
    )
    assert listed.json() == {**answer, "html": None}


async def test_another_tenant_sees_no_link_and_makes_only_its_own(tenants):
    token = (
        await tenants.http.post("/api/links", json={"kind": "qr", "qr_id": "a", "target": TARGET})
    ).json()["token"]
    for path in ("", "/", "/qr.svg", "/qr.png"):
        other = await tenants.http.get(
            f"/api/links/{token}{path}", headers={"Authorization": "Bearer token-of-two"}
        )
        assert other.status_code == 404
        assert (await tenants.http.get(f"/api/links/{token[:-1]}{path}")).status_code == 404
        assert (
            await tenants.http.get(f"/api/links/{token}{path}", headers={"Authorization": "x"})
        ).status_code == 401


@pytest.mark.parametrize("path", ["/api/links", "/api/links/email"])
async def test_only_a_token_that_may_write_makes_links(tenants, path):
    for credential, status in (("Bearer reader-of-one", 403), ("Bearer unknown-token", 401), ("x", 401)):
        answer = await tenants.http.post(
            path, json={}, headers={"Authorization": credential, "X-Write-Key": "write-key-of-one"}
        )
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/api/links", b"{", 400, None),
        ("/api/links", b"[]", 422, None),
        ("/api/links", b"[" * 10_000, 400, None),
        ("/api/links", {}, 422, "kind"),
        ("/api/links", {"kind": "url", "target": TARGET}, 422, "kind"),
        ("/api/links", {"kind": "qr", "qr_id": 7, "target": TARGET}, 422, "qr_id"),
        ("/api/links", {"kind": "qr", "qr_id": "a", "target": "javascript:alert(1)"}, 422, "target"),
        ("/api/links", {"kind": "qr", "qr_id": "a", "target": TARGET, "plcae": "Hall"}, 422, "plcae"),
        ("/api/links", {"kind": "qr", "qr_id": "a" * 20_000, "target": TARGET}, 413, None),
        ("/api/links/email", {"lead_id": "null", "targets": []}, 422, "lead_id"),
        ("/api/links/email", {"targets": []}, 422, "lead_id"),
        ("/api/links/email", {"lead_id": "ada", "targets": ["mailto:a@b"]}, 422, "target"),
        ("/api/links/email", {"lead_id": "ada", "targets": ["https://a.example"] * 1_001}, 422, "targets"),
    ],
)
async def test_what_is_wrong_is_named(tenants, path, body, status, field):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await tenants.http.post(path, content=content)
    assert answer.status_code == status, answer.text
    if field is not None:
        assert answer.json()["error"]["field"] == field


async def test_a_misspelt_field_is_answered_with_the_one_that_is_meant(tenants):
    answer = await tenants.http.post("/api/links", json={"kind": "qr", "qrId": "a", "target": TARGET})
    assert "did you mean `qr_id`?" in answer.json()["error"]["reason"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("error=x", "error"),
        ("size=63", "size"),
        ("size=5000", "size"),
        ("error=h&size=64", "size"),
        ("size=many", "size"),
    ],
)
async def test_a_picture_that_cannot_be_is_refused(tenants, query, field):
    token = (
        await tenants.http.post("/api/links", json={"kind": "qr", "qr_id": "a", "target": TARGET})
    ).json()["token"]
    answer = await tenants.http.get(f"/api/links/{token}/qr.png?{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


async def test_an_address_too_long_for_a_phone_gets_no_code(tenants):
    link = {"kind": "qr", "qr_id": "a", "target": "https://acme.example/" + "a" * 600}
    made = (await tenants.http.post("/api/links", json=link)).json()
    assert (await tenants.http.get(f"/api/links/{made['token']}/qr.svg")).status_code == 422
    assert (await tenants.get(f"/l/{made['token']}")).status_code == 302


async def test_an_address_that_only_this_machine_reaches_is_pointed_out():
    links = Links(public_url="http://127.0.0.1:8000")
    async with links.http:
        made = await links.http.post("/api/links", json={"kind": "qr", "qr_id": "a", "target": TARGET})
    assert "LEADSTREAM_PUBLIC_URL" in made.json()["hints"][0]
