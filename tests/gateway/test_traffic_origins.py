"""The channel of an event, as the door decides it: by tags, click ids, and the referring page."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.door.admission import RequestFacts, admit_event, admit_import
from gateway.door.traffic_origins import CHANNEL_OF_GROUP, channel_lists
from leadstream.operations.imports import import_access_log, import_events
from schemas.decode import decode_source, encode_source, read_event
from schemas.envelope import Campaign, Context, TrafficOrigin
from schemas.events import AdClicked, DemoRequested, ElementClicked, FormSubmitted, PageViewed
from scoring.features.sources import SOURCE_OF_CHANNEL, source_of

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
PAGE = "https://www.acme.example/pricing"
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36"
)
FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"


def event(kind=PageViewed, *, url=PAGE, referrer=None, campaign=None, **fields):
    context = Context(url=url, referrer=referrer, campaign=campaign)
    return kind(event_id="e", occurred_at=NOW, visitor_id="v", context=context, **fields)


def origin_of(seen, **facts):
    return admit_event(seen, RequestFacts(tenant=None, **facts), NOW).traffic_origin


def from_page(referrer):
    return origin_of(event(referrer=referrer))


def by_link(query, **fields):
    return origin_of(event(url=f"{PAGE}?{query}", **fields))


@pytest.mark.parametrize(
    ("referrer", "group"),
    [
        ("https://www.google.com/", "Organic Search"),
        ("https://www.google.co.uk/search?q=crm", "Organic Search"),
        ("https://GOOGLE.de:443", "Organic Search"),
        ("https://www.google.com./", "Organic Search"),
        ("www.google.fr", "Organic Search"),
        ("https://yandex.com.tr/search/?text=crm", "Organic Search"),
        ("https://www.yahoo.co.jp/", "Organic Search"),
        ("https://it.images.search.yahoo.com/images/view;_ylt=x?p=a", "Organic Search"),
        ("https://duckduckgo.com/", "Organic Search"),
        ("https://search.brave.com/search?q=a", "Organic Search"),
        ("https://suche.t-online.de/", "Organic Search"),
        ("android-app://com.google.android.googlequicksearchbox/https/www.google.com", "Organic Search"),
        ("https://google.evil.example/", "Referral"),
        ("https://www.google.com.evil.example/search?q=a", "Referral"),
        ("https://google.com@evil.example/", "Referral"),
        ("https://notgoogle.com/", "Referral"),
        ("https://google.github.io/", "Referral"),
        ("https://google.blogspot.com/", "Referral"),
        ("https://docs.google.com/document/d/1?q=a", "Referral"),
        ("https://sites.google.com/view/x", "Referral"),
        ("https://something.google.com/?q=a", "Referral"),
        ("https://forum.ecosia.org/", "Referral"),
        ("https://www-acme-example.translate.goog/", "Referral"),
        ("https://translate.google.com/", "Referral"),
        ("https://www.google.com/maps/place/x", "Referral"),
        ("https://203.0.113.9/", "Referral"),
        ("https://xn--bcher-kva.example/", "Referral"),
        ("https://partner.example/", "Referral"),
        ("https://mail.google.com/mail/u/0/", "Email"),
        ("https://outlook.live.com/", "Email"),
        ("https://webmail.partner.example/", "Email"),
        ("https://mail.google.com.evil.example/", "Referral"),
        ("android-app://com.google.android.gm/", "Email"),
        ("https://chatgpt.com/", "AI Assistants"),
        ("https://chat.openai.com/c/1", "AI Assistants"),
        ("https://gemini.google.com/app", "AI Assistants"),
        ("https://x.com/i/grok", "AI Assistants"),
        ("https://www.facebook.com/", "Organic Social"),
        ("https://l.facebook.com/l.php?u=x", "Organic Social"),
        ("https://lm.facebook.com/", "Organic Social"),
        ("https://m.facebook.com/", "Organic Social"),
        ("https://facebook.com.evil.example/", "Referral"),
        ("https://t.co/abc", "Organic Social"),
        ("https://lnkd.in/abc", "Organic Social"),
        ("https://x.com/someone", "Organic Social"),
        ("android-app://com.facebook.katana", "Organic Social"),
        ("https://www.youtube.com/watch?v=1", "Organic Video"),
        ("https://www.amazon.de/", "Organic Shopping"),
        ("https://googleads.g.doubleclick.net/", "Display"),
        ("https://urldefense.com/v3/__https://acme.example__", "Email"),
        ("https://l.wl.co/l?u=https%3A%2F%2Facme.example", "Organic Social"),
        ("https://www.google.com/aclk?sa=l", "Paid Search"),
        ("https://acme.example/", "Internal"),
        ("https://blog.acme.example/x", "Internal"),
        ("https://WWW.ACME.EXAMPLE:443/", "Internal"),
        ("/pricing", "Internal"),
        ("https://acme.example.evil.example/", "Referral"),
        ("https://www.paypal.com/checkoutnow", "Internal"),
        ("https://checkout.stripe.com/c/pay/1", "Internal"),
        ("https://hooks.stripe.com/3d_secure_2", "Internal"),
        ("https://pay.klarna.com/", "Internal"),
        ("https://live.adyen.com/", "Internal"),
        ("https://www.mollie.com/checkout", "Internal"),
        ("https://paypal.com.evil.example/", "Referral"),
        ("https://accounts.google.com/", "Internal"),
        ("https://login.microsoftonline.com/x/oauth2", "Internal"),
        ("https://appleid.apple.com/", "Internal"),
        ("https://acme.eu.auth0.com/", "Internal"),
        ("https://acme.okta.com/", "Internal"),
        ("https://login.partner.example/", "Internal"),
        ("https://sso.partner.example/", "Internal"),
        ("https://3ds.bank.example/acs", "Internal"),
        ("https://acs2.bank.example/", "Internal"),
        ("https://www.google.org/", "Referral"),
        ("https://loginfree.example/", "Referral"),
        ("https://login.example/", "Referral"),
        (None, "Direct"),
        ("", "Direct"),
        ("  ", "Direct"),
        ("about:blank", "Direct"),
        ("(direct)", "Direct"),
        ("null", "Direct"),
        ("http://[broken", "Direct"),
        ("android-app://com.android.chrome/", "Direct"),
    ],
)
def test_the_referring_page_decides_the_channel(referrer, group):
    origin = from_page(referrer)
    assert origin.group == group
    assert origin.channel == CHANNEL_OF_GROUP[group]
    assert origin.edition == channel_lists().edition


@pytest.mark.parametrize(
    ("query", "group"),
    [
        ("utm_source=google&utm_medium=cpc", "Paid Search"),
        ("utm_source=google&utm_medium=cpc&utm_campaign=shopping-uk", "Paid Shopping"),
        ("utm_source=facebook&utm_medium=paid_social", "Paid Social"),
        ("utm_source=somebody&utm_medium=paid-social", "Paid Social"),
        ("utm_source=youtube&utm_medium=cpv-cpc", "Paid Video"),
        ("utm_source=g&utm_medium=cpc", "Paid Other"),
        ("utm_medium=ppc", "Paid Other"),
        ("utm_medium=banner", "Display"),
        ("utm_medium=cpm&utm_source=site", "Display"),
        ("utm_campaign=x-cross-network-y", "Cross-network"),
        ("utm_source=ebay", "Organic Shopping"),
        ("utm_source=instagram", "Organic Social"),
        ("utm_medium=social-network", "Organic Social"),
        ("utm_source=vimeo&utm_medium=link", "Organic Video"),
        ("utm_source=bing&utm_medium=organic", "Organic Search"),
        ("utm_source=blog&utm_medium=referral", "Referral"),
        ("utm_source=letter&utm_medium=E-Mail", "Email"),
        ("utm_source=facebook&utm_medium=email", "Email"),
        ("utm_source=letter&utm_medium=email&utm_campaign=spring_shop", "Email"),
        ("utm_source=bob&utm_medium=affiliate", "Affiliates"),
        ("utm_medium=partner", "Affiliates"),
        ("utm_medium=audio", "Audio"),
        ("utm_source=sms", "SMS"),
        ("utm_medium=web-push", "Mobile Push Notifications"),
        ("utm_source=chatgpt.com", "AI Assistants"),
        ("utm_source=perplexity&utm_medium=referral", "AI Assistants"),
        ("utm_source=(direct)&utm_medium=(none)", "Direct"),
        ("gclid=Cj0", "Paid Search"),
        ("gad_source=1&gad_campaignid=22", "Paid Search"),
        ("epik=dj0yJnU", "Paid Social"),
        ("gbraid=0A", "Paid Search"),
        ("wbraid=0A", "Paid Search"),
        ("msclkid=1", "Paid Search"),
        ("dclid=1", "Display"),
        ("ttclid=1", "Paid Social"),
        ("twclid=1", "Paid Social"),
        ("li_fat_id=1", "Paid Social"),
        ("GCLID=1", "Paid Search"),
        ("utm_source=linkedin&utm_medium=social&li_fat_id=1", "Paid Social"),
        ("utm_source=letter&utm_medium=email&gclid=1", "Email"),
        ("gclid=", "Direct"),
        ("fbclid=IwAR0", "Direct"),
        ("utm_medium=marketing-email", "Email"),
        ("utm_medium=pigeon", "Unassigned"),
    ],
)
def test_the_tags_of_the_link_decide_by_the_default_channel_grouping(query, group):
    assert by_link(query).group == group


def test_a_click_on_an_untagged_link_in_facebook_is_social():
    assert by_link("fbclid=IwAR0", referrer="https://l.facebook.com/").group == "Organic Social"


def test_the_link_wins_over_the_referring_page():
    origin = by_link("utm_source=letter&utm_medium=email", referrer="https://www.google.com/")
    assert (origin.group, origin.source, origin.evidence) == ("Email", "letter", "link")


def test_tags_that_decide_nothing_leave_it_to_the_referring_page():
    assert by_link("utm_campaign=may", referrer="https://www.google.com/").group == "Organic Search"


def test_an_advertisement_that_was_clicked_is_paid():
    clicked = AdClicked(event_id="e", occurred_at=NOW, visitor_id="v", network="facebook")
    assert origin_of(clicked).group == "Paid Social"
    assert source_of(admit_event(clicked, RequestFacts(tenant=None), NOW)) == "ads"


def test_a_click_inside_the_page_speaks_of_no_origin():
    clicked = ElementClicked(
        event_id="e", occurred_at=NOW, visitor_id="v", url="https://other.example/?utm_source=x"
    )
    admitted = admit_event(clicked, RequestFacts(tenant=None), NOW)
    assert (admitted.traffic_origin, admitted.context) == (None, None)


@pytest.mark.parametrize("url", ["/pricing", None])
def test_without_a_host_of_its_own_an_unlisted_referrer_might_be_the_own_site(url):
    def group(referrer, **facts):
        return origin_of(event(url=url, referrer=referrer), **facts).group

    assert group("https://acme.example/") == "Unassigned"
    assert group("https://acme.example/", page="https://www.acme.example") == "Internal"
    assert group("https://partner.example/", page="https://www.acme.example") == "Referral"
    assert group("https://acme.example/", page="null") == "Unassigned"
    assert group("https://shop.acme.example/", own_sites=("acme.example",)) == "Internal"
    assert group("https://partner.example/", own_sites=("acme.example",)) == "Referral"
    assert group("https://www.google.com/") == "Organic Search"


def test_further_own_sites_are_no_referral():
    seen = event(referrer="https://www.acme-shop.example/")
    assert origin_of(seen).group == "Referral"
    assert origin_of(seen, own_sites=("acme-shop.example",)).group == "Internal"
    assert admit_import(seen, NOW, None, ("acme-shop.example",)).traffic_origin.group == "Internal"


def test_a_producer_cannot_decide_the_channel():
    forged = TrafficOrigin(channel="referral", group="Referral", edition="mine")
    seen = event(referrer="https://www.google.com/", traffic_origin=forged)
    assert origin_of(seen).group == "Organic Search"
    assert admit_import(seen, NOW).traffic_origin.group == "Organic Search"


def test_the_decision_is_stored_and_read_again():
    admitted = admit_event(event(referrer="https://www.google.com/"), RequestFacts(tenant=None), NOW)
    assert decode_source(encode_source(admitted)) == admitted
    assert read_event(encode_source(admitted)).traffic_origin == admitted.traffic_origin


# What the lead's source becomes


@pytest.mark.parametrize(
    ("seen", "source"),
    [
        (event(url=PAGE + "?gclid=1"), "ads"),
        (event(url=PAGE + "?utm_medium=display"), "ads"),
        (event(campaign=Campaign(source="bob", medium="affiliate")), "partner"),
        (event(referrer="https://partner.example/"), "referral"),
        (event(referrer="https://www.google.com/"), "organic"),
        (event(referrer="https://www.facebook.com/"), "social"),
        (event(referrer="https://youtu.be/x"), "social"),
        (event(referrer="https://mail.google.com/"), "email"),
        (event(referrer="https://chatgpt.com/"), "ai_assistant"),
        (event(referrer="https://docs.google.com/"), "referral"),
        (event(referrer="https://shop.acme.example/"), None),
        (event(referrer="https://www.paypal.com/"), None),
        (event(), None),
        (event(FormSubmitted, referrer="https://www.google.com/"), "form"),
        (event(FormSubmitted), "form"),
        (event(FormSubmitted, campaign=Campaign(medium="partner")), "partner"),
        (event(FormSubmitted, campaign=Campaign(medium="pigeon")), "form"),
        (event(DemoRequested, referrer="https://www.bing.com/"), "organic"),
    ],
)
def test_the_stored_channel_gives_the_leads_source(seen, source):
    assert source_of(admit_event(seen, RequestFacts(tenant=None), NOW)) == source
    assert source_of(admit_import(seen, NOW)) == source


def test_every_channel_gives_a_source_or_none():
    silent = {"direct", "internal", "unassigned"}
    assert SOURCE_OF_CHANNEL.keys() | silent == set(CHANNEL_OF_GROUP.values())


@pytest.mark.parametrize(
    ("referrer", "source"),
    [
        ("https://mail.google.com/", "organic"),
        ("https://google.evil.example/", "organic"),
        ("https://www.facebook.com/", "referral"),
        ("https://chatgpt.com/", "referral"),
    ],
)
def test_an_event_without_a_stored_channel_keeps_the_classification_of_its_time(referrer, source):
    assert source_of(event(referrer=referrer)) == source


# The same by every path


class Log:
    def __init__(self):
        self.events = []

    def append(self, records):
        self.events += [decode_source(record.value) for record in records]


def field_case(name):
    path = FIELD_CASES / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path.read_bytes().splitlines()


def imported(name, **options):
    log = Log()
    if name.endswith(".log"):
        import_access_log(field_case(name), log.append, NOW, tenant="default", **options)
    else:
        import_events(field_case(name), log.append, NOW, **options)
    return log.events


def test_own_site_clicks_have_no_source_in_a_log():
    assert [source_of(each) for each in imported("own-site.log")] == [None, None]


def test_own_site_clicks_have_no_source_over_http():
    sources = []
    for raw in field_case("own-site.ndjson"):
        seen = read_event(raw.replace(b"{", b'{"occurred_at": "2026-11-20T10:00:00Z", ', 1))
        sources.append(source_of(admit_event(seen, RequestFacts(tenant=None), NOW)))
    assert sources == [None, None]


def test_tags_in_the_address_count_the_same_by_every_path():
    by_log = imported("utm-in-address.log", site="https://acme.example")
    by_file = imported("utm-in-address.ndjson")
    by_http = [
        admit_event(read_event(raw), RequestFacts(tenant=None, user_agent=CHROME), NOW)
        for raw in field_case("utm-in-address.ndjson")
    ]
    for events in (by_log, by_file, by_http):
        assert [each.context.campaign for each in events] == [
            Campaign(source="g", medium="cpc", name="one"),
            Campaign(source="n", medium="email", name="two"),
        ]
        assert [each.traffic_origin.group for each in events] == ["Paid Other", "Email"]
        assert [source_of(each) for each in events] == ["ads", "email"]


# The lists


def test_the_edition_names_the_lists():
    edition, _, digest = channel_lists().edition.rpartition(".")
    assert edition.count("-") == 1
    assert len(digest) == 8


@pytest.mark.parametrize("length", [1_000, 2_000])
def test_a_hostile_referrer_costs_little(length):
    for part in ("a.", "%61.", "-", "?q=", "&q=", "/search", "google."):
        referrer = ("https://" + part * length)[:2048]
        start = time.process_time()
        from_page(referrer)
        assert time.process_time() - start < 1
