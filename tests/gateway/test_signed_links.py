"""What a signed link is, without a server: sealing, targets, codes that open a chat, the HTML of mails, pictures."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.door.followed_links import cookie_domain
from gateway.door.link_definitions import LinkDefinition, MailDefinition, checked_target, link_of
from gateway.door.link_events import MOST_REMEMBERED, REPETITION_MS, RecentRequests
from gateway.door.signed_links import (
    CatalogLink,
    LinkKeys,
    MailClickLink,
    MailOpenLink,
    QrLink,
    TelegramLink,
    open_link,
    read_link_keys,
    seal_link,
)
from gateway.door.telegram_updates import events_of
from gateway.link_making import LinkMaker, fields_of_link, make_link, make_mail
from gateway.mail_html import with_links_replaced, with_picture_at_end
from gateway.qr_codes import qr_png, qr_svg
from schemas.refusal import Refusal
from tests.gateway.code_pictures import size_of_png, text_of_png, text_of_svg

KEY = "one-key-of-at-least-24-characters"
OTHER = "another-key-of-at-least-24-characters"
KEYS = read_link_keys([KEY])
SITE = "https://go.acme.example"
MAKER = LinkMaker("default", SITE, KEYS, datetime(2030, 1, 31, tzinfo=UTC))
EXPO = QrLink(target="https://acme.example/expo", qr_id="stand-7", location="Hall 3", agent_id="agent-7")

lines = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ids = st.from_regex(r"[A-Za-z0-9._@-]{1,40}", fullmatch=True)
maybe = st.none() | lines
links = st.one_of(
    st.builds(
        QrLink,
        target=lines,
        qr_id=lines,
        location=maybe,
        property_id=st.none() | ids,
        campaign=maybe,
        tenant=st.just("acme"),
    ),
    st.builds(CatalogLink, target=lines, catalog_id=lines, title=maybe, agent_id=st.none() | ids),
    st.builds(TelegramLink, target=lines),
    st.builds(
        MailClickLink, target=lines, lead_id=ids, message_id=maybe, campaign_id=maybe, campaign_name=maybe
    ),
    st.builds(MailOpenLink, lead_id=ids, message_id=maybe, tenant=st.just("acme")),
)


# Tokens


@given(links)
def test_a_token_is_the_whole_link_and_the_same_one_every_time(link):
    token = seal_link(link, KEYS)
    assert open_link(token, KEYS) == link
    assert type(open_link(token, KEYS)) is type(link)
    assert seal_link(link, read_link_keys([KEY])) == token


@given(links, st.data())
def test_a_token_with_any_other_character_is_none(link, data):
    token = seal_link(link, KEYS)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(min_codepoint=0, max_codepoint=0x2FF).filter(lambda c: c != token[at]))
    assert open_link(token[:at] + other + token[at + 1 :], KEYS) is None
    assert open_link(token[:at], KEYS) is None
    assert open_link(token + other, KEYS) is None


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{16,400}", fullmatch=True))
def test_what_nobody_has_sealed_is_none(text):
    assert open_link(text, KEYS) is None


@pytest.mark.parametrize("qr_id", ["a", "ab", "abc"])
def test_the_last_character_of_a_token_matters_also_where_base64_has_bits_to_spare(qr_id):
    token = seal_link(QrLink(target="https://acme.example/", qr_id=qr_id), KEYS)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [last for last in alphabet if open_link(token[:-1] + last, KEYS)] == [token[-1]]


def test_the_first_key_seals_and_all_open():
    token = seal_link(EXPO, KEYS)
    rotated = read_link_keys([OTHER, KEY])
    assert open_link(token, rotated) == EXPO
    assert seal_link(EXPO, rotated) == seal_link(EXPO, read_link_keys([OTHER])) != token
    assert open_link(token, read_link_keys([OTHER])) is None
    assert open_link(token, LinkKeys()) is None


def test_an_address_shows_neither_the_lead_nor_the_target():
    mail = MailDefinition(lead_id="ada@acme.example", targets=["https://acme.example/secret-offer"])
    made = make_mail(mail, MAKER)
    for address in (made.pixel, *made.links.values()):
        assert "ada" not in address
        assert "offer" not in address


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["too-short"], "link key 1: give at least 24 characters"),
        ([KEY, "x" * 23], "link key 2: give at least 24 characters"),
        ([KEY, KEY], "link key 2: it is in the list already"),
    ],
)
def test_a_wrong_key_is_refused_without_being_shown(texts, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        read_link_keys(texts)
    assert not any(text in str(refused.value) for text in texts)
    assert KEY not in repr(KEYS)


# Targets


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://acme.example", "https://acme.example/"),
        (" HTTPS://Acme.Example/Expo?a=1&b=%20#top ", "https://acme.example/Expo?a=1&b=%20#top"),
        ("http://[2001:db8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
        ("https://münchen.example/büro", "https://xn--mnchen-3ya.example/b%C3%BCro"),
        ("https://acme.example\\@evil.example", "https://acme.example/@evil.example"),
        ("https://t.me/acme_realty", "https://t.me/acme_realty"),
        ("https://go.acme.example/about", "https://go.acme.example/about"),
    ],
)
def test_a_target_is_what_a_browser_asks_for(text, target):
    assert checked_target(text, SITE) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme.example",
        "//acme.example",
        "/expo",
        "https:acme.example",
        "https:///acme.example",
        "http://",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://acme.example",
        "tel:+971501234567",
        "https://acme.example@evil.example/",
        "https://user:secret@acme.example/",
        "https://:@acme.example/\r\nSet-Cookie: x=1",
        "https://acme.example/\r\nSet-Cookie: x=1",
        "https://acme.example/\0",
        "https://acme.example:99999/",
        "https://acme .example/",
        "https://acme.example/" + "a" * 2_048,
        "https://acme.example/" + "ä" * 400,
        "https://t.me/acme_bot?start=qr_stand-7",
        "https://T.ME/acme_bot?x=1&start=7",
        "https://go.acme.example/l/abc",
        "https://go.acme.example/o/abc.gif",
        "HTTPS://GO.ACME.EXAMPLE/l/abc",
    ],
)
def test_other_targets_are_refused(text):
    with pytest.raises(Refusal) as refused:
        checked_target(text, SITE)
    assert refused.value.field == "target"


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda rest: f"https://acme.example{rest}"))
def test_no_target_injects_a_header_or_leaves_the_web(text):
    try:
        target = checked_target(text, SITE)
    except Refusal:
        return
    assert target.startswith(("http://", "https://"))
    assert target.isascii()
    assert target.isprintable()
    assert "@" not in target.split("/")[2]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "qr", "target": "https://acme.example"}, "qr_id"),
        ({"kind": "qr", "qr_id": " ", "target": "https://acme.example"}, "qr_id"),
        ({"kind": "catalog", "qr_id": "a", "target": "https://acme.example"}, "qr_id"),
        ({"kind": "qr", "qr_id": "a", "title": "T", "target": "https://acme.example"}, "title"),
        ({"kind": "qr", "qr_id": "a"}, "target"),
        (
            {"kind": "qr", "qr_id": "a", "telegram_bot": "acme_bot", "target": "https://acme.example"},
            "target",
        ),
        ({"kind": "qr", "qr_id": "a", "telegram_bot": "acme_bot", "agent_id": "7"}, "agent_id"),
        ({"kind": "qr", "qr_id": "a", "telegram_bot": "acme_bot", "lead_id": "ada"}, "lead_id"),
        ({"kind": "qr", "qr_id": "a", "target": "https://acme.example", "lead_id": "null"}, "lead_id"),
        ({"kind": "qr", "qr_id": "a", "telegram_bot": "no bot"}, "telegram_bot"),
        ({"kind": "qr", "qr_id": "ä" * 23, "telegram_bot": "acme_bot"}, "qr_id"),
        ({"kind": "qr", "qr_id": "a" * 62, "telegram_bot": "acme_bot"}, "qr_id"),
        ({"kind": "qr", "qr_id": "a" * 513, "target": "https://acme.example"}, "qr_id"),
    ],
)
def test_a_definition_that_means_nothing_names_its_field(fields, field):
    with pytest.raises(Refusal) as refused:
        make_link(LinkDefinition(**fields), MAKER)
    assert refused.value.field == field


@pytest.mark.parametrize("lead_id", ["null", "undefined", "0000", "a" * 129, "anon: x\n"])
def test_a_mail_to_nobody_is_refused(lead_id):
    with pytest.raises(Refusal) as refused:
        make_mail(MailDefinition(lead_id=lead_id, targets=[]), MAKER)
    assert refused.value.field == "lead_id"


# Codes that open a chat


def fits_a_chat(kind, subject_id):
    """64 characters of base64url have 48 bytes: `qr:` or `catalog:`, and the id."""
    size = len(f"{kind}:{subject_id}".encode())
    return size <= 48 and subject_id.isprintable() and bool(subject_id.strip())


@given(
    st.sampled_from(["qr", "catalog"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=48),
)
def test_the_bot_reads_what_the_code_says(kind, subject_id):
    name = f"{kind}_id"
    definition = LinkDefinition(kind=kind, telegram_bot="@acme_realty_bot", **{name: subject_id})
    plain = re.fullmatch(r"[A-Za-z0-9_-]+", subject_id) and len(f"{kind}_{subject_id}") <= 64
    if not (plain or fits_a_chat(kind, subject_id)):
        with pytest.raises(Refusal) as refused:
            link_of(definition, "default", SITE)
        assert refused.value.field == name
        return
    address, _, payload = link_of(definition, "default", SITE).target.partition("?start=")
    assert address == "https://t.me/acme_realty_bot"
    message = {
        "chat": {"id": 7, "type": "private"},
        "from": {"id": 7, "first_name": "Ada"},
        "text": f"/start {payload}",
    }
    event = events_of("realty", {"update_id": 1, "message": message}).events[0]
    assert event["type"] == ("qr_scanned" if kind == "qr" else "catalog_viewed")
    assert event[name] == subject_id


def test_a_plain_id_stays_readable_in_the_address():
    definition = LinkDefinition(kind="qr", telegram_bot="acme_realty_bot", qr_id="villa-12_agent-7")
    made = make_link(definition, MAKER)
    assert made.url == "https://t.me/acme_realty_bot?start=qr_villa-12_agent-7"


# Mails


class Hrefs(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.links = []
        self.pictures = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag in {"a", "area"}:
            self.links.append(dict(attrs).get("href"))
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])


def marked(target):
    return f"https://go.acme.example/l/{target.encode().hex()}"


@pytest.mark.parametrize(
    ("html", "replaced"),
    [
        ('<a href="https://a.example/">x</a>', ["https://a.example/"]),
        ("<A CLASS=b HREF='https://a.example/?a=1&amp;b=2'>x</A>", ["https://a.example/?a=1&b=2"]),
        ("<a\n href = https://a.example/x>x</a>", ["https://a.example/x"]),
        ('<area shape="rect" href="http://a.example/">', ["http://a.example/"]),
        ('<a title="1 > 0" href="https://a.example/">x</a>', ["https://a.example/"]),
        ("<a title=\"href='https://no.example'\" href='https://a.example/'>x</a>", ["https://a.example/"]),
        ('<!--[if mso]><a href="https://a.example/">x</a><![endif]-->', ["https://a.example/"]),
        ('<a href="https://a.example/">1</a> ü <a href="https://b.example/">2</a>', ["https://a.example/", "https://b.example/"]),
        ('<a href="mailto:a@b.example">x</a>', []),
        ('<a href="tel:+1">x</a> <a href="#top">x</a> <a href="/rel">x</a> <a>x</a> <a href>x</a>', []),
        ('<a href="https://a.example/{{id}}">x</a> <a href="{{unsubscribe}}">x</a>', []),
        ('<a href="https://a.example/*|UNSUB|*">x</a>', []),
        ('<a data-ls-ignore href="https://a.example/unsubscribe">x</a>', []),
        ('<a data-href="https://a.example/" name=x>x</a>', []),
        ('<abbr href="https://a.example/">x</abbr> <link href="https://a.example/s.css">', []),
        ('<p>https://a.example/</p> <img src="https://a.example/i.png">', []),
        ('<a href="https://a.example/', []),
    ],
)  # fmt: skip
def test_only_the_links_of_a_mail_change(html, replaced):
    targets = []

    def replace(target):
        targets.append(target)
        return marked(target)

    changed = with_links_replaced(html, replace)
    assert targets == replaced
    if not replaced:
        assert changed == html
    elif "<!--" not in html:
        assert Hrefs(changed).links == [marked(target) for target in replaced]


@given(
    st.lists(
        st.sampled_from(["<a ", "href=", '"', "'", ">", "https://a.example/", " ", "<", "é", "&amp;", "<!--"])
    )
)
def test_replacing_each_link_by_itself_leaves_the_text_of_a_mail(parts):
    html = "".join(parts)
    targets = []
    with_links_replaced(html, lambda target: targets.append(target) or target)
    again = []
    with_links_replaced(with_links_replaced(html, lambda target: target), lambda t: again.append(t) or t)
    assert again == targets


def test_a_mail_of_many_broken_tags_takes_linear_time():
    html = "<a '" + '<a href="https://a.example/é">' * 5_000
    assert with_links_replaced(html, lambda _: "https://b.example/").count("https://b.example/") == 5_000


@pytest.mark.parametrize(
    ("html", "before"),
    [
        ("<html><body><p>x</p></body></html>", "</body></html>"),
        ("<html><p>x</p></HTML>", "</HTML>"),
        ("<p>x</p></body>\n", "</body>\n"),
        ("<p>x</p>", ""),
        ("<pre></body></pre><body>x</body></html>", "</body></html>"),
    ],
)
def test_the_picture_is_at_the_end_of_the_body(html, before):
    changed = with_picture_at_end(html, "https://go.acme.example/o/x.gif")
    assert Hrefs(changed).pictures == ["https://go.acme.example/o/x.gif"]
    assert changed.endswith(f'border:0">{before}')


def test_a_mail_keeps_links_of_this_server_and_seals_a_target_once():
    own = make_link(LinkDefinition(kind="qr", qr_id="a", target="https://acme.example"), MAKER).url
    html = f'<a href="{own}">1</a><a href="https://b.example">2</a><a href="https://b.example">3</a>'
    made = make_mail(MailDefinition(lead_id="ada", message_id="<1@x>", html=html), MAKER)
    (address,) = made.links.values()
    assert Hrefs(made.html).links == [own, address, address]
    click = open_link(address.rpartition("/")[2], KEYS)
    assert click == MailClickLink(lead_id="ada", message_id="<1@x>", target="https://b.example/")


@pytest.mark.parametrize("content", [{}, {"html": "", "targets": []}])
def test_a_mail_has_either_html_or_targets(content):
    with pytest.raises(Refusal, match="either html"):
        make_mail(MailDefinition(lead_id="ada", **content), MAKER)


# Pictures of codes


@pytest.mark.parametrize("error", ["l", "m", "q", "h"])
@pytest.mark.parametrize("length", [20, 160, 600])
def test_a_phone_reads_the_code(error, length):
    address = ("https://go.acme.example/l/" + "aB3_-" * 120)[:length]
    assert text_of_svg(qr_svg(address, error).decode()) == address
    png = qr_png(address, error, 512)
    assert text_of_png(png) == address
    width, height = size_of_png(png)
    assert width == height
    assert 300 <= width <= 512


def test_a_png_that_is_too_small_for_its_modules_is_none():
    assert qr_png("https://go.acme.example/l/" + "a" * 160, "m", 64) is None


# The visitor


@pytest.mark.parametrize(
    ("server", "target", "domain"),
    [
        ("https://go.acme.example", "https://www.acme.example/x", "acme.example"),
        ("https://go.acme.co.uk", "https://acme.co.uk/x", "acme.co.uk"),
        ("https://acme.example", "https://acme.example/x", None),
        ("https://go.acme.example", "https://other.example/", None),
        ("https://go.acme.co.uk", "https://other.co.uk/", None),
        ("https://a.github.io", "https://b.github.io/", None),
        ("http://127.0.0.1:8000", "http://127.0.0.1:9000/", None),
        ("http://10.0.0.1", "http://10.0.0.2/", None),
        ("http://localhost:8000", "http://localhost:9000/", None),
        ("http://localhost:8000", "https://acme.example/", None),
    ],
)
def test_the_cookie_is_the_sites_only_where_server_and_target_share_one(server, target, domain):
    assert cookie_domain(server, target) == domain


def test_a_repetition_within_ten_seconds_has_the_time_of_the_first_request():
    recent = RecentRequests()
    assert [recent.first_at(b"a", at) for at in (9_999, 10_001, 19_998, 19_999, 29_998)] == [
        9_999, 9_999, 9_999, 19_999, 19_999,
    ]  # fmt: skip
    assert recent.first_at(b"b", 29_998) == 29_998


def test_requests_are_remembered_in_bounded_room():
    recent = RecentRequests()
    for number in range(MOST_REMEMBERED + 5):
        recent.first_at(str(number).encode(), 0)
    assert len(recent._since) == MOST_REMEMBERED
    recent.first_at(b"later", REPETITION_MS)
    assert len(recent._since) == 1


def test_a_link_is_shown_by_the_names_of_its_definition():
    assert fields_of_link(EXPO) == {
        "target": "https://acme.example/expo",
        "qr_id": "stand-7",
        "place": "Hall 3",
        "agent_id": "agent-7",
    }
